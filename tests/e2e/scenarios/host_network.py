"""--network=host: what a guest is told of interfaces, addresses, routes and sockets is the host's."""

import json
import os
import re
import socket
import subprocess

from framework import check, contains, equal, scenario

LOOK = r"""
import ctypes, fcntl, json, os, socket, struct
out = {"names": socket.if_nameindex()}
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
def ask(command, name, n=40):
    try: return fcntl.ioctl(s, command, struct.pack("16s24x", name.encode()))[16:n].hex()
    except OSError as e: return e.errno
out["ioctl"] = {name: [ask(c, name) for c in (0x8913, 0x8915, 0x891b, 0x8921, 0x8927, 0x8933)] for _, name in out["names"]}
out["unknown"] = ask(0x8913, "absent0")
buffer = ctypes.create_string_buffer(4096)
conf = fcntl.ioctl(s, 0x8912, struct.pack("iP", len(buffer), ctypes.addressof(buffer)))
length = struct.unpack("iP", conf)[0]
out["ifconf"] = sorted(buffer.raw[i:i + 16].rstrip(b"\0").decode() for i in range(0, length, 40))

def dump(kind, family):
    n = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    n.send(struct.pack("IHHIIB3xiII", 32, kind, 0x301, 1, 0, family, 0, 0, 0))
    answers = []
    while True:
        data = n.recv(65536)
        while data:
            size, what = struct.unpack_from("IH", data)
            if what == 3: return len(answers)
            if what == 2: return -struct.unpack_from("i", data, 16)[0]
            answers.append(data[:size]); data = data[(size + 3) & ~3:]
out["netlink"] = {str(kind): dump(kind, 0) for kind in (18, 22, 26)}
out["proc"] = {name: open("/proc/net/" + name).read() for name in ("dev", "route", "if_inet6", "tcp", "udp")}
root = "/sys/class/net/"
fields = ("address", "broadcast", "addr_len", "flags", "ifindex", "iflink", "mtu", "operstate", "tx_queue_len", "type")
def read(path):
    with open(path) as f: return f.read()
out["sys"] = {name: [read(root + name + "/" + field) for field in fields] for name in sorted(os.listdir(root))
              if os.path.isdir(root + name)}
out["counted"] = int(read(root + "lo/statistics/rx_bytes")) >= 0
print(json.dumps(out))
"""


def strip_counters(text):
    """The names and what does not change from moment to moment."""
    return [line.split(":")[0].strip() for line in text.splitlines()[2:]]


@scenario(ours_only="--network=host")
def interfaces_addresses_and_routes_are_those_of_the_host(t):
    listener = socket.create_server(("127.0.0.1", 0))
    t.closing.append(listener.close)
    port = "0100007F:%04X" % listener.getsockname()[1]
    for _ in range(5):
        guest = json.loads(t.run(["/usr/bin/python3", "-c", LOOK], root="debian", flags=("--network=host",)).ok().out)
        host = json.loads(subprocess.run(["python3", "-c", LOOK], capture_output=True, text=True, check=True).stdout)
        if guest["netlink"] == host["netlink"]:
            break  # others on this host make and remove interfaces
    for key in ("names", "ioctl", "unknown", "ifconf", "netlink", "sys", "counted"):
        equal(guest[key], host[key], f"{key} (netlink: {guest['netlink']}, {host['netlink']})")
    equal(strip_counters(guest["proc"]["dev"]), strip_counters(host["proc"]["dev"]), "/proc/net/dev")
    for name in ("route", "if_inet6"):
        equal(guest["proc"][name], host["proc"][name], f"/proc/net/{name}")
    contains(guest["proc"]["tcp"], port, "/proc/net/tcp")


# Runs in a sandbox only. It tries to set what is set already, so that a sandbox which let it through would do no harm.
CHANGE = r"""
import errno, fcntl, socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
flags = fcntl.ioctl(s, 0x8913, struct.pack("16s24x", b"lo"))
try: fcntl.ioctl(s, 0x8914, flags); print("changed")
except OSError as e: print(errno.errorcode[e.errno])
n = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
n.send(struct.pack("IHHIIBxHiII", 32, 16, 5, 1, 0, 0, 0, 1, 0, 0))  # RTM_NEWLINK for lo that changes nothing
print(-struct.unpack_from("i", n.recv(4096), 16)[0])
"""


@scenario(ours_only="--network=host")
def a_guest_cannot_change_the_interfaces_of_the_host(t):
    result = t.run(["/usr/bin/python3", "-c", CHANGE], root="debian", flags=("--network=host",)).ok()
    equal(result.out.split(), ["EPERM", "1"])


@scenario(ours_only="--network=none")
def without_it_there_is_only_the_loopback(t):
    guest = json.loads(t.run(["/usr/bin/python3", "-c", LOOK], root="debian", flags=("--network=none",)).ok().out)
    equal([name for _, name in guest["names"]], ["lo"])
    equal(guest["ifconf"], ["lo"])
    equal(strip_counters(guest["proc"]["dev"]), ["lo"])


@scenario(ours_only="--network=host")
def busybox_tools_show_the_hosts_network(t):
    root = t.root("busybox")
    tool = os.path.join(root.path, "bin/busybox")
    for command in ("ip link", "ip -4 addr", "ip route", "route -n", "ifconfig"):
        words = command.split()
        guest = t.run(["/bin/" + words[0], *words[1:]], root=root, flags=("--network=host",)).ok().out
        host = subprocess.run([tool, *words], capture_output=True, text=True, check=True).stdout
        # Counters move.
        plain = lambda text: re.sub(r"(RX|TX|Interrupt|collisions).*", "", text)
        equal(plain(guest), plain(host), command)


@scenario(ours_only="--network=host")
def a_port_below_1024_is_bound_for_who_has_the_capability(t):
    bind = ("import socket; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
            "s.bind(('127.0.0.77', 999)); s.listen(); print(s.getsockname()[1])")

    def run(capabilities):
        def edit(spec):
            spec["process"]["capabilities"] = {name: capabilities for name in ("bounding", "effective", "permitted")}
        return t.run(["/usr/bin/python3", "-c", bind], root="debian", flags=("--network=host",), edit=edit)
    equal(run(["CAP_NET_BIND_SERVICE"]).ok().out, "999\n")
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as f:
        if int(f.read()) > 999:
            contains(run([]).err, "PermissionError", "stderr without the capability")

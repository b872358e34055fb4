#include "sentry/fs/proc/net.h"

#include <map>

namespace sentry::proc {

namespace {

// Filled by boot, read-only afterwards.
std::map<std::string, NetGenerator>& Generators() {
  static auto* generators = new std::map<std::string, NetGenerator>;
  return *generators;
}

struct Fixed {
  const char* name;
  const char* text;
};
// What a network namespace with only a loopback device shows.
constexpr Fixed kFixed[] = {
    {"dev",
     "Inter-|   Receive                                                |  Transmit\n"
     " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n"
     "    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n"},
    {"route", "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT                                                       \n"},
    {"if_inet6", "00000000000000000000000000000001 01 80 10 80       lo\n"},
    {"arp", "IP address       HW type     Flags       HW address            Mask     Device\n"},
    {"raw", "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n"},
    {"packet", "sk       RefCnt Type Proto  Iface R Rmem   User   Inode\n"},
    {"protocols", "protocol  size sockets  memory press maxhdr  slab module     cl co di ac io in de sh ss gs se re sp bi br ha uh gp em\n"},
};

}  // namespace

void SetNetFile(std::string name, NetGenerator generate) { Generators()[std::move(name)] = std::move(generate); }

RefPtr<Inode> NewNetDir(RefPtr<ProcSuperblock> sb, RefPtr<Task> task) {
  RefPtr<kernfs::StaticDir> dir = base::MakeRef<kernfs::StaticDir>(sb, 0555);
  for (const auto& [name, generate] : Generators()) {
    dir->Add(name, kernfs::NewText(sb, [task, g = &generate] { return (*g)(task->SnapshotNet().get()); }));
  }
  for (const Fixed& f : kFixed) dir->Add(f.name, kernfs::NewText(sb, std::string(f.text)));
  return dir;
}

}  // namespace sentry::proc

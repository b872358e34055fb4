// class/net (Documentation/ABI/testing/sysfs-class-net).
#include <net/if.h>
#include <net/if_arp.h>

#include <utility>

#include "sentry/fs/sys/sys.h"
#include "sentry/fs/sys/tree.h"

namespace sentry::sys {
namespace {

NetDevice Loopback() {
  NetDevice lo;
  lo.name = "lo";
  lo.index = lo.link = 1;
  lo.flags = IFF_UP | IFF_LOOPBACK;
  lo.type = ARPHRD_LOOPBACK;
  lo.mtu = 65536;
  lo.queue_length = 1000;
  lo.address = lo.broadcast = std::string(6, '\0');
  return lo;
}

// Set at boot, before the first mount.
std::function<std::vector<NetDevice>()>& Source() {
  static auto* source = new std::function<std::vector<NetDevice>()>([] { return std::vector{Loopback()}; });
  return *source;
}

std::string Hex(uint32_t value) {
  char text[16];
  snprintf(text, sizeof(text), "0x%x", value);
  return text;
}

std::string LinkAddress(const std::string& bytes) {
  std::string text;
  for (const char c : bytes) {
    char digits[4];
    snprintf(digits, sizeof(digits), text.empty() ? "%02x" : ":%02x", static_cast<unsigned char>(c));
    text += digits;
  }
  return text;
}

// net/core/net-sysfs.c: operstates.
std::string StateName(uint8_t state) {
  constexpr const char* kNames[] = {"unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up"};
  return state < std::size(kNames) ? kNames[state] : "unknown";
}

struct Attribute {
  const char* name;
  std::string (*text)(const NetDevice&);
  uint32_t permissions = 0444;
};

template <const char* kText>
std::string Always(const NetDevice&) {
  return kText;
}
constexpr char kZero[] = "0", kNothing[] = "", kZeroHex[] = "0x0";

// dev_addr_len and flags leave out what is the kernel's own (dev_get_flags).
constexpr Attribute kAttributes[] = {
    {"addr_assign_type", &Always<kZero>},
    {"addr_len", [](const NetDevice& d) { return std::to_string(d.address.size()); }},
    {"address", [](const NetDevice& d) { return LinkAddress(d.address); }},
    {"broadcast", [](const NetDevice& d) { return LinkAddress(d.broadcast); }},
    {"carrier", [](const NetDevice& d) { return std::to_string(d.carrier); }, 0644},
    {"carrier_changes", &Always<kZero>},
    {"carrier_down_count", &Always<kZero>},
    {"carrier_up_count", &Always<kZero>},
    {"dev_id", &Always<kZeroHex>},
    {"dev_port", &Always<kZero>},
    {"dormant", &Always<kZero>},
    {"flags",
     [](const NetDevice& d) { return Hex(d.flags & 0xffff & ~(uint32_t{IFF_RUNNING} | uint32_t{IFF_PROMISC})); }, 0644},
    {"ifalias", &Always<kNothing>, 0644},
    {"ifindex", [](const NetDevice& d) { return std::to_string(d.index); }},
    {"iflink", [](const NetDevice& d) { return std::to_string(d.link); }},
    {"link_mode", &Always<kZero>},
    {"mtu", [](const NetDevice& d) { return std::to_string(d.mtu); }, 0644},
    {"netdev_group", &Always<kZero>},
    {"operstate", [](const NetDevice& d) { return StateName(d.state); }},
    {"proto_down", &Always<kZero>, 0644},
    {"testing", &Always<kZero>},
    {"tx_queue_len", [](const NetDevice& d) { return std::to_string(d.queue_length); }, 0644},
    {"type", [](const NetDevice& d) { return std::to_string(d.type); }},
};

constexpr std::pair<const char*, __u64 rtnl_link_stats64::*> kStatistics[] = {
    {"collisions", &rtnl_link_stats64::collisions},
    {"multicast", &rtnl_link_stats64::multicast},
    {"rx_bytes", &rtnl_link_stats64::rx_bytes},
    {"rx_compressed", &rtnl_link_stats64::rx_compressed},
    {"rx_crc_errors", &rtnl_link_stats64::rx_crc_errors},
    {"rx_dropped", &rtnl_link_stats64::rx_dropped},
    {"rx_errors", &rtnl_link_stats64::rx_errors},
    {"rx_fifo_errors", &rtnl_link_stats64::rx_fifo_errors},
    {"rx_frame_errors", &rtnl_link_stats64::rx_frame_errors},
    {"rx_length_errors", &rtnl_link_stats64::rx_length_errors},
    {"rx_missed_errors", &rtnl_link_stats64::rx_missed_errors},
    {"rx_nohandler", &rtnl_link_stats64::rx_nohandler},
    {"rx_over_errors", &rtnl_link_stats64::rx_over_errors},
    {"rx_packets", &rtnl_link_stats64::rx_packets},
    {"tx_aborted_errors", &rtnl_link_stats64::tx_aborted_errors},
    {"tx_bytes", &rtnl_link_stats64::tx_bytes},
    {"tx_carrier_errors", &rtnl_link_stats64::tx_carrier_errors},
    {"tx_compressed", &rtnl_link_stats64::tx_compressed},
    {"tx_dropped", &rtnl_link_stats64::tx_dropped},
    {"tx_errors", &rtnl_link_stats64::tx_errors},
    {"tx_fifo_errors", &rtnl_link_stats64::tx_fifo_errors},
    {"tx_heartbeat_errors", &rtnl_link_stats64::tx_heartbeat_errors},
    {"tx_packets", &rtnl_link_stats64::tx_packets},
    {"tx_window_errors", &rtnl_link_stats64::tx_window_errors},
};

// A line about a device as it is when the file is read; empty if it has gone.
void AddLineOf(StaticDir& dir, const std::string& device, const char* name, uint32_t permissions,
               std::function<std::string(const NetDevice&)> text) {
  dir.Add(name, kernfs::NewText(
                    dir.kern_ref(),
                    [device, text = std::move(text)]() -> std::string {
                      for (const NetDevice& d : Source()()) {
                        if (d.name == device) return text(d) + "\n";
                      }
                      return "";
                    },
                    permissions));
}

void AddDevice(StaticDir& devices, StaticDir& class_net, const NetDevice& d) {
  RefPtr<StaticDir> dir = devices.Subdir(d.name);
  for (const Attribute& a : kAttributes) AddLineOf(*dir, d.name, a.name, a.permissions, a.text);
  // A loopback has neither (net/core/net-sysfs.c: speed_show, duplex_show). Differs from Linux: others neither.
  for (const char* name : {"speed", "duplex"})
    dir->Add(name, base::MakeRef<kernfs::TextOpsFile>(dir->kern_ref(), 0444, kernfs::TextOps{}));
  dir->Add("uevent", kernfs::NewText(dir->kern_ref(),
                                     "INTERFACE=" + d.name + "\nIFINDEX=" + std::to_string(d.index) + "\n", 0644));
  dir->Add("subsystem", kernfs::NewLink(dir->kern_ref(), "../../../../class/net"));
  RefPtr<StaticDir> statistics = dir->Subdir("statistics");
  for (const auto& [name, member] : kStatistics) {
    AddLineOf(*statistics, d.name, name, 0444,
              [member = member](const NetDevice& now) { return std::to_string(now.statistics.*member); });
  }
  RefPtr<StaticDir> queues = dir->Subdir("queues");
  queues->Subdir("rx-0");
  queues->Subdir("tx-0");
  class_net.Add(d.name, kernfs::NewLink(class_net.kern_ref(), "../../devices/virtual/net/" + d.name));
}

}  // namespace

void SetNetDevices(std::function<std::vector<NetDevice>()> source) { Source() = std::move(source); }

void AddNetDevices(StaticDir& virtual_devices, StaticDir& class_net) {
  RefPtr<StaticDir> devices = virtual_devices.Subdir("net");
  for (const NetDevice& d : Source()()) {
    // A name of a directory entry; the host's kernel makes no others (dev_valid_name).
    if (!d.name.empty() && d.name != "." && d.name != ".." && d.name.find('/') == std::string::npos) {
      AddDevice(*devices, class_net, d);
    }
  }
}

}  // namespace sentry::sys

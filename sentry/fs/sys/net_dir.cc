// class/net (Documentation/ABI/testing/sysfs-class-net).
#include "sentry/fs/sys/tree.h"

namespace sentry::sys {

void AddNetDevices(StaticDir& virtual_devices, StaticDir& class_net) {
  RefPtr<StaticDir> lo = virtual_devices.Subdir("net")->Subdir("lo");
  struct Attribute {
    const char* name;
    const char* value;
    uint32_t permissions = 0444;
  };
  constexpr Attribute kLo[] = {
      {"addr_assign_type", "0"},
      {"addr_len", "6"},
      {"address", "00:00:00:00:00:00"},
      {"broadcast", "00:00:00:00:00:00"},
      {"carrier", "1", 0644},
      {"carrier_changes", "0"},
      {"carrier_down_count", "0"},
      {"carrier_up_count", "0"},
      {"dev_id", "0x0"},
      {"dev_port", "0"},
      {"dormant", "0"},
      {"flags", "0x9", 0644},
      {"ifalias", "", 0644},
      {"ifindex", "1"},
      {"iflink", "1"},
      {"link_mode", "0"},
      {"mtu", "65536", 0644},
      {"netdev_group", "0"},
      {"operstate", "unknown"},
      {"proto_down", "0", 0644},
      {"testing", "0"},
      {"tx_queue_len", "1000", 0644},
      {"type", "772"},
  };
  for (const Attribute& a : kLo) AddLine(*lo, a.name, a.value, a.permissions);
  // A loopback has neither (net/core/net-sysfs.c: speed_show, duplex_show).
  for (const char* name : {"speed", "duplex"})
    lo->Add(name, base::MakeRef<kernfs::TextOpsFile>(lo->kern_ref(), 0444, kernfs::TextOps{}));
  lo->Add("uevent", kernfs::NewText(lo->kern_ref(), std::string("INTERFACE=lo\nIFINDEX=1\n"), 0644));
  lo->Add("subsystem", kernfs::NewLink(lo->kern_ref(), "../../../../class/net"));
  RefPtr<StaticDir> statistics = lo->Subdir("statistics");
  for (const char* name :
       {"collisions",       "multicast",           "rx_bytes",       "rx_compressed",   "rx_crc_errors",
        "rx_dropped",       "rx_errors",           "rx_fifo_errors", "rx_frame_errors", "rx_length_errors",
        "rx_missed_errors", "rx_nohandler",        "rx_over_errors", "rx_packets",      "tx_aborted_errors",
        "tx_bytes",         "tx_carrier_errors",   "tx_compressed",  "tx_dropped",      "tx_errors",
        "tx_fifo_errors",   "tx_heartbeat_errors", "tx_packets",     "tx_window_errors"}) {
    AddLine(*statistics, name, "0");
  }
  RefPtr<StaticDir> queues = lo->Subdir("queues");
  queues->Subdir("rx-0");
  queues->Subdir("tx-0");
  class_net.Add("lo", kernfs::NewLink(class_net.kern_ref(), "../../devices/virtual/net/lo"));
}

}  // namespace sentry::sys

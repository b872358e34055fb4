#include "sentry/fs/sys/sys.h"

#include "sentry/fs/sys/tree.h"

namespace sentry::sys {

namespace {

constexpr int64_t kSysfsMagic = 0x62656572;

// Subsystems that programs list; without a device in any of them.
constexpr const char* kClasses[] = {"bdi",     "block", "dma",      "graphics",     "hwmon", "input",
                                    "mem",     "misc",  "powercap", "power_supply", "rtc",   "scsi_host",
                                    "thermal", "tty",   "vc",       "vtconsole"};
constexpr const char* kBuses[] = {"clocksource", "container", "cpu",  "event_source", "memory",   "node",
                                  "pci",         "platform",  "scsi", "usb",          "workqueue"};

class SysSuperblock final : public kernfs::KernSuperblock {
 public:
  SysSuperblock() : KernSuperblock("sysfs", kSysfsMagic, /*revalidate=*/false) {}
  int64_t TextSize() const override { return kPageSize; }  // of an attribute, whatever it says
};

struct MemDevice {
  const char* name;
  int minor;
};
constexpr MemDevice kMemDevices[] = {{"null", 3}, {"zero", 5}, {"full", 7}, {"random", 8}, {"urandom", 9}};

// The character devices that dev/ has: devices/virtual/mem, and the names that lead there.
void AddMemDevices(StaticDir& virtual_devices, StaticDir& class_mem, StaticDir& dev_char) {
  RefPtr<StaticDir> mem = virtual_devices.Subdir("mem");
  for (const MemDevice& d : kMemDevices) {
    RefPtr<StaticDir> dir = mem->Subdir(d.name);
    const std::string number = "1:" + std::to_string(d.minor);
    AddLine(*dir, "dev", number);
    dir->Add("uevent",
             kernfs::NewText(dir->kern_ref(),
                             "MAJOR=1\nMINOR=" + std::to_string(d.minor) + "\nDEVNAME=" + d.name + "\nDEVMODE=0666\n",
                             0644));
    dir->Add("subsystem", kernfs::NewLink(dir->kern_ref(), "../../../../class/mem"));
    class_mem.Add(d.name, kernfs::NewLink(dir->kern_ref(), std::string("../../devices/virtual/mem/") + d.name));
    dev_char.Add(number, kernfs::NewLink(dir->kern_ref(), std::string("../../devices/virtual/mem/") + d.name));
  }
}

void Build(StaticDir& root, Kernel& kernel) {
  root.Subdir("block");
  RefPtr<StaticDir> bus = root.Subdir("bus");
  for (const char* name : kBuses) {
    bus->Subdir(name)->Subdir("devices");
    bus->Subdir(name)->Subdir("drivers");
  }
  RefPtr<StaticDir> classes = root.Subdir("class");
  for (const char* name : kClasses) classes->Subdir(name);
  RefPtr<StaticDir> dev = root.Subdir("dev");
  dev->Subdir("block");
  RefPtr<StaticDir> devices = root.Subdir("devices");
  RefPtr<StaticDir> system = devices->Subdir("system");
  RefPtr<StaticDir> virtual_devices = devices->Subdir("virtual");
  AddCpus(*system, kernel);
  AddNodes(*system, kernel);
  RefPtr<StaticDir> clocksource = system->Subdir("clocksource")->Subdir("clocksource0");
  AddLine(*clocksource, "available_clocksource", "tsc");
  AddLine(*clocksource, "current_clocksource", "tsc", 0644);
  AddNetDevices(*virtual_devices, *classes->Subdir("net"));
  AddMemDevices(*virtual_devices, *classes->Subdir("mem"), *dev->Subdir("char"));
  root.Subdir("firmware");
  RefPtr<StaticDir> fs = root.Subdir("fs");
  for (const char* mount_point : {"bpf", "cgroup", "pstore"}) fs->Subdir(mount_point);
  AddKernel(*root.Subdir("kernel"));
  root.Subdir("module");
  RefPtr<StaticDir> power = root.Subdir("power");
  AddLine(*power, "state", "", 0644);
}

}  // namespace

Result<vfs::NewMount> Create(Kernel& kernel) {
  auto sb = base::MakeRef<SysSuperblock>();
  // Most containers never look.
  auto root = base::MakeRef<kernfs::LazyDir>(
      sb, [&kernel](StaticDir& dir) { Build(dir, kernel); }, 0755);
  return vfs::NewMount{sb, Dentry::MakeRoot(root)};
}

void Register(Kernel& kernel) {
  vfs::FileSystemType type;
  type.name = "sysfs";
  type.mount = [&kernel](VfsContext&, const vfs::MountRequest&) { return Create(kernel); };
  vfs::RegisterFileSystem(std::move(type));
}

}  // namespace sentry::sys

#include "sentry/fs/dev/dev.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "sentry/fs/dev/mem_device.h"
#include "sentry/fs/tmpfs/tmpfs.h"

namespace sentry::dev {
namespace {

struct Node {
  std::string_view name;
  uint32_t major, minor, mode;
};
constexpr Node kNodes[] = {
    {"null", 1, 3, 0666},    {"zero", 1, 5, 0666}, {"full", 1, 7, 0666},    {"random", 1, 8, 0666},
    {"urandom", 1, 9, 0666}, {"tty", 5, 0, 0666},  {"console", 5, 1, 0620},
};

struct Link {
  std::string_view name, target;
};
constexpr Link kLinks[] = {
    {"fd", "/proc/self/fd"},       {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"},
    {"stderr", "/proc/self/fd/2"}, {"core", "/proc/kcore"},      {"ptmx", "pts/ptmx"},
};

template <typename T>
Result<void> UnlessExists(const Result<T>& result) {
  if (!result.ok() && !result.failed_with(EEXIST)) return result.error();
  return {};
}

bool Exists(Inode& root, std::string_view name) { return root.Lookup(name).ok(); }

}  // namespace

void RegisterMemDevices(platform::MemoryFile& memory) {
  for (MemDevice device :
       {MemDevice::kNull, MemDevice::kZero, MemDevice::kFull, MemDevice::kRandom, MemDevice::kUrandom}) {
    vfs::RegisterDevice(
        FileType::kCharDevice, 1, static_cast<int64_t>(device),
        [device, &memory](const VfsPath& path, uint32_t flags, VfsContext&) -> Result<RefPtr<FileDescription>> {
          return RefPtr<FileDescription>(TRY(base::TryMakeRef<MemDeviceFile>(path, flags, device, memory)));
        });
  }
}

Result<void> Populate(Inode& root) {
  base::WriterLock lock(root.dir_lock);
  for (const Node& node : kNodes) {
    if (Exists(root, node.name)) continue;
    NewNode request;
    request.mode = S_IFCHR | node.mode;
    request.rdev = makedev(node.major, node.minor);
    if (node.name == "tty" || node.name == "console") request.gid = 5;  // "tty"
    TRY(UnlessExists(root.Mknod(node.name, request)));
  }
  for (const Link& link : kLinks) {
    if (Exists(root, link.name)) continue;
    NewNode request;
    request.mode = 0777;
    TRY(UnlessExists(root.Symlink(link.name, link.target, request)));
  }
  for (std::string_view name : {"pts", "shm"}) {
    if (Exists(root, name)) continue;
    NewNode request;
    request.mode = name == "shm" ? 01777 : 0755;
    TRY(UnlessExists(root.Mkdir(name, request)));
  }
  return {};
}

void RegisterDevtmpfs(platform::MemoryFile& memory) {
  vfs::FileSystemType type;
  type.name = "devtmpfs";
  type.mount = [&memory](VfsContext&, const vfs::MountRequest& request) -> Result<vfs::NewMount> {
    tmpfs::Options defaults;
    defaults.mode = 0755;
    defaults.size = 1 << 20;
    defaults.inodes = 4096;
    vfs::NewMount mount = TRY(tmpfs::Create(memory, TRY(tmpfs::ParseOptions(request.options, defaults, 0))));
    TRY(Populate(*mount.root->inode()));
    return mount;
  };
  vfs::RegisterFileSystem(std::move(type));
}

}  // namespace sentry::dev

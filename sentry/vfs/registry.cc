// Tables that sentry/boot fills before the first mount, and that are only read afterwards.
#include <sys/sysmacros.h>

#include <map>

#include "base/time.h"
#include "sentry/vfs/special.h"
#include "sentry/vfs/vfs.h"

namespace sentry::vfs {
namespace {

struct Registry {
  std::vector<std::unique_ptr<FileSystemType>> file_systems;
  std::map<std::tuple<FileType, uint32_t, int64_t>, SpecialOpen> devices;
  SpecialOpen fifo, host_fifo;
  std::function<FileTimeNs()> clock;
};

Registry& Tables() {
  static Registry* registry = new Registry;
  return *registry;
}

}  // namespace

void RegisterFileSystem(FileSystemType type) {
  for (auto& t : Tables().file_systems) {
    if (t->name == type.name) {
      *t = std::move(type);
      return;
    }
  }
  Tables().file_systems.push_back(std::make_unique<FileSystemType>(std::move(type)));
}

const FileSystemType* FindFileSystem(std::string_view name) {
  for (const auto& t : Tables().file_systems) {
    if (t->name == name) return t.get();
  }
  return nullptr;
}

std::vector<const FileSystemType*> FileSystems() {
  std::vector<const FileSystemType*> all;
  for (const auto& t : Tables().file_systems) all.push_back(t.get());
  return all;
}

void RegisterDevice(FileType type, uint32_t major, int64_t minor, SpecialOpen open) {
  Tables().devices[{type, major, minor}] = std::move(open);
}

void RegisterFifo(SpecialOpen open) { Tables().fifo = std::move(open); }
void RegisterHostFifo(SpecialOpen open) { Tables().host_fifo = std::move(open); }

Result<RefPtr<FileDescription>> OpenSpecial(const VfsPath& path, uint32_t flags, VfsContext& ctx) {
  Inode& inode = *path.dentry->inode_ptr();
  switch (inode.type()) {
    case FileType::kFifo:
      if (Tables().host_fifo && inode.IsHostFifo()) return Tables().host_fifo(path, flags, ctx);
      if (!Tables().fifo) return Errno(ENXIO);
      return Tables().fifo(path, flags, ctx);
    case FileType::kCharDevice:
    case FileType::kBlockDevice: {
      uint64_t rdev = TRY(inode.GetOwnership()).rdev;
      for (int64_t number : {static_cast<int64_t>(minor(rdev)), int64_t{-1}}) {
        auto it = Tables().devices.find({inode.type(), major(rdev), number});
        if (it != Tables().devices.end()) return it->second(path, flags, ctx);
      }
      return Errno(ENXIO);
    }
    default:
      return Errno(ENXIO);
  }
}

void SetFileClock(std::function<FileTimeNs()> clock) { Tables().clock = std::move(clock); }

FileTimeNs FileNow() { return Tables().clock ? Tables().clock() : base::HostClockNs(CLOCK_REALTIME); }

}  // namespace sentry::vfs

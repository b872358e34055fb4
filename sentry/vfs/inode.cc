#include "sentry/vfs/inode.h"

#include <sys/sysmacros.h>

#include "sentry/vfs/file_locks.h"
#include "sentry/vfs/inotify.h"
#include "sentry/vfs/path.h"
#include "sentry/vfs/permission.h"

namespace sentry {

uint64_t AllocateAnonymousDev() {
  // Minors have 20 bits in the kernel's dev_t; ours may have more, which stat can show as well.
  static std::atomic<uint32_t> next{1};
  return makedev(0, next.fetch_add(1, std::memory_order_relaxed));
}

uint64_t AllocateNamespaceNumber() {
  static std::atomic<uint64_t> next{0xF0000001};
  return next.fetch_add(1, std::memory_order_relaxed);
}

Superblock::Superblock() : dev_(AllocateAnonymousDev()) {}
Superblock::~Superblock() = default;

Inode::Inode(RefPtr<Superblock> superblock, uint64_t ino, FileType type)
    : superblock_(std::move(superblock)), ino_(ino), type_(type) {}

Inode::~Inode() {
  delete locks_.load(std::memory_order_acquire);
  if (InotifyWatches* watches = watches_.load(std::memory_order_acquire)) {
    watches->InodeGone();
    delete watches;
  }
}

Result<void> Inode::CheckAccess(const Credentials& creds, int may) {
  Attr attr = TRY(GetOwnership());
  return GenericPermission(creds, attr.mode, attr.uid, attr.gid, may);
}

Result<std::vector<RefPtr<Inode>>> Inode::LookupMany(std::span<const std::string_view> names) {
  std::vector<RefPtr<Inode>> found;
  found.push_back(TRY(Lookup(names[0])));
  return found;
}

Result<VfsPath> Inode::FollowMagicLink(VfsContext& ctx) { return Errno(EINVAL); }

FileLocks& Inode::locks() {
  FileLocks* locks = locks_.load(std::memory_order_acquire);
  if (locks == nullptr) {
    auto* fresh = new FileLocks;
    if (locks_.compare_exchange_strong(locks, fresh, std::memory_order_acq_rel)) return *fresh;
    delete fresh;
  }
  return *locks;
}

InotifyWatches& Inode::watches() {
  InotifyWatches* watches = watches_.load(std::memory_order_acquire);
  if (watches == nullptr) {
    auto* fresh = new InotifyWatches;
    if (watches_.compare_exchange_strong(watches, fresh, std::memory_order_acq_rel)) return *fresh;
    delete fresh;
  }
  return *watches;
}

Result<RefPtr<Inode>> Inode::BindSocket(std::string_view name, const NewNode& node, int type, base::UniqueFd& host) {
  return Mknod(name, node);
}

Result<void> Inode::GetWriteAccess() {
  int n = write_count.load(std::memory_order_relaxed);
  do {
    if (n < 0) return Errno(ETXTBSY);
  } while (!write_count.compare_exchange_weak(n, n + 1, std::memory_order_acq_rel));
  return {};
}

void Inode::PutWriteAccess() { write_count.fetch_sub(1, std::memory_order_acq_rel); }

Result<void> Inode::DenyWriteAccess() {
  int n = write_count.load(std::memory_order_relaxed);
  do {
    if (n > 0) return Errno(ETXTBSY);
  } while (!write_count.compare_exchange_weak(n, n - 1, std::memory_order_acq_rel));
  return {};
}

void Inode::AllowWriteAccess() { write_count.fetch_add(1, std::memory_order_acq_rel); }

}  // namespace sentry

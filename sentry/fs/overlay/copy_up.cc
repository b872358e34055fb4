#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "sentry/fs/overlay/inode.h"

namespace sentry::overlay {
namespace {

// Opens an inode of a layer for the sentry's own use.
Result<RefPtr<FileDescription>> OpenLayer(Inode& inode, uint32_t flags) {
  VfsContext ctx;
  VfsPath path{nullptr, Dentry::MakeAnonymous(RefPtr<Inode>(&inode), "overlay")};
  return inode.Open(path, flags, ctx);
}

}  // namespace

Result<void> OverlayInode::CopyUp(int64_t max_bytes) {
  if (upper() != nullptr) return {};
  // From the top down, without recursion: the lower tree's depth is not ours to choose.
  std::vector<OverlayInode*> chain{this};
  while (chain.back()->place_.parent && chain.back()->place_.parent->upper() == nullptr) {
    chain.push_back(chain.back()->place_.parent.get());
  }
  for (auto it = chain.rbegin(); it != chain.rend(); ++it) TRY((*it)->CopyUpOne(*it == this ? max_bytes : INT64_MAX));
  return {};
}

Result<void> OverlayInode::CopyUpOne(int64_t max_bytes) {
  base::FiberMutexLock lock(copy_up_lock_);
  if (upper() != nullptr) return {};
  Attr attr = TRY(lower_->GetAttr());
  Inode& dir = *place_.parent->upper();
  NewNode node{.mode = attr.mode & 07777, .uid = attr.uid, .gid = attr.gid, .rdev = attr.rdev};
  RefPtr<Inode> made;
  if (type() == FileType::kRegular) made = TRY(CopyRegular(attr, max_bytes, dir));
  {
    base::WriterLock l(dir.dir_lock);
    bool removed = removed_.load(std::memory_order_acquire);
    // Nothing that only lives on in descriptors can be made without a name, but files.
    if (removed && !made) return Errno(ENOENT);
    const std::string& name = place_.name;
    switch (type()) {
      case FileType::kRegular:
        sb().Claim(*made, *this);
        if (!removed) TRY(dir.Link(name, *made));
        break;
      case FileType::kDirectory:
        made = TRY(dir.Mkdir(name, node));
        break;
      case FileType::kSymlink:
        made = TRY(dir.Symlink(name, TRY(lower_->ReadLink()), node));
        break;
      default:
        node.mode |= static_cast<uint32_t>(type());
        made = TRY(dir.Mknod(name, node));
        break;
    }
    if (type() != FileType::kRegular) {
      Result<void> copied = CopyAttributes(attr, *made);
      if (!copied.ok()) {
        (void)(is_dir() ? dir.Rmdir(name, *made) : dir.Unlink(name, *made));
        return copied;
      }
    }
  }
  sb().Claim(*made, *this);
  upper_.store(made.release(), std::memory_order_release);
  return {};
}

Result<void> OverlayInode::CopyAttributes(const Attr& attr, Inode& to) {
  Result<std::vector<std::string>> names = lower_->ListXattr();
  if (names.ok()) {
    for (const std::string& name : *names) {
      if (name.compare(0, kXattrPrefix.size(), kXattrPrefix) == 0) continue;
      Result<std::string> value = lower_->GetXattr(name);
      if (!value.ok()) continue;
      Result<void> set = to.SetXattr(name, *value, 0);
      // What the upper layer cannot hold at all is left behind, as on Linux.
      if (!set.ok() && !set.failed_with(EOPNOTSUPP)) return set;
    }
  }
  if (!is_dir()) TRY(to.SetXattr(kOriginXattr, std::to_string(ino()), 0));
  // Writing the contents took set-id bits away.
  AttrChange change{.atime = attr.atime, .mtime = attr.mtime};
  if (type() == FileType::kRegular) change.mode = attr.mode & 07777;
  return to.SetAttr(change);
}

Result<void> OverlayInode::CopyContents(Inode& to, int64_t bytes) {
  RefPtr<FileDescription> in = TRY(OpenLayer(*lower_, O_RDONLY | O_NOATIME));
  RefPtr<FileDescription> out = TRY(OpenLayer(to, O_WRONLY));
  constexpr size_t kBuffer = 256 << 10;
  auto buffer = std::make_unique<std::byte[]>(static_cast<size_t>(std::min<int64_t>(bytes, kBuffer)));
  for (int64_t at = 0; at < bytes;) {
    // Holes stay holes.
    Result<int64_t> data = in->Seek(at, SEEK_DATA);
    if (data.failed_with(ENXIO)) break;
    if (data.ok()) at = std::min(*data, bytes);
    size_t want = static_cast<size_t>(std::min<int64_t>(bytes - at, kBuffer));
    if (want == 0) break;
    KernelIo read(std::span(buffer.get(), want));
    size_t got = TRY(in->PRead(read, at, {}));
    if (got == 0) break;
    for (size_t done = 0; done < got;) {
      KernelIo write(std::span(buffer.get() + done, got - done));
      size_t n = TRY(out->PWrite(write, at + static_cast<int64_t>(done), {}));
      if (n == 0) return Errno(EIO);
      done += n;
    }
    at += static_cast<int64_t>(got);
  }
  return out->Truncate(bytes);
}

Result<RefPtr<Inode>> OverlayInode::CopyRegular(const Attr& attr, int64_t max_bytes, Inode& upper_dir) {
  // Nameless until it is complete: a copy that fails leaves nothing, and nobody sees half a file.
  RefPtr<Inode> made = TRY(upper_dir.Tmpfile({.mode = attr.mode & 07777, .uid = attr.uid, .gid = attr.gid}));
  if (int64_t bytes = std::min(attr.size, max_bytes); bytes > 0) TRY(CopyContents(*made, bytes));
  TRY(CopyAttributes(attr, *made));
  return made;
}

}  // namespace sentry::overlay

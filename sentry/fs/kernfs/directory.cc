#include <algorithm>

#include "base/check.h"
#include "sentry/fs/kernfs/kernfs.h"

namespace sentry::kernfs {

namespace {

constexpr int64_t kLastPosition = int64_t{1} << 62;

uint8_t DirentType(FileType type) { return static_cast<uint8_t>(static_cast<uint32_t>(type) >> 12); }

// An open directory: "." and ".." at positions 0 and 1, an entry at its own position + 1.
class DirFile final : public FileDescription {
 public:
  DirFile(VfsPath path, uint32_t flags, RefPtr<KernDir> dir)
      : FileDescription(std::move(path), flags), dir_(std::move(dir)) {}
  bool Seekable() const override { return true; }
  Result<size_t> PRead(IoBuffer&, int64_t, const IoFlags&) override { return Errno(EISDIR); }
  Result<int64_t> ReadDir(int64_t position, const DirentSink& sink) override {
    if (position < 0 || position > kLastPosition) return position;
    // What a dead process had answers ENOENT, before anything is emitted.
    std::vector<KernDir::Entry> entries = TRY(dir_->List(std::max<int64_t>(position - 2, 0)));
    if (position == 0) {
      if (!sink({".", dir_->ino(), DirentType(FileType::kDirectory), 1})) return position;
      position = 1;
    }
    if (position == 1) {
      RefPtr<Dentry> parent = path().dentry->parent();
      RefPtr<Inode> inode = parent ? parent->inode() : nullptr;
      if (!sink({"..", inode ? inode->ino() : dir_->ino(), DirentType(FileType::kDirectory), 2})) return position;
      position = 2;
    }
    while (!entries.empty()) {
      for (const KernDir::Entry& e : entries) {
        const int64_t next = e.position + 2;
        if (!sink({e.name, e.ino, DirentType(e.type), next})) return position;
        position = next;
      }
      Result<std::vector<KernDir::Entry>> more = dir_->List(position - 2);
      if (!more.ok()) break;  // it died in between: the next call says so
      entries = std::move(*more);
    }
    return position;
  }

 private:
  RefPtr<KernDir> dir_;
};

}  // namespace

Result<RefPtr<FileDescription>> KernDir::Open(const VfsPath& path, uint32_t flags, VfsContext& ctx) {
  return RefPtr<FileDescription>(TRY(base::TryMakeRef<DirFile>(path, flags, RefPtr<KernDir>(this))));
}

void StaticDir::Add(std::string name, RefPtr<Inode> child) {
  const bool directory = child->is_dir();
  if (!children_.emplace(name, std::move(child)).second) return;
  if (directory) ++directories_;
  order_.push_back(std::move(name));
}

RefPtr<StaticDir> StaticDir::Subdir(std::string_view name) {
  auto it = children_.find(name);
  if (it != children_.end()) {
    auto* dir = dynamic_cast<StaticDir*>(it->second.get());
    CHECK(dir != nullptr);
    return RefPtr<StaticDir>(dir);
  }
  RefPtr<StaticDir> dir = base::MakeRef<StaticDir>(kern_ref(), permissions());
  Add(std::string(name), dir);
  return dir;
}

Result<RefPtr<Inode>> StaticDir::Lookup(std::string_view name) {
  auto it = children_.find(name);
  if (it == children_.end()) return Errno(ENOENT);
  return it->second;
}

Result<std::vector<KernDir::Entry>> StaticDir::List(int64_t after) {
  std::vector<Entry> entries;
  for (size_t i = static_cast<size_t>(std::max<int64_t>(after, 0)); i < order_.size(); ++i) {
    const Inode& child = *children_.find(order_[i])->second;
    entries.push_back({order_[i], child.type(), child.ino(), static_cast<int64_t>(i) + 1});
  }
  return entries;
}

void LazyDir::EnsureFilled() {
  if (filled_.load(std::memory_order_acquire)) return;
  base::FiberMutexLock l(lock_);
  if (filled_.load(std::memory_order_relaxed)) return;
  fill_(*this);
  filled_.store(true, std::memory_order_release);
}

Result<RefPtr<Inode>> LazyDir::Lookup(std::string_view name) {
  EnsureFilled();
  return StaticDir::Lookup(name);
}

Result<std::vector<KernDir::Entry>> LazyDir::List(int64_t after) {
  EnsureFilled();
  return StaticDir::List(after);
}

uint32_t LazyDir::LinkCount() {
  EnsureFilled();
  return StaticDir::LinkCount();
}

}  // namespace sentry::kernfs

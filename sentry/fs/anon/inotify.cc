#include "sentry/fs/anon/inotify.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>

#include <cstring>

#include "absl/strings/str_format.h"
#include "sentry/vfs/permission.h"

namespace sentry {

// A mark on an inode. Keeps the file known as long as it is watched; the inode lets go of it when it is removed or
// deleted.
class InotifyFile::Watch final : public InotifyWatch {
 public:
  Watch(InotifyFile& owner, int wd, uint32_t mask, RefPtr<Dentry> target)
      : wd(wd), target(std::move(target)), owner_(&owner), mask_(mask) {}

  void OnEvent(uint32_t mask, uint32_t cookie, std::string_view name) override {
    bool ended = false;
    {
      base::MutexLock l(mu_);
      if (owner_ == nullptr || !(mask & mask_ & IN_ALL_EVENTS)) return;
      owner_->Queue({wd, mask, cookie, std::string(name)});
      ended = mask_ & IN_ONESHOT;
    }
    if (ended) {
      target->inode_ptr()->watches().Remove(*this);
      OnInodeGone();
    }
  }
  void OnInodeGone() override {
    base::MutexLock l(mu_);
    if (owner_ != nullptr) std::exchange(owner_, nullptr)->WatchEnded(wd);
  }
  // After it returns the owner is not called any more.
  void Detach() {
    base::MutexLock l(mu_);
    owner_ = nullptr;
  }
  bool BelongsTo(const InotifyFile& file) {
    base::MutexLock l(mu_);
    return owner_ == &file;
  }
  uint32_t SetMask(uint32_t mask, bool add) {
    base::MutexLock l(mu_);
    mask_ = add ? mask_ | mask : mask;
    return mask_;
  }
  uint32_t mask() {
    base::MutexLock l(mu_);
    return mask_;
  }

  const int wd;
  const RefPtr<Dentry> target;

 private:
  base::Mutex mu_;
  InotifyFile* owner_ GUARDED_BY(mu_);
  uint32_t mask_ GUARDED_BY(mu_);
};

size_t InotifyFile::Event::NameBytes() const {
  // With a NUL, padded to the size of the header.
  return name.empty() ? 0 : (name.size() + sizeof(inotify_event)) / sizeof(inotify_event) * sizeof(inotify_event);
}
size_t InotifyFile::Event::Bytes() const { return sizeof(inotify_event) + NameBytes(); }

InotifyFile::InotifyFile(uint32_t flags)
    : FileDescription(NewAnonymousPath("anon_inode:inotify", 0600), O_RDONLY | flags) {}

InotifyFile::~InotifyFile() {
  std::map<int, RefPtr<Watch>> watches;
  {
    base::MutexLock l(mu_);
    watches.swap(watches_);
  }
  for (auto& [wd, watch] : watches) {
    watch->Detach();
    watch->target->inode_ptr()->watches().Remove(*watch);
  }
}

Result<int> InotifyFile::AddWatch(VfsContext& ctx, const VfsPath& path, uint32_t mask) {
  if (!(mask & IN_ALL_EVENTS)) return Errno(EINVAL);
  if ((mask & IN_MASK_ADD) && (mask & IN_MASK_CREATE)) return Errno(EINVAL);
  RefPtr<Inode> inode = path.inode();
  if (!inode) return Errno(ENOENT);
  TRY(inode->CheckAccess(*ctx.creds, kMayRead));
  uint32_t kept = mask & (IN_ALL_EVENTS | IN_ONESHOT | IN_EXCL_UNLINK);
  base::FiberMutexLock change(change_lock_);
  RefPtr<InotifyWatch> known = inode->watches().Find([&](InotifyWatch& w) {
    auto* mine = dynamic_cast<Watch*>(&w);
    return mine != nullptr && mine->BelongsTo(*this);
  });
  if (known) {
    if (mask & IN_MASK_CREATE) return Errno(EEXIST);
    auto& watch = static_cast<Watch&>(*known);
    watch.SetMask(kept, mask & IN_MASK_ADD);
    return watch.wd;
  }
  TRY(base::ChargedMemory::Admit());
  RefPtr<Watch> watch;
  {
    base::MutexLock l(mu_);
    if (watches_.size() >= kMaxWatches) return Errno(ENOSPC);
    watch = base::MakeRef<Watch>(*this, next_wd_++, kept, path.dentry);
    watches_[watch->wd] = watch;
  }
  inode->watches().Add(watch);
  return watch->wd;
}

RefPtr<InotifyFile::Watch> InotifyFile::Take(int wd) {
  base::MutexLock l(mu_);
  auto it = watches_.find(wd);
  if (it == watches_.end()) return nullptr;
  RefPtr<Watch> watch = std::move(it->second);
  watches_.erase(it);
  return watch;
}

Result<void> InotifyFile::RemoveWatch(int wd) {
  base::FiberMutexLock change(change_lock_);
  RefPtr<Watch> watch = Take(wd);
  if (!watch) return Errno(EINVAL);
  watch->Detach();
  watch->target->inode_ptr()->watches().Remove(*watch);
  Queue({wd, IN_IGNORED, 0, ""});
  return {};
}

void InotifyFile::WatchEnded(int wd) {
  // The caller holds a reference to the watch.
  if (Take(wd)) Queue({wd, IN_IGNORED, 0, ""});
}

void InotifyFile::Queue(Event event) {
  {
    base::MutexLock l(mu_);
    // The same again says nothing new.
    if (!events_.empty() && events_.back() == event) return;
    if (events_.size() >= kMaxQueuedEvents || !base::ChargedMemory::Admit().ok()) {
      if (overflowed_) return;
      overflowed_ = true;
      event = {-1, IN_Q_OVERFLOW, 0, ""};
    }
    events_.push_back(std::move(event));
  }
  queue_.Notify(base::kEventIn | base::kEventRdNorm);
}

Result<size_t> InotifyFile::Read(IoBuffer& to, const IoFlags&) {
  size_t done = 0;
  for (;;) {
    Event event;
    {
      base::MutexLock l(mu_);
      if (events_.empty()) {
        if (done > 0) return done;
        return Errno(EAGAIN);
      }
      if (events_.front().Bytes() > to.remaining()) {
        if (done > 0) return done;
        return Errno(EINVAL);
      }
      event = std::move(events_.front());
      events_.pop_front();
      if (event.mask == IN_Q_OVERFLOW) overflowed_ = false;
    }
    std::string bytes(event.Bytes(), '\0');
    inotify_event header = {
        .wd = event.wd, .mask = event.mask, .cookie = event.cookie, .len = static_cast<uint32_t>(event.NameBytes())};
    memcpy(bytes.data(), &header, sizeof(header));
    memcpy(bytes.data() + sizeof(header), event.name.data(), event.name.size());
    Result<size_t> copied = to.CopyOut(std::as_bytes(std::span(bytes)));
    if (!copied.ok() || *copied != bytes.size()) {
      if (done > 0) return done;
      return Errno(EFAULT);
    }
    done += bytes.size();
  }
}

Result<int64_t> InotifyFile::Ioctl(const IoctlArgs& args) {
  if (args.command != FIONREAD) return Errno(ENOTTY);
  int bytes = 0;
  {
    base::MutexLock l(mu_);
    for (const Event& e : events_) bytes += static_cast<int>(e.Bytes());
  }
  TRY(args.memory.Write(UserPtr<int>{args.argument}, bytes));
  return int64_t{0};
}

base::EventMask InotifyFile::Readiness() {
  base::MutexLock l(mu_);
  return events_.empty() ? 0 : base::kEventIn | base::kEventRdNorm;
}

std::string InotifyFile::FdInfo() {
  std::vector<RefPtr<Watch>> watches;
  {
    base::MutexLock l(mu_);
    for (const auto& [wd, watch] : watches_) watches.push_back(watch);
  }
  std::string text;
  for (const auto& watch : watches) {
    absl::StrAppendFormat(&text, "inotify wd:%x ino:%x sdev:%x mask:%x ignored_mask:0\n", watch->wd,
                          watch->target->inode_ptr()->ino(), watch->target->superblock().dev(), watch->mask());
  }
  return text;
}

}  // namespace sentry

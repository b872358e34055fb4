#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>

#include "sentry/fs/kernfs/kernfs.h"

namespace sentry::kernfs {

namespace {

constexpr size_t kMaxStore = 4095;  // a page with its NUL, as kernfs_fop_write_iter

std::atomic<size_t> retained{0};

// Tells pollers of a description about changes. It has a queue of its own, so that `changed` is set before anybody is
// woken.
struct Watch {
  Watch(base::WaitQueue& source, RefPtr<base::RefCounted> source_hold)
      : hold(std::move(source_hold)),
        source(source),
        entry(base::kEventPri | base::kEventErr, [this](base::EventMask events) {
          changed.store(true, std::memory_order_release);
          queue.Notify(events);
        }) {
    source.Add(entry);
  }
  ~Watch() { source.Remove(entry); }
  const RefPtr<base::RefCounted> hold;
  base::WaitQueue& source;
  base::WaitQueue queue;
  std::atomic<bool> changed{false};
  base::WaitEntry entry;
};

// Holds one part of the text: the bytes [start_, start_ + part_.size()).
class TextDescription final : public FileDescription {
 public:
  TextDescription(VfsPath path, uint32_t flags, RefPtr<TextFile> file, CredentialsRef creds)
      : FileDescription(std::move(path), flags), file_(std::move(file)), creds_(std::move(creds)) {
    RefPtr<base::RefCounted> hold;
    if (base::WaitQueue* source = file_->Events(&hold)) watch_ = std::make_unique<Watch>(*source, std::move(hold));
  }
  ~TextDescription() override { retained.fetch_sub(charged_, std::memory_order_relaxed); }
  bool Seekable() const override { return true; }

  Result<size_t> PRead(IoBuffer& to, int64_t offset, const IoFlags&) override {
    if (offset < 0) return Errno(EINVAL);
    if (to.remaining() == 0) return size_t{0};
    base::FiberMutexLock l(lock_);
    const uint64_t at = static_cast<uint64_t>(offset);
    if (!started_ || at == 0 || at < start_) TRY(Restart());
    while (at >= start_ + part_.size()) {
      if (next_ == TextFile::kDone) {
        // The reader has seen the end: nothing is kept for it.
        Keep(std::string());
        started_ = false;
        return size_t{0};
      }
      start_ += part_.size();
      TRY(NextPart());
    }
    const std::string_view rest = std::string_view(part_).substr(at - start_);
    return to.CopyOut(std::as_bytes(std::span(rest.substr(0, to.remaining()))));
  }

  Result<size_t> PWrite(IoBuffer& from, int64_t, const IoFlags&) override {
    std::string text(std::min(from.remaining(), kMaxStore), '\0');
    const size_t n = TRY(from.CopyIn(std::as_writable_bytes(std::span(text))));
    text.resize(n);
    VfsContext ctx;
    ctx.creds = creds_;
    TRY(file_->Store(ctx, text));
    return n;
  }

  // seq_lseek has no SEEK_END; files with a size have (generic_file_llseek).
  Result<int64_t> Seek(int64_t offset, int whence) override {
    base::FiberMutexLock l(position_lock_);
    const int64_t size = file_->Size();
    if (whence != SEEK_SET && whence != SEEK_CUR && !(whence == SEEK_END && size > 0)) return Errno(EINVAL);
    int64_t target = whence == SEEK_CUR ? position() : whence == SEEK_END ? size : 0;
    if (__builtin_add_overflow(target, offset, &target) || target < 0) return Errno(EINVAL);
    position_.store(target, std::memory_order_relaxed);
    return target;
  }
  Result<void> Truncate(int64_t) override { return {}; }

  // mounts_poll: always readable, and an exceptional condition that the first poll after a change sees.
  base::WaitQueue* wait_queue() override { return watch_ ? &watch_->queue : nullptr; }
  base::EventMask Readiness() override {
    base::EventMask ready = base::kEventIn | base::kEventRdNorm;
    if (!watch_) return ready | base::kEventOut | base::kEventWrNorm;
    if (watch_->changed.exchange(false, std::memory_order_acq_rel)) ready |= base::kEventErr | base::kEventPri;
    return ready;
  }

 private:
  Result<void> Restart() REQUIRES(lock_) {
    start_ = 0;
    next_ = 0;
    started_ = false;
    TRY(NextPart());
    started_ = true;
    return {};
  }
  Result<void> NextPart() REQUIRES(lock_) {
    VfsContext ctx;
    ctx.creds = creds_;
    uint64_t cursor = next_;
    Result<std::string> text = file_->Generate(ctx, cursor);
    if (!text.ok()) {
      started_ = false;
      return text.error();
    }
    next_ = text->empty() ? TextFile::kDone : cursor;
    if (!Keep(std::move(*text))) {
      started_ = false;
      return Errno(ENOMEM);
    }
    return {};
  }
  // Replaces what is kept. False: too much is kept already by all descriptions together.
  bool Keep(std::string text) REQUIRES(lock_) {
    part_ = std::string();
    retained.fetch_sub(charged_, std::memory_order_relaxed);
    charged_ = text.size();
    if (retained.fetch_add(charged_, std::memory_order_relaxed) + charged_ > kMaxRetainedText) {
      retained.fetch_sub(charged_, std::memory_order_relaxed);
      charged_ = 0;
      return false;
    }
    text.shrink_to_fit();
    part_ = std::move(text);
    return true;
  }

  const RefPtr<TextFile> file_;
  const CredentialsRef creds_;
  std::unique_ptr<Watch> watch_;
  base::FiberMutex lock_;
  bool started_ GUARDED_BY(lock_) = false;
  uint64_t start_ GUARDED_BY(lock_) = 0;
  uint64_t next_ GUARDED_BY(lock_) = 0;
  std::string part_ GUARDED_BY(lock_);
  size_t charged_ = 0;  // under lock_, and the destructor
};

}  // namespace

size_t RetainedText() { return retained.load(std::memory_order_relaxed); }

Result<RefPtr<FileDescription>> TextFile::Open(const VfsPath& path, uint32_t flags, VfsContext& ctx) {
  TRY(CheckOpen(ctx));
  return RefPtr<FileDescription>(
      TRY(base::TryMakeRef<TextDescription>(path, flags, RefPtr<TextFile>(this), ctx.creds)));
}

Result<std::string> TextOpsFile::Generate(VfsContext& ctx, uint64_t& cursor) {
  cursor = kDone;
  if (!ops_.generate) return Errno(EINVAL);
  return ops_.generate(ctx);
}

Result<void> TextOpsFile::Store(VfsContext& ctx, std::string_view text) {
  if (!ops_.store) return Errno(EINVAL);
  return ops_.store(ctx, text);
}

RefPtr<Inode> NewText(const RefPtr<KernSuperblock>& sb, std::function<std::string()> generate, uint32_t permissions) {
  TextOps ops;
  ops.generate = [generate = std::move(generate)](VfsContext&) -> Result<std::string> { return generate(); };
  return base::MakeRef<TextOpsFile>(sb, permissions, std::move(ops));
}

RefPtr<Inode> NewText(const RefPtr<KernSuperblock>& sb, std::string text, uint32_t permissions) {
  return NewText(
      sb, [text = std::move(text)] { return text; }, permissions);
}

RefPtr<Inode> NewValue(const RefPtr<KernSuperblock>& sb, std::string initial, uint32_t permissions) {
  struct Value final : base::RefCounted {
    base::Mutex mu;
    std::string text GUARDED_BY(mu);
  };
  RefPtr<Value> value = base::MakeRef<Value>();
  {
    base::MutexLock l(value->mu);
    value->text = std::move(initial);
  }
  TextOps ops;
  ops.generate = [value](VfsContext&) -> Result<std::string> {
    base::MutexLock l(value->mu);
    return value->text;
  };
  ops.store = [value](VfsContext&, std::string_view text) -> Result<void> {
    std::string fresh(text);
    if (fresh.empty() || fresh.back() != '\n') fresh += '\n';
    base::MutexLock l(value->mu);
    std::swap(value->text, fresh);
    return {};
  };
  return base::MakeRef<TextOpsFile>(sb, permissions, std::move(ops));
}

RefPtr<Inode> NewSink(const RefPtr<KernSuperblock>& sb, uint32_t permissions) {
  TextOps ops;
  ops.store = [](VfsContext&, std::string_view) -> Result<void> { return {}; };
  return base::MakeRef<TextOpsFile>(sb, permissions, std::move(ops));
}

}  // namespace sentry::kernfs

// Pipe: the buffer behind pipe(2) and FIFOs. (man 7 pipe, man 7 fifo, fs/pipe.c)
//
// A ring of slots, each a range of one page. Slots are filled by writes (small writes are appended to the last one),
// and by splice, which moves pages between pipes by reference; tee shares them. A page that is shared is never written
// again.
//
// Locking: mu_ (a fiber lock, because guest memory is copied under it) guards the ring. What Readiness needs is
// mirrored in atomics. Two pipes are locked in the order of their addresses (kernel: pipe_double_lock).
#ifndef SENTRY_FS_PIPE_PIPE_H_
#define SENTRY_FS_PIPE_PIPE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/errno.h"
#include "base/fiber_lock.h"
#include "base/ref_ptr.h"
#include "base/wait_queue.h"
#include "sentry/mm/user_memory.h"

namespace sentry {

using base::RefPtr;

// A page of pipe data; shared by slots after splice and tee.
struct PipePage final : public base::RefCounted {
  std::byte data[kPageSize];
};

class Pipe final : public base::RefCounted {
 public:
  static constexpr size_t kDefaultSlots = 16;              // 64 KiB
  static constexpr size_t kPipeBuf = 4096;                 // PIPE_BUF: writes up to it are atomic
  static constexpr size_t kMaxSizeUnprivileged = 1 << 20;  // /proc/sys/fs/pipe-max-size
  static constexpr size_t kMaxSlots = (size_t{1} << 31) / kPageSize;
  // What pipes may hold is charged by slots, as pipe-user-pages-soft and -hard do. Differs from Linux: for the sandbox
  // as a whole, and privileged users too: beyond the soft limit new pipes get two slots and none grows, beyond the hard
  // one there are no new pipes.
  static constexpr int64_t kSoftSlots = 65536;
  static constexpr int64_t kHardSlots = 262144;

  // ENFILE when the sandbox has too many.
  static Result<RefPtr<Pipe>> Create();
  ~Pipe() override;

  // --- Data. EAGAIN: nothing could be done now. `packets`: O_DIRECT, every write is a packet of its own.
  // 0 at the end (no writers and empty).
  Result<size_t> Read(IoBuffer& to) EXCLUDES(mu_);
  // Short writes happen (above kPipeBuf); EPIPE without readers.
  Result<size_t> Write(IoBuffer& from, bool packets) EXCLUDES(mu_);
  size_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

  // --- splice(2) and tee(2) between pipes: pages go by reference. 0 at the source's end; EAGAIN if the source is empty
  // or the target full.
  static Result<size_t> Transfer(Pipe& from, Pipe& to, size_t bytes, bool consume)
      NO_THREAD_SAFETY_ANALYSIS;  // which of the two locks is first depends on their addresses
  // splice between a pipe and a file. `use` gets what is next, at most one page at a time, and says how much of it it
  // took; `fill` gets an empty page and says how much it put there. They run under the pipe's lock and must not wait
  // for a guest event; their EAGAIN or short count ends the transfer. EAGAIN is returned too when the pipe is empty
  // (full).
  using PageFunction = std::function<Result<size_t>(std::span<std::byte> page)>;
  Result<size_t> Drain(size_t bytes, const PageFunction& use) EXCLUDES(mu_);
  Result<size_t> Fill(size_t bytes, const PageFunction& fill) EXCLUDES(mu_);

  // --- Size. EBUSY if what is in it does not fit; EPERM; returns the new size in bytes.
  Result<size_t> Resize(uint64_t bytes, bool privileged) EXCLUDES(mu_);
  size_t capacity_bytes() const { return slots_.load(std::memory_order_relaxed) * kPageSize; }

  // --- Ends. Opening and closing change readiness. Callable anywhere: nothing waits.
  void AddEnds(bool reader, bool writer);
  void DropEnds(bool reader, bool writer);
  int readers() const { return readers_.load(std::memory_order_acquire); }
  int writers() const { return writers_.load(std::memory_order_acquire); }
  // Opens so far, for a FIFO's blocking open: a partner that came and went counts (kernel: r_counter, w_counter).
  uint64_t reader_opens() const { return reader_opens_.load(std::memory_order_acquire); }
  uint64_t writer_opens() const { return writer_opens_.load(std::memory_order_acquire); }
  int files = 0;  // open descriptions; guarded by the special_mu of the inode it is attached to

  // `hangup`: whether the absence of writers is a hangup yet (not for a FIFO opened before its first writer).
  base::EventMask ReadReadiness(bool hangup) const;
  base::EventMask WriteReadiness() const;
  base::WaitQueue& queue() { return queue_; }

 private:
  explicit Pipe(size_t slots) : ring_(slots), slots_(slots) {}
  template <typename T, typename... A>
  friend RefPtr<T> base::MakeRef(A&&...);
  struct Slot {
    RefPtr<PipePage> page;
    uint32_t offset = 0, length = 0;
    bool packet = false;     // reads stop at its end and drop the rest
    bool can_merge = false;  // made by a write: more may be appended
  };
  Slot& SlotAt(size_t i) REQUIRES(mu_) { return ring_[(head_ + i) % ring_.size()]; }
  void PopFront() REQUIRES(mu_);
  void Push(RefPtr<PipePage> page, size_t offset, size_t length, bool packet, bool can_merge) REQUIRES(mu_);
  Result<RefPtr<PipePage>> NewPage() REQUIRES(mu_);  // ENOMEM
  void TakeFront(size_t bytes) REQUIRES(mu_);
  void Publish() REQUIRES(mu_);
  bool FullLocked() const REQUIRES(mu_) { return used_ == ring_.size(); }

  mutable base::FiberMutex mu_;
  std::vector<Slot> ring_ GUARDED_BY(mu_);
  size_t head_ GUARDED_BY(mu_) = 0, used_ GUARDED_BY(mu_) = 0;
  size_t held_ GUARDED_BY(mu_) = 0;         // bytes in all slots
  RefPtr<PipePage> spare_ GUARDED_BY(mu_);  // the last page that became empty: a ping-pong allocates nothing

  // Mirrors for readers without the lock: written under mu_.
  std::atomic<size_t> bytes_{0};
  std::atomic<size_t> used_slots_{0};
  std::atomic<size_t> slots_;
  std::atomic<int> readers_{0}, writers_{0};
  std::atomic<uint64_t> reader_opens_{0}, writer_opens_{0};
  base::WaitQueue queue_;
};

}  // namespace sentry

#endif  // SENTRY_FS_PIPE_PIPE_H_

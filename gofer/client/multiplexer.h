// Multiplexer: many calls in flight over one socket. Sends a request, waits for the reply with its tag; whoever waits
// reads for all.
//
// At most one thread or fiber reads at a time (the reader role). Who is it:
//   * a caller that waits on the socket itself: a host thread for as long as it takes, a fiber for some 200 µs, or
//   until the kernel's
//     next tick, while its executor has nothing else to run;
//   * the reactor, while at least one fiber is parked: then, and only then, an edge-triggered watch exists. (If it
//   always
//     existed, each reply that a caller reads itself would wake the reactor's thread for nothing.)
// A reader that finds a reply for another caller stores it and wakes that caller. An edge that comes while somebody
// reads is noted, and makes that reader drain the socket before it gives up the role; a host thread that waits without
// the role is poked when the role becomes free. So no reply is ever left in the socket with nobody looking.
#ifndef GOFER_CLIENT_MULTIPLEXER_H_
#define GOFER_CLIENT_MULTIPLEXER_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/errno.h"
#include "base/fiber.h"
#include "base/fiber_lock.h"
#include "base/mutex.h"
#include "base/reactor.h"
#include "base/time.h"
#include "base/unique_fd.h"
#include "gofer/protocol/messages.h"

namespace gofer {

// The largest errno of Linux. Anything above means nothing to a guest, and some of it (ERESTARTSYS, 512) would to our
// own kernel.
inline constexpr int kLargestErrno = 133;

// A successful reply: the packet with a checked header, and the descriptor it announced.
struct ReceivedReply {
  std::vector<uint8_t> packet;
  base::UniqueFd fd;
};

class Multiplexer {
 public:
  explicit Multiplexer(base::UniqueFd socket);
  ~Multiplexer();

  // Sends `request`, with the descriptor `fd` if it is not −1, and waits for its reply. The host's errno if the gofer
  // says so; EIO if the connection is or becomes broken; EINVAL for a request that cannot be encoded; EMFILE if this
  // process has no room for the descriptor that came with the reply.
  template <typename RequestT>
  base::Result<ReceivedReply> Exchange(const RequestT& request, int fd = -1) {
    std::vector<NodeId> closes = TakeCloses();
    std::vector<uint8_t> packet;
    if (!EncodeRequest(request, 0, closes, packet)) {
      ReturnCloses(std::move(closes));
      return base::Errno(EINVAL);
    }
    return ExchangePacket(static_cast<uint16_t>(RequestT::kType), packet, fd, std::move(closes));
  }

  // Ends the connection: it, pending and later calls fail with EIO.
  void Break();
  bool broken() const { return broken_.load(std::memory_order_acquire); }

  // `id` goes with a later message, or with one of its own if many have gathered. Does not wait.
  void QueueClose(NodeId id);
  void FlushCloses();
  // Never more than `calls` in flight from now on (at most kMaxInFlight).
  void LimitInFlight(uint32_t calls);

 private:
  // Somebody who waits, on a fiber or on a host thread.
  class Waiter {
   public:
    Waiter();
    bool on_fiber() const { return fiber_ != nullptr; }
    bool done() const { return state_.load(std::memory_order_acquire) == kDone; }
    // The waiter may be gone as soon as the state is set: nothing of it is touched afterwards. `wake` false: the caller
    // is the waiter.
    void Finish(bool wake = true);
    // Makes a host thread in Sleep return without being done.
    void Poke();
    // Host threads: until done or poked.
    void Sleep();
    // Fibers: until done.
    void Park();

   private:
    enum State : uint32_t { kWaiting, kDone, kPoked };
    const base::RefPtr<base::Fiber> fiber_;
    std::atomic<uint32_t> state_{kWaiting};
  };
  // On its caller's stack. Between being taken out of slots_ and Finish it belongs to the reader.
  struct PendingCall {
    uint16_t type = 0;
    int error = 0;  // 0: reply is valid
    ReceivedReply reply;
    Waiter waiter;
    PendingCall* next_host_waiter = nullptr;
  };
  struct SlotWaiter {
    Waiter waiter;
    SlotWaiter* next = nullptr;
  };
  enum class Read { kReply, kEmpty, kBroken };

  std::vector<NodeId> TakeCloses() EXCLUDES(mu_);
  void ReturnCloses(std::vector<NodeId> closes) EXCLUDES(mu_);
  base::Result<ReceivedReply> ExchangePacket(uint16_t type, std::vector<uint8_t>& packet, int fd,
                                             std::vector<NodeId> closes);
  // The tag under which `call` is now known; EIO when broken. Waits if too many are in flight.
  base::Result<uint32_t> Enter(PendingCall& call) EXCLUDES(mu_);
  void ReleaseSlotLocked(size_t slot) REQUIRES(mu_);
  // Takes the call that waits under `tag` out of its slot; null if there is none.
  PendingCall* Leave(uint32_t tag) EXCLUDES(mu_);
  base::Result<void> Send(const std::vector<uint8_t>& packet, int fd);

  void AwaitOnThread(PendingCall& call);
  void AwaitOnFiber(PendingCall& call);
  bool TryStartReading();
  void StopReading() EXCLUDES(mu_);
  // Holders of the reader role only. `own`: the reader's own call, which needs no waking. With `wait` it waits for a
  // packet, at most until the kernel's next tick.
  Read ReadOne(PendingCall* own, bool wait);
  void ReadAll(PendingCall* own);
  bool Accept(std::span<const uint8_t> packet, base::UniqueFd fd, bool fd_lost, PendingCall* own);
  // Waits until the socket is readable or `deadline`.
  void PollUntil(base::MonotonicNs deadline, short events);
  void OnReadable();
  void AddWatch() EXCLUDES(watch_mu_);
  void RemoveWatch() EXCLUDES(watch_mu_);

  const base::UniqueFd socket_;
  std::atomic<bool> broken_{false};  // set once, under mu_; read without it as a hint

  // 0: nobody reads; 1: somebody; 2: somebody, and an edge came meanwhile. Acquire and release order the use of
  // buffer_.
  std::atomic<int> reading_{0};
  std::vector<uint8_t> buffer_;  // the reader's

  base::Mutex mu_;
  struct Slot {
    PendingCall* call = nullptr;
    uint32_t generation = 0;
  };
  std::array<Slot, kMaxInFlight> slots_ GUARDED_BY(mu_);
  std::array<uint8_t, kMaxInFlight> free_slots_ GUARDED_BY(mu_);
  uint32_t free_count_ GUARDED_BY(mu_) = 0;
  uint32_t reserved_slots_ GUARDED_BY(mu_) = 0;  // not to be used: the gofer wants fewer in flight
  SlotWaiter* slot_waiters_ GUARDED_BY(mu_) = nullptr;
  PendingCall* host_waiters_ GUARDED_BY(mu_) = nullptr;
  std::vector<NodeId> closes_ GUARDED_BY(mu_);

  // Creating and destroying the watch makes host calls and may wait for its callback, hence a fiber lock. Before mu_ in
  // the order.
  base::FiberMutex watch_mu_;
  int watchers_ GUARDED_BY(watch_mu_) = 0;
  std::unique_ptr<base::FdWatch> watch_ GUARDED_BY(watch_mu_);
};

}  // namespace gofer

#endif  // GOFER_CLIENT_MULTIPLEXER_H_

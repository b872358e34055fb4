#include "gofer/client/multiplexer.h"

#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "base/executor.h"
#include "base/logging.h"
#include "base/syscall_unsafe.h"
#include "gofer/protocol/channel.h"

namespace gofer {

namespace {

// How long a fiber keeps to the socket itself. Parking and being woken through the reactor costs some 50 µs where the
// reactor's thread sleeps on another CPU; most requests are answered within this time.
constexpr base::MonotonicNs kPatienceNs = 200'000;
// Closes that make up a message of their own when no request comes along to carry them.
constexpr size_t kManyCloses = 128;
constexpr uint32_t kTagSlotBits = 8;
static_assert(kMaxInFlight < 1u << kTagSlotBits);

}  // namespace

Multiplexer::Waiter::Waiter() : fiber_(base::Fiber::Current()) {}

void Multiplexer::Waiter::Finish(bool wake) {
  base::RefPtr<base::Fiber> fiber = wake ? fiber_ : nullptr;
  std::atomic<uint32_t>* word = &state_;
  word->store(kDone, std::memory_order_release);
  if (fiber) {
    fiber->Unpark();
  } else if (wake) {
    // At worst a spurious wake-up of somebody who has come to use this address.
    (void)base::Host(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1);
  }
}

void Multiplexer::Waiter::Poke() {
  uint32_t expected = kWaiting;
  if (state_.compare_exchange_strong(expected, kPoked, std::memory_order_acq_rel)) {
    (void)base::Host(SYS_futex, &state_, FUTEX_WAKE_PRIVATE, 1);
  }
}

void Multiplexer::Waiter::Sleep() {
  while (state_.load(std::memory_order_acquire) == kWaiting) {
    (void)base::Host(SYS_futex, &state_, FUTEX_WAIT_PRIVATE, kWaiting, nullptr);
  }
  uint32_t expected = kPoked;
  state_.compare_exchange_strong(expected, kWaiting, std::memory_order_acq_rel);
}

void Multiplexer::Waiter::Park() {
  while (!done()) base::Fiber::Park();
}

Multiplexer::Multiplexer(base::UniqueFd socket) : socket_(std::move(socket)), buffer_(kMaxMessageBytes) {
  base::MutexLock lock(mu_);
  for (size_t i = 0; i < kMaxInFlight; ++i) free_slots_[free_count_++] = static_cast<uint8_t>(i);
}

Multiplexer::~Multiplexer() = default;

// Closing.

std::vector<NodeId> Multiplexer::TakeCloses() {
  base::MutexLock lock(mu_);
  if (closes_.size() <= kMaxClosesPerMessage) return std::exchange(closes_, {});
  std::vector<NodeId> taken(closes_.end() - kMaxClosesPerMessage, closes_.end());
  closes_.resize(closes_.size() - kMaxClosesPerMessage);
  return taken;
}

void Multiplexer::ReturnCloses(std::vector<NodeId> closes) {
  base::MutexLock lock(mu_);
  closes_.insert(closes_.end(), closes.begin(), closes.end());
}

void Multiplexer::QueueClose(NodeId id) {
  if (broken()) return;
  bool many;
  {
    base::MutexLock lock(mu_);
    closes_.push_back(id);
    many = closes_.size() >= kManyCloses;
  }
  if (many) FlushCloses();
}

void Multiplexer::FlushCloses() {
  std::vector<NodeId> closes = TakeCloses();
  if (closes.empty() || broken()) return;
  std::vector<uint8_t> packet;
  bool sent =
      EncodeRequest(CloseRequest(), 0, closes, packet) && SendPacket(socket_.get(), packet, -1, /*wait=*/false).ok();
  // No room in the socket: the next message will have it. (A broken connection shows there, too.)
  if (!sent) ReturnCloses(std::move(closes));
}

// Slots.

void Multiplexer::LimitInFlight(uint32_t calls) {
  base::MutexLock lock(mu_);
  reserved_slots_ = kMaxInFlight - std::clamp<uint32_t>(calls, 1, kMaxInFlight);
}

base::Result<uint32_t> Multiplexer::Enter(PendingCall& call) {
  for (;;) {
    SlotWaiter waiter;
    {
      base::MutexLock lock(mu_);
      if (broken_.load(std::memory_order_relaxed)) return base::Errno(EIO);
      if (free_count_ > reserved_slots_) {
        uint8_t index = free_slots_[--free_count_];
        Slot& slot = slots_[index];
        slot.call = &call;
        ++slot.generation;
        return slot.generation << kTagSlotBits | index;
      }
      SlotWaiter** end = &slot_waiters_;
      while (*end != nullptr) end = &(*end)->next;
      *end = &waiter;
    }
    if (waiter.waiter.on_fiber()) {
      waiter.waiter.Park();
    } else {
      waiter.waiter.Sleep();
    }
  }
}

void Multiplexer::ReleaseSlotLocked(size_t slot) {
  slots_[slot].call = nullptr;
  free_slots_[free_count_++] = static_cast<uint8_t>(slot);
  if (SlotWaiter* waiter = slot_waiters_; waiter != nullptr) {
    slot_waiters_ = waiter->next;
    waiter->waiter.Finish();
  }
}

Multiplexer::PendingCall* Multiplexer::Leave(uint32_t tag) {
  base::MutexLock lock(mu_);
  uint32_t index = tag & ((1u << kTagSlotBits) - 1);
  if (index >= kMaxInFlight) return nullptr;
  Slot& slot = slots_[index];
  if (slot.call == nullptr || (slot.generation << kTagSlotBits | index) != tag) return nullptr;
  PendingCall* call = slot.call;
  ReleaseSlotLocked(index);
  return call;
}

void Multiplexer::Break() {
  std::array<PendingCall*, kMaxInFlight> calls;
  size_t count = 0;
  {
    base::MutexLock lock(mu_);
    if (broken_.load(std::memory_order_relaxed)) return;
    broken_.store(true, std::memory_order_release);
    closes_.clear();
    for (size_t i = 0; i < kMaxInFlight; ++i) {
      if (slots_[i].call == nullptr) continue;
      calls[count++] = slots_[i].call;
      ReleaseSlotLocked(i);
    }
    while (slot_waiters_ != nullptr) {
      SlotWaiter* waiter = slot_waiters_;
      slot_waiters_ = waiter->next;
      waiter->waiter.Finish();
    }
  }
  // Also ends the wait of whoever reads.
  (void)base::Host(SYS_shutdown, socket_.get(), SHUT_RDWR);
  for (size_t i = 0; i < count; ++i) {
    calls[i]->error = EIO;
    calls[i]->waiter.Finish();
  }
}

// Calls.

base::Result<ReceivedReply> Multiplexer::ExchangePacket(uint16_t type, std::vector<uint8_t>& packet, int fd,
                                                        std::vector<NodeId> closes) {
  PendingCall call;
  call.type = type;
  uint32_t tag = TRY(Enter(call));
  // Only a thread that stays on its CPU gives a hint: one that does not would be woken elsewhere, and the two would
  // chase each other.
  base::Executor* executor = base::Executor::Current();
  uint32_t cpu = executor != nullptr ? static_cast<uint32_t>(executor->cpu() + 1) : 0;
  for (size_t i = 0; i < 4; ++i) packet[kTagOffset + i] = static_cast<uint8_t>(tag >> (8 * i));
  for (size_t i = 0; i < 2; ++i) packet[kCpuOffset + i] = static_cast<uint8_t>(cpu >> (8 * i));
  if (base::Result<void> sent = Send(packet, fd); !sent.ok()) {
    bool gone = sent.error() == EPIPE || sent.error() == ECONNRESET || sent.error() == ENOTCONN;
    if (gone) Break();
    if (Leave(tag) == &call) {
      ReturnCloses(std::move(closes));
      return gone ? base::Errno(EIO) : sent.error();
    }
    // Break has, or will have, finished it.
  }
  if (call.waiter.on_fiber()) {
    AwaitOnFiber(call);
  } else {
    AwaitOnThread(call);
  }
  if (call.error != 0) return base::Errno(call.error);
  return std::move(call.reply);
}

base::Result<void> Multiplexer::Send(const std::vector<uint8_t>& packet, int fd) {
  for (;;) {
    base::Result<void> sent = SendPacket(socket_.get(), packet, fd, /*wait=*/false);
    if (!sent.failed_with(EAGAIN)) return sent;
    // The gofer has some 200 KiB of requests to read, which takes large ones. It may in turn be waiting for us to read.
    if (TryStartReading()) {
      ReadAll(nullptr);
      StopReading();
    }
    PollUntil(base::MonotonicNow() + kPatienceNs, POLLOUT);
    if (base::Fiber::Current() != nullptr) base::Fiber::Yield();
  }
}

void Multiplexer::PollUntil(base::MonotonicNs deadline, short events) {
  pollfd poll = {.fd = socket_.get(), .events = events, .revents = 0};
  if (deadline == base::kNever) {
    (void)base::Host(SYS_ppoll, &poll, 1, nullptr, nullptr, 0);
    return;
  }
  int64_t left = std::max<int64_t>(deadline - base::MonotonicNow(), 0);
  timespec timeout = {.tv_sec = left / 1'000'000'000, .tv_nsec = left % 1'000'000'000};
  (void)base::Host(SYS_ppoll, &poll, 1, &timeout, nullptr, 0);
}

void Multiplexer::AwaitOnThread(PendingCall& call) {
  while (!call.waiter.done()) {
    if (TryStartReading()) {
      while (!call.waiter.done()) {
        PollUntil(base::kNever, POLLIN);
        if (ReadOne(&call, /*wait=*/false) == Read::kBroken) break;
      }
      StopReading();
      continue;
    }
    {
      base::MutexLock lock(mu_);
      call.next_host_waiter = host_waiters_;
      host_waiters_ = &call;
    }
    // Looked at after joining the list: a reader that left before saw us there, or we see here that it left.
    if (reading_.load(std::memory_order_seq_cst) != 0) call.waiter.Sleep();
    base::MutexLock lock(mu_);
    for (PendingCall** at = &host_waiters_; *at != nullptr; at = &(*at)->next_host_waiter) {
      if (*at == &call) {
        *at = call.next_host_waiter;
        break;
      }
    }
  }
}

void Multiplexer::AwaitOnFiber(PendingCall& call) {
  const base::MonotonicNs deadline = base::MonotonicNow() + kPatienceNs;
  while (!call.waiter.done()) {
    const bool others = base::Executor::Current()->queue_length() != 0;
    if (TryStartReading()) {
      while (!call.waiter.done() && ReadOne(&call, /*wait=*/!others) == Read::kReply) {
      }
      StopReading();
      if (call.waiter.done()) return;
    } else if (!others) {
      break;
    }
    if (base::MonotonicNow() >= deadline) break;
    if (others) base::Fiber::Yield();
  }
  if (call.waiter.done()) return;
  AddWatch();
  call.waiter.Park();
  RemoveWatch();
}

// Reading.

bool Multiplexer::TryStartReading() {
  int expected = 0;
  return reading_.compare_exchange_strong(expected, 1, std::memory_order_seq_cst);
}

void Multiplexer::StopReading() {
  for (;;) {
    int expected = 1;
    if (reading_.compare_exchange_strong(expected, 0, std::memory_order_seq_cst)) break;
    reading_.store(1, std::memory_order_seq_cst);
    ReadAll(nullptr);
  }
  base::MutexLock lock(mu_);
  for (PendingCall* call = host_waiters_; call != nullptr; call = call->next_host_waiter) {
    if (call->waiter.done()) continue;
    call->waiter.Poke();
    break;
  }
}

void Multiplexer::OnReadable() {
  for (;;) {
    if (TryStartReading()) {
      ReadAll(nullptr);
      StopReading();
      return;
    }
    int expected = 1;
    if (reading_.compare_exchange_strong(expected, 2, std::memory_order_seq_cst) || expected == 2) return;
  }
}

void Multiplexer::ReadAll(PendingCall* own) {
  while (ReadOne(own, /*wait=*/false) == Read::kReply) {
  }
}

Multiplexer::Read Multiplexer::ReadOne(PendingCall* own, bool wait) {
  if (broken()) return Read::kBroken;
  base::UniqueFd fd;
  bool fd_lost = false;
  auto size = ReceivePacket(socket_.get(), buffer_, &fd, &fd_lost, wait);
  if (size.failed_with(EAGAIN)) return Read::kEmpty;
  if (size.ok() && *size != 0 && Accept(std::span(buffer_).first(*size), std::move(fd), fd_lost, own))
    return Read::kReply;
  if (size.ok() && *size != 0) {
    LOG_WARNING("The gofer sent a malformed reply; its files are lost");
  } else if (!broken()) {
    LOG_WARNING("The connection to the gofer ended (%s); its files are lost",
                size.ok() ? "closed" : base::ErrnoName(size.error().value()));
  }
  Break();
  return Read::kBroken;
}

bool Multiplexer::Accept(std::span<const uint8_t> packet, base::UniqueFd fd, bool fd_lost, PendingCall* own) {
  auto header = ParseReplyHeader(packet);
  if (!header.ok()) return false;
  if (header->aux == 0 ? fd.valid() || fd_lost : fd.valid() == fd_lost) return false;
  PendingCall* call = Leave(header->tag);
  if (call == nullptr) return false;
  bool matches = header->type == (call->type | kReplyBit);
  if (!matches) {
    call->error = EIO;
  } else if (header->error != 0) {
    call->error = header->error <= kLargestErrno ? header->error : EIO;
  } else if (fd_lost) {
    call->error = EMFILE;
  } else {
    call->reply.packet.assign(packet.begin(), packet.end());
    call->reply.fd = std::move(fd);
  }
  call->waiter.Finish(/*wake=*/call != own);
  return matches;
}

void Multiplexer::AddWatch() {
  base::FiberMutexLock lock(watch_mu_);
  if (watchers_++ != 0) return;
  base::Reactor& reactor = base::Executor::Current()->scheduler().reactor();
  watch_ = std::make_unique<base::FdWatch>(reactor, socket_.get(), EPOLLIN, [this](uint32_t) { OnReadable(); });
}

void Multiplexer::RemoveWatch() {
  base::FiberMutexLock lock(watch_mu_);
  if (--watchers_ == 0) watch_.reset();
}

}  // namespace gofer

#include "sentry/fs/pipe/pipe.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace sentry {
namespace {

constexpr base::EventMask kReadable = base::kEventIn | base::kEventRdNorm;
constexpr base::EventMask kWritable = base::kEventOut | base::kEventWrNorm;
constexpr size_t kMinSlots = 2;  // PIPE_MIN_DEF_BUFFERS

// Slots of all pipes of the sandbox.
std::atomic<int64_t> charged_slots{0};

// Charges `slots`; false, and nothing charged, if the sum would pass `limit`.
bool Charge(int64_t slots, int64_t limit) {
  if (charged_slots.fetch_add(slots, std::memory_order_relaxed) + slots <= limit) return true;
  charged_slots.fetch_sub(slots, std::memory_order_relaxed);
  return false;
}

}  // namespace

Result<RefPtr<Pipe>> Pipe::Create() {
  TRY(base::ChargedMemory::Admit());
  size_t slots = kDefaultSlots;
  if (!Charge(kDefaultSlots, kSoftSlots)) {
    slots = kMinSlots;
    if (!Charge(kMinSlots, kHardSlots)) return Errno(ENFILE);
  }
  return base::MakeRef<Pipe>(slots);
}

Pipe::~Pipe() { charged_slots.fetch_sub(static_cast<int64_t>(slots_.load()), std::memory_order_relaxed); }

Result<RefPtr<PipePage>> Pipe::NewPage() {
  if (spare_ != nullptr) return std::move(spare_);
  return base::TryMakeRef<PipePage>();
}

void Pipe::PopFront() {
  held_ -= SlotAt(0).length;
  RefPtr<PipePage> page = std::move(SlotAt(0).page);
  if (page->ref_count() == 1) spare_ = std::move(page);
  head_ = (head_ + 1) % ring_.size();
  --used_;
}

void Pipe::Push(RefPtr<PipePage> page, size_t offset, size_t length, bool packet, bool can_merge) {
  Slot& slot = SlotAt(used_++);
  slot.page = std::move(page);
  slot.offset = static_cast<uint32_t>(offset);
  slot.length = static_cast<uint32_t>(length);
  slot.packet = packet;
  slot.can_merge = can_merge;
  held_ += length;
}

void Pipe::TakeFront(size_t bytes) {
  Slot& slot = SlotAt(0);
  slot.offset += static_cast<uint32_t>(bytes);
  slot.length -= static_cast<uint32_t>(bytes);
  held_ -= bytes;
}

void Pipe::Publish() {
  bytes_.store(held_, std::memory_order_relaxed);
  used_slots_.store(used_, std::memory_order_release);
}

Result<size_t> Pipe::Read(IoBuffer& to) {
  if (to.remaining() == 0) return 0;
  size_t total = 0;
  bool was_full;
  {
    base::FiberMutexLock lock(mu_);
    was_full = FullLocked();
    if (used_ == 0) {
      if (writers() == 0) return 0;
      return Errno(EAGAIN);
    }
    while (used_ != 0 && to.remaining() != 0) {
      Slot& slot = SlotAt(0);
      size_t wanted = std::min<size_t>(slot.length, to.remaining());
      auto copied = to.CopyOut(std::span<const std::byte>(slot.page->data + slot.offset, wanted));
      if (!copied.ok()) {
        if (total == 0) return copied.error();
        break;
      }
      total += *copied;
      TakeFront(*copied);
      bool packet = slot.packet;
      if (packet || slot.length == 0) PopFront();
      if (packet || *copied < wanted) break;
    }
    Publish();
    was_full = was_full && !FullLocked();
  }
  if (was_full) queue_.Notify(kWritable);
  return total;
}

Result<size_t> Pipe::Write(IoBuffer& from, bool packets) {
  if (from.remaining() == 0) return 0;
  size_t total = 0;
  Errno error(EAGAIN);
  {
    base::FiberMutexLock lock(mu_);
    if (readers() == 0) return Errno(EPIPE);
    // The odd bytes go to the end of the last page if they fit there: many small writes share a page. (fs/pipe.c,
    // pipe_write)
    size_t odd = from.remaining() % kPageSize;
    if (odd != 0 && used_ != 0 && !packets) {
      Slot& last = SlotAt(used_ - 1);
      size_t end = last.offset + last.length;
      if (last.can_merge && !last.packet && end + odd <= kPageSize && last.page->ref_count() == 1) {
        auto copied = from.CopyIn(std::span<std::byte>(last.page->data + end, odd));
        if (!copied.ok()) return copied.error();
        if (*copied < odd) return Errno(EFAULT);
        last.length += static_cast<uint32_t>(odd);
        held_ += odd;
        total += odd;
      }
    }
    while (error == EAGAIN && from.remaining() != 0 && !FullLocked()) {
      Result<RefPtr<PipePage>> fresh = NewPage();
      if (!fresh.ok()) {
        error = fresh.error();
        break;
      }
      RefPtr<PipePage> page = std::move(*fresh);
      size_t wanted = std::min<size_t>(from.remaining(), kPageSize);
      auto copied = from.CopyIn(std::span<std::byte>(page->data, wanted));
      if (!copied.ok() || *copied < wanted) {
        // A page is taken whole or not at all (fs/pipe.c).
        error = copied.ok() ? Errno(EFAULT) : copied.error();
        spare_ = std::move(page);
        break;
      }
      Push(std::move(page), 0, wanted, packets, /*can_merge=*/true);
      total += wanted;
    }
    if (total != 0) Publish();
  }
  if (total == 0) return error;
  queue_.Notify(kReadable);
  return total;
}

Result<size_t> Pipe::Transfer(Pipe& from, Pipe& to, size_t bytes, bool consume) {
  CHECK(&from != &to);
  size_t total = 0;
  bool was_full = false;
  {
    Pipe& first = &from < &to ? from : to;
    Pipe& second = &from < &to ? to : from;
    base::FiberMutexLock lock1(first.mu_);
    base::FiberMutexLock lock2(second.mu_);
    if (to.readers() == 0) return Errno(EPIPE);
    was_full = from.FullLocked();
    for (size_t i = 0; i < from.used_ && total < bytes && !to.FullLocked();) {
      Slot& slot = from.SlotAt(i);
      size_t length = std::min<size_t>(slot.length, bytes - total);
      // A shared page is not appended to. The packet flag stays: a part of a packet is a packet.
      to.Push(slot.page, slot.offset, length, slot.packet, /*can_merge=*/false);
      slot.can_merge = false;
      total += length;
      if (!consume) {
        ++i;
        continue;
      }
      from.TakeFront(length);
      if (slot.length == 0) from.PopFront();
    }
    if (total == 0) {
      if (bytes == 0 || (from.used_ == 0 && from.writers() == 0)) return 0;
      return Errno(EAGAIN);
    }
    from.Publish();
    to.Publish();
    was_full = was_full && !from.FullLocked();
  }
  if (was_full) from.queue_.Notify(kWritable);
  to.queue_.Notify(kReadable);
  return total;
}

Result<size_t> Pipe::Drain(size_t bytes, const PageFunction& use) {
  if (bytes == 0) return 0;
  size_t total = 0;
  bool was_full;
  {
    base::FiberMutexLock lock(mu_);
    was_full = FullLocked();
    if (used_ == 0) {
      if (writers() == 0) return 0;
      return Errno(EAGAIN);
    }
    while (used_ != 0 && total < bytes) {
      Slot& slot = SlotAt(0);
      size_t wanted = std::min<size_t>(slot.length, bytes - total);
      auto used = use(std::span<std::byte>(slot.page->data + slot.offset, wanted));
      if (!used.ok()) {
        if (total == 0) return used.error();
        break;
      }
      total += *used;
      TakeFront(*used);
      if (slot.length == 0) PopFront();
      if (*used < wanted) break;
    }
    Publish();
    was_full = was_full && !FullLocked();
  }
  if (was_full) queue_.Notify(kWritable);
  return total;
}

Result<size_t> Pipe::Fill(size_t bytes, const PageFunction& fill) {
  if (bytes == 0) return 0;
  size_t total = 0;
  {
    base::FiberMutexLock lock(mu_);
    if (readers() == 0) return Errno(EPIPE);
    if (FullLocked()) return Errno(EAGAIN);
    while (total < bytes && !FullLocked()) {
      Result<RefPtr<PipePage>> fresh = NewPage();
      if (!fresh.ok()) {
        if (total == 0) return fresh.error();
        break;
      }
      RefPtr<PipePage> page = std::move(*fresh);
      size_t wanted = std::min<size_t>(kPageSize, bytes - total);
      auto filled = fill(std::span<std::byte>(page->data, wanted));
      size_t length = filled.ok() ? *filled : 0;
      if (length == 0) {
        spare_ = std::move(page);
        if (!filled.ok() && total == 0) return filled.error();
        break;
      }
      Push(std::move(page), 0, length, /*packet=*/false, /*can_merge=*/false);
      total += length;
      if (length < wanted) break;
    }
    Publish();
  }
  if (total != 0) queue_.Notify(kReadable);
  return total;
}

Result<size_t> Pipe::Resize(uint64_t bytes, bool privileged) {
  if (bytes > kMaxSlots * kPageSize) return Errno(EINVAL);
  size_t slots = std::bit_ceil(std::max<uint64_t>(1, (bytes + kPageSize - 1) / kPageSize));
  bool grew = false;
  {
    base::FiberMutexLock lock(mu_);
    size_t old = ring_.size();
    if (slots > old && slots * kPageSize > kMaxSizeUnprivileged && !privileged) return Errno(EPERM);
    if (slots < used_) return Errno(EBUSY);
    if (slots > old && !Charge(static_cast<int64_t>(slots - old), kSoftSlots)) return Errno(EPERM);
    if (slots < old) charged_slots.fetch_sub(static_cast<int64_t>(old - slots), std::memory_order_relaxed);
    std::vector<Slot> ring(slots);
    for (size_t i = 0; i < used_; ++i) ring[i] = std::move(SlotAt(i));
    ring_ = std::move(ring);
    head_ = 0;
    slots_.store(slots, std::memory_order_release);
    grew = slots > old;
  }
  if (grew) queue_.Notify(kWritable);
  return slots * kPageSize;
}

void Pipe::AddEnds(bool reader, bool writer) {
  if (reader) {
    readers_.fetch_add(1, std::memory_order_acq_rel);
    reader_opens_.fetch_add(1, std::memory_order_acq_rel);
  }
  if (writer) {
    writers_.fetch_add(1, std::memory_order_acq_rel);
    writer_opens_.fetch_add(1, std::memory_order_acq_rel);
  }
  queue_.Notify(kReadable | kWritable);
}

void Pipe::DropEnds(bool reader, bool writer) {
  base::EventMask events = 0;
  if (reader && readers_.fetch_sub(1, std::memory_order_acq_rel) == 1) events |= kWritable | base::kEventErr;
  if (writer && writers_.fetch_sub(1, std::memory_order_acq_rel) == 1) events |= kReadable | base::kEventHup;
  if (events != 0) queue_.Notify(events);
}

base::EventMask Pipe::ReadReadiness(bool hangup) const {
  base::EventMask events = 0;
  if (used_slots_.load(std::memory_order_acquire) != 0) events |= kReadable;
  if (hangup && writers() == 0) events |= base::kEventHup;
  return events;
}

base::EventMask Pipe::WriteReadiness() const {
  base::EventMask events = 0;
  if (used_slots_.load(std::memory_order_acquire) < slots_.load(std::memory_order_acquire)) events |= kWritable;
  if (readers() == 0) events |= base::kEventErr;
  return events;
}

}  // namespace sentry

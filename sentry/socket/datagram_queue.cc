#include "sentry/socket/datagram_queue.h"

#include <algorithm>

namespace sentry {

bool DatagramQueue::Push(RefPtr<Chunk>& datagram, size_t limit, size_t max_count) {
  size_t charge = datagram->size() + Chunk::kOverhead;
  limit = LimitUnderPressure(limit);
  base::MutexLock lock(mu_);
  if (closed_ || queue_.size() >= max_count) return false;
  if (!queue_.empty() && charged_ + charge > limit) return false;
  if (datagram->rights != nullptr) datagram->rights->queued.store(true, std::memory_order_release);
  charged_ += charge;
  queue_.push_back(std::move(datagram));
  return true;
}

RefPtr<Chunk> DatagramQueue::Pop(bool peek) {
  base::MutexLock lock(mu_);
  if (queue_.empty()) return nullptr;
  if (peek) return queue_.front();
  RefPtr<Chunk> datagram = std::move(queue_.front());
  queue_.pop_front();
  charged_ -= datagram->size() + Chunk::kOverhead;
  if (datagram->rights != nullptr) datagram->rights->queued.store(false, std::memory_order_release);
  return datagram;
}

bool DatagramQueue::empty() const {
  base::MutexLock lock(mu_);
  return queue_.empty();
}

size_t DatagramQueue::count() const {
  base::MutexLock lock(mu_);
  return queue_.size();
}

size_t DatagramQueue::FirstSize() const {
  base::MutexLock lock(mu_);
  return queue_.empty() ? 0 : queue_.front()->size();
}

size_t DatagramQueue::charged() const {
  base::MutexLock lock(mu_);
  return charged_;
}

void DatagramQueue::Clear() {
  std::deque<RefPtr<Chunk>> dropped;
  base::MutexLock lock(mu_);
  for (auto& datagram : queue_) {
    if (datagram->rights != nullptr) datagram->rights->queued.store(false, std::memory_order_release);
  }
  dropped.swap(queue_);
  charged_ = 0;
}

void DatagramQueue::Close() {
  {
    base::MutexLock lock(mu_);
    closed_ = true;
  }
  Clear();
}

void DatagramQueue::CollectRights(std::vector<RefPtr<Rights>>& out) const {
  base::MutexLock lock(mu_);
  for (const auto& datagram : queue_) {
    if (datagram->rights != nullptr) out.push_back(datagram->rights);
  }
}

Result<RefPtr<Chunk>> CopyDatagram(IoBuffer& from) {
  size_t length = from.remaining();
  if (!base::ChargedMemory::Admit().ok()) return Errno(ENOBUFS);  // sock_alloc_send_pskb
  auto chunk = base::MakeRef<Chunk>(length);
  if (length != 0) {
    size_t copied = TRY(from.CopyIn(std::span<std::byte>(chunk->data(), length)));
    if (copied != length) return Errno(EFAULT);
  }
  chunk->end = length;
  return chunk;
}

Result<size_t> DeliverDatagram(Chunk& datagram, IncomingMessage& message) {
  size_t length = std::min(datagram.size(), message.data.remaining());
  if (length != 0) {
    size_t copied = TRY(message.data.CopyOut(datagram.span().first(length)));
    if (copied != length) return Errno(EFAULT);
  }
  if (length < datagram.size()) message.out_flags |= MSG_TRUNC;
  return (message.flags & MSG_TRUNC) != 0 ? datagram.size() : length;
}

}  // namespace sentry

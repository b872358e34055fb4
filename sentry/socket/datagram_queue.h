// DatagramQueue: what was sent to a datagram socket and not received yet.
#ifndef SENTRY_SOCKET_DATAGRAM_QUEUE_H_
#define SENTRY_SOCKET_DATAGRAM_QUEUE_H_

#include <deque>

#include "base/mutex.h"
#include "sentry/socket/socket.h"

namespace sentry {

class DatagramQueue {
 public:
  ~DatagramQueue() { Clear(); }
  // False, and the datagram stays the caller's: full or closed. `limit` bytes (an empty queue takes anything),
  // `max_count` datagrams.
  bool Push(RefPtr<Chunk>& datagram, size_t limit, size_t max_count) EXCLUDES(mu_);
  // Null if there is none.
  RefPtr<Chunk> Pop(bool peek) EXCLUDES(mu_);
  bool empty() const EXCLUDES(mu_);
  size_t count() const EXCLUDES(mu_);
  size_t FirstSize() const EXCLUDES(mu_);
  size_t charged() const EXCLUDES(mu_);
  void Clear() EXCLUDES(mu_);
  // Clear, and nothing comes in any more.
  void Close() EXCLUDES(mu_);
  void CollectRights(std::vector<RefPtr<Rights>>& out) const EXCLUDES(mu_);

 private:
  mutable base::Mutex mu_;
  std::deque<RefPtr<Chunk>> queue_ GUARDED_BY(mu_);
  size_t charged_ GUARDED_BY(mu_) = 0;
  bool closed_ GUARDED_BY(mu_) = false;
};

// The sender's bytes as a chunk. EFAULT.
Result<RefPtr<Chunk>> CopyDatagram(IoBuffer& from);
// Hands a datagram's bytes to a receiver: MSG_TRUNC in out_flags if it does not fit, the whole length if the caller
// said MSG_TRUNC.
Result<size_t> DeliverDatagram(Chunk& datagram, IncomingMessage& message);

}  // namespace sentry

#endif  // SENTRY_SOCKET_DATAGRAM_QUEUE_H_

// AcceptQueue: the connections of a listening socket that nobody has accepted yet. Guarded by the listener's lock.
#ifndef SENTRY_SOCKET_ACCEPT_QUEUE_H_
#define SENTRY_SOCKET_ACCEPT_QUEUE_H_

#include <deque>
#include <utility>

#include "base/ref_ptr.h"

namespace sentry {

template <typename Endpoint>
class AcceptQueue {
 public:
  using Waiting = std::deque<base::RefPtr<Endpoint>>;

  // What listen(2) asked for. A negative one is the most there is, for Linux compares it unsigned (__sys_listen).
  void SetBacklog(int backlog) { backlog_ = static_cast<unsigned>(backlog) > kMaxBacklog ? kMaxBacklog : backlog; }
  int backlog() const { return backlog_; }

  // One more than the backlog fits (sk_acceptq_is_full).
  bool full() const { return waiting_.size() > static_cast<size_t>(backlog_); }
  bool empty() const { return waiting_.empty(); }
  size_t size() const { return waiting_.size(); }
  const Waiting& waiting() const { return waiting_; }

  void Push(base::RefPtr<Endpoint> connection) { waiting_.push_back(std::move(connection)); }
  // The oldest; null if there is none.
  base::RefPtr<Endpoint> Pop() {
    if (waiting_.empty()) return nullptr;
    base::RefPtr<Endpoint> oldest = std::move(waiting_.front());
    waiting_.pop_front();
    return oldest;
  }
  // All of them, for the end of the listener.
  Waiting TakeAll() { return std::exchange(waiting_, {}); }

 private:
  static constexpr int kMaxBacklog = 4096;  // net.core.somaxconn
  int backlog_ = 0;
  Waiting waiting_;
};

}  // namespace sentry

#endif  // SENTRY_SOCKET_ACCEPT_QUEUE_H_

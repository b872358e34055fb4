// Connection: two bounded queues between two connected sockets (UNIX stream and seqpacket, loopback TCP).
//
// Locking: mu_ guards everything, for sections that move pointers. Data is copied from and to guest memory outside of
// it: a writer fills a chunk nobody else knows and links it, a reader copies from the head chunk, which only it may
// remove. write_lock and read_lock (fiber locks, one per direction) order several writers and several readers. Order:
// read_lock or write_lock, then mu_. The events of both sides are notified after mu_ is released.
#ifndef SENTRY_SOCKET_CONNECTION_H_
#define SENTRY_SOCKET_CONNECTION_H_

#include <deque>

#include "base/fiber_lock.h"
#include "base/mutex.h"
#include "sentry/socket/socket.h"

namespace sentry {

class Connection final : public base::RefCounted {
 public:
  // What differs: what the end of one side means to the other (net/unix/af_unix.c, net/ipv4/tcp.c), and whether data
  // has boundaries.
  enum class Kind { kUnixStream, kUnixPackets, kTcp };
  Connection(Kind kind, RefPtr<SocketEvents> side0, RefPtr<SocketEvents> side1);
  ~Connection() override;

  // `limit`: bytes on the way from this side.
  void SetSendLimit(int side, size_t limit) EXCLUDES(mu_);
  // `bytes`: this side's SO_RCVBUF. What is queued for it beyond that has not arrived, as Linux sees it (Delivered).
  void SetWindow(int side, size_t bytes) EXCLUDES(mu_);
  // Whether messages to this side are stamped with the sender's identity. Both sides' wishes count.
  void SetPassCredentials(int side, bool on) { pass_credentials_[side].store(on, std::memory_order_relaxed); }
  // SO_OOBINLINE of this side.
  void SetUrgentInline(int side, bool on) { urgent_inline_[side].store(on, std::memory_order_relaxed); }
  bool AtMark(int side) EXCLUDES(mu_);  // SIOCATMARK
  void SetLowWater(int side, size_t bytes) { low_water_[side].store(bytes, std::memory_order_relaxed); }

  // EAGAIN: full, or fewer than all for a packet. EPIPE, ECONNRESET, EMSGSIZE. A stream takes what fits.
  Result<size_t> Send(int side, OutgoingMessage& message, const SenderId& sender);
  // 0 at the end. EAGAIN. MSG_PEEK, MSG_TRUNC as recv(2) has them for this kind.
  Result<size_t> Receive(int side, IncomingMessage& message);
  // SHUT_RD, SHUT_WR, SHUT_RDWR. ENOTCONN when it is over.
  Result<void> Shutdown(int side, int how);
  // The socket is gone. `abort`: the peer gets ECONNRESET (SO_LINGER with no time; a connection that nobody accepted).
  void Close(int side, bool abort = false);

  base::EventMask Readiness(int side) EXCLUDES(mu_);
  size_t ReadableBytes(int side) EXCLUDES(mu_);  // packets: the first one's
  size_t UnreadByPeer(int side) EXCLUDES(mu_);
  int TakeError(int side) EXCLUDES(mu_);
  bool Over(int side) EXCLUDES(mu_);  // reset, or closed on both sides (kernel: TCP_CLOSE)
  // What close(2) waits for with SO_LINGER: this side is closed, and what it sent has arrived or never will. True as
  // well while it is not closed. Events of the closed side tell kSocketWritable when this may have become true.
  bool Delivered(int side) EXCLUDES(mu_);
  bool FinSent(int side) EXCLUDES(mu_);  // for tcp_info's and /proc/net/tcp's state
  bool FinReceived(int side) EXCLUDES(mu_);
  void CollectQueuedRights(int side, std::vector<RefPtr<Rights>>& out) EXCLUDES(mu_);
  void PurgeQueue(int side) EXCLUDES(mu_);
  struct Counters {
    uint64_t sent = 0, received = 0;
  };
  Counters counters(int side) EXCLUDES(mu_);

 private:
  // What one side is to read, and its state.
  struct Side {
    std::deque<RefPtr<Chunk>> queue;
    size_t bytes = 0;                              // in the queue, for readers
    size_t charged = 0;                            // in the queue, for the limit
    bool receive_shut = false, send_shut = false;  // RCV_SHUTDOWN, SEND_SHUTDOWN
    bool fin_received = false;
    bool closed = false;  // the socket is gone
    bool reset = false;   // TCP_CLOSE by an RST
    int error = 0;
    size_t send_limit = Socket::kDefaultBuffer;
    size_t window = Socket::kDefaultBuffer;
    RefPtr<Chunk> spare;  // an emptied chunk for this side's next message
    uint64_t received = 0;
    // The latest out-of-band byte: a mark in the queue, at which reads stop. Read by MSG_OOB it stays as the mark
    // alone.
    RefPtr<Chunk> urgent;
    bool urgent_read = false;
  };
  // The bytes that a read without MSG_OOB can get.
  size_t NormalBytesLocked(int side) const REQUIRES(mu_) {
    const Side& s = sides_[side];
    return s.bytes - (s.urgent != nullptr && !UrgentInline(side) ? 1 : 0);
  }
  bool UrgentInline(int side) const { return urgent_inline_[side].load(std::memory_order_relaxed); }
  Result<size_t> ReceiveUrgent(int side, IncomingMessage& message);
  void PopLocked(Side& self, RefPtr<Chunk>& chunk, RefPtr<Chunk>& dropped) REQUIRES(mu_);
  static constexpr int Other(int side) { return 1 - side; }
  bool packets() const { return kind_ == Kind::kUnixPackets; }
  size_t LimitLocked(int side) const REQUIRES(mu_) { return LimitUnderPressure(sides_[side].send_limit); }
  bool WritableLocked(int side) const REQUIRES(mu_);
  // Why this side cannot send; 0 if it can. Takes the pending error.
  int SendErrorLocked(int side) REQUIRES(mu_);
  Result<size_t> SendStream(int side, OutgoingMessage& message, const SenderId& sender, bool stamp);
  Result<size_t> SendPacket(int side, OutgoingMessage& message, const SenderId& sender, bool stamp);
  Result<size_t> ReceiveStream(int side, IncomingMessage& message);
  Result<size_t> ReceivePacket(int side, IncomingMessage& message);
  // The empty queue's answer: error, end, or EAGAIN.
  Result<size_t> NothingToRead(Side& s) REQUIRES(mu_);
  Result<RefPtr<Chunk>> TakeChunk(int side, size_t capacity) EXCLUDES(mu_);
  void Notify(int side, base::EventMask events) { events_[side]->queue.Notify(events); }

  const Kind kind_;
  const RefPtr<SocketEvents> events_[2];
  base::FiberMutex write_lock_[2], read_lock_[2];
  base::Mutex mu_;
  Side sides_[2] GUARDED_BY(mu_);
  std::atomic<bool> pass_credentials_[2]{};
  std::atomic<bool> urgent_inline_[2]{};
  std::atomic<size_t> low_water_[2]{1, 1};
};

}  // namespace sentry

#endif  // SENTRY_SOCKET_CONNECTION_H_

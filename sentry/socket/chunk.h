// Chunk: a piece of data in a socket's queue, copied from the sender's memory before any lock is taken. Queued bytes of
// all sockets of the sandbox are counted; when there are too many, every queue may hold little more than a page
// (kernel: tcp_mem, sk_under_memory_pressure).
#ifndef SENTRY_SOCKET_CHUNK_H_
#define SENTRY_SOCKET_CHUNK_H_

#include <cstddef>
#include <memory>
#include <span>

#include "base/ref_ptr.h"
#include "sentry/socket/rights.h"
#include "sentry/socket/socket_address.h"

namespace sentry {

// Who sent it, for SCM_CREDENTIALS. What nobody stamped is from nobody (kernel: overflowuid).
struct SenderId {
  int32_t pid = 0;
  uint32_t uid = 65534, gid = 65534;
  friend bool operator==(const SenderId&, const SenderId&) = default;
};

class Chunk final : public base::RefCounted {
 public:
  static constexpr size_t kSmall = 4096 - 128;
  static constexpr size_t kMaxPiece = 64 << 10;  // of a byte stream; a packet is one chunk
  static constexpr size_t kOverhead = 512;  // what a packet counts beyond its bytes, so that empty ones are bounded too

  explicit Chunk(size_t capacity);
  ~Chunk() override;
  size_t capacity() const { return capacity_; }
  std::byte* data() { return data_.get(); }
  size_t size() const { return end - begin; }
  size_t room() const { return capacity_ - end; }
  std::span<std::byte> span() { return {data_.get() + begin, size()}; }

  // The queue's lock guards these once it is in a queue; bytes in [begin, end) do not change any more.
  size_t begin = 0, end = 0;
  SenderId sender;
  RefPtr<Rights> rights;
  std::unique_ptr<SocketAddress> from;  // datagrams
  std::unique_ptr<SocketAddress> to;    // datagrams: where it was sent (IP_PKTINFO)
  int64_t timestamp_ns = 0;             // datagrams
  uint8_t tos = 0, ttl = 64;
  bool urgent = false;  // a stream's: one byte of out-of-band data, alone

 private:
  const size_t capacity_;
  std::unique_ptr<std::byte[]> data_;
};

// Bytes in the chunks of all sockets.
int64_t QueuedBytes();
// `limit`, or what is left of it when the sandbox holds too much already. Never zero: everybody makes progress.
size_t LimitUnderPressure(size_t limit);

}  // namespace sentry

#endif  // SENTRY_SOCKET_CHUNK_H_

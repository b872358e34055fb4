#include "sentry/socket/connection.h"

#include <algorithm>
#include <utility>

namespace sentry {
namespace {

constexpr uint8_t kReceiveBit = 1, kSendBit = 2;

}  // namespace

Connection::Connection(Kind kind, RefPtr<SocketEvents> side0, RefPtr<SocketEvents> side1)
    : kind_(kind), events_{std::move(side0), std::move(side1)} {}

Connection::~Connection() {
  for (Side& side : sides_) {
    for (auto& chunk : side.queue) {
      if (chunk->rights != nullptr) chunk->rights->queued.store(false, std::memory_order_release);
    }
  }
}

void Connection::SetSendLimit(int side, size_t limit) {
  base::MutexLock lock(mu_);
  sides_[side].send_limit = limit;
}

void Connection::SetWindow(int side, size_t bytes) {
  base::MutexLock lock(mu_);
  sides_[side].window = bytes;
}

// unix_writable(): at most a quarter is used; sk_stream_is_writeable(): at least a third is free.
bool Connection::WritableLocked(int side) const {
  size_t used = sides_[Other(side)].charged, limit = LimitLocked(side);
  return kind_ == Kind::kTcp ? used <= limit / 3 * 2 : used <= limit / 4;
}

int Connection::SendErrorLocked(int side) {
  Side& self = sides_[side];
  const Side& peer = sides_[Other(side)];
  if (kind_ == Kind::kTcp) {
    if (self.error != 0) return std::exchange(self.error, 0);
    return self.send_shut ? EPIPE : 0;
  }
  if (self.send_shut || peer.closed || peer.receive_shut) return EPIPE;
  return std::exchange(self.error, 0);
}

// Differs from Linux: TCP waits when there is no memory (sk_stream_wait_memory).
Result<RefPtr<Chunk>> Connection::TakeChunk(int side, size_t capacity) {
  {
    base::MutexLock lock(mu_);
    RefPtr<Chunk>& spare = sides_[Other(side)].spare;
    if (spare != nullptr && spare->capacity() >= capacity) return std::exchange(spare, nullptr);
  }
  if (!base::ChargedMemory::Admit().ok()) return Errno(ENOBUFS);
  return base::MakeRef<Chunk>(std::max(capacity, Chunk::kSmall));
}

Result<size_t> Connection::Send(int side, OutgoingMessage& message, const SenderId& sender) {
  bool stamp = message.sender.has_value() || pass_credentials_[0].load(std::memory_order_relaxed) ||
               pass_credentials_[1].load(std::memory_order_relaxed);
  return packets() ? SendPacket(side, message, sender, stamp) : SendStream(side, message, sender, stamp);
}

Result<size_t> Connection::SendStream(int side, OutgoingMessage& message, const SenderId& sender, bool stamp) {
  base::FiberMutexLock writing(write_lock_[side]);
  SenderId id = stamp ? message.sender.value_or(sender) : SenderId{};
  size_t total = 0;
  // man 7 tcp: the last byte is the out-of-band one.
  const bool urgent = (message.flags & MSG_OOB) != 0;
  auto only_urgent_left = [&] { return urgent && message.data.remaining() == 1; };
  do {
    size_t free;
    RefPtr<Chunk> tail;  // the last chunk if it may be appended to
    {
      base::MutexLock lock(mu_);
      if (int error = SendErrorLocked(side); error != 0) {
        if (total != 0) break;
        return Errno(error);
      }
      if (message.data.remaining() == 0) return total;  // nothing is sent, descriptors neither
      Side& peer = sides_[Other(side)];
      size_t limit = LimitLocked(side);
      free = peer.charged < limit ? limit - peer.charged : 0;
      if (!peer.queue.empty() && message.rights == nullptr) {
        Chunk& last = *peer.queue.back();
        if (last.rights == nullptr && last.sender == id && last.room() != 0 && !last.urgent && !only_urgent_left())
          tail = peer.queue.back();
      }
    }
    if (free == 0) break;
    const bool is_urgent = only_urgent_left();
    const size_t left = message.data.remaining() - (urgent && !is_urgent ? 1 : 0);
    size_t wanted = std::min({free, left, Chunk::kMaxPiece});
    // Only the writer makes `end` larger, so that the room stays what it is.
    if (tail != nullptr && tail->room() < std::min(wanted, Chunk::kSmall)) tail = nullptr;
    RefPtr<Chunk> chunk = tail;
    if (chunk == nullptr) {
      Result<RefPtr<Chunk>> fresh = TakeChunk(side, wanted);
      if (!fresh.ok() && total != 0) break;
      chunk = TRY(std::move(fresh));
    }
    wanted = std::min(wanted, chunk->room());
    auto copied = message.data.CopyIn(std::span<std::byte>(chunk->data() + chunk->end, wanted));
    if (!copied.ok() || *copied == 0) {
      if (total != 0) break;
      return copied.ok() ? Errno(EFAULT) : copied.error();
    }
    bool discard = false;
    RefPtr<Chunk> old_urgent;  // dropped without the lock
    {
      base::MutexLock lock(mu_);
      Side& self = sides_[side];
      Side& peer = sides_[Other(side)];
      if (kind_ == Kind::kTcp && peer.closed) {
        // Nobody there: the data goes, and a reset comes back (tcp_reset: EPIPE in CLOSE_WAIT).
        discard = true;
        if (!self.reset) {
          self.error = EPIPE;
          self.reset = self.receive_shut = self.send_shut = true;
        }
      } else if (int error = SendErrorLocked(side); error != 0) {
        message.data.Revert(*copied);
        if (total != 0) {
          if (kind_ == Kind::kTcp && error != EPIPE) self.error = error;
          break;
        }
        return Errno(error);
      } else {
        if (tail == nullptr || peer.queue.empty() || peer.queue.back() != chunk) {
          // A tail that the reader took away meanwhile comes back with what is new only.
          if (tail != nullptr) chunk->begin = chunk->end;
          chunk->sender = id;
          if (message.rights != nullptr) {
            message.rights->queued.store(true, std::memory_order_release);
            chunk->rights = std::move(message.rights);
          }
          if (is_urgent) {
            // An earlier one that nobody has read is a byte like others from here on.
            chunk->urgent = true;
            old_urgent = std::exchange(peer.urgent, chunk);
            peer.urgent_read = false;
          }
          peer.queue.push_back(chunk);
        }
        chunk->end += *copied;
        peer.bytes += *copied;
        peer.charged += *copied;
        peer.received += *copied;
      }
    }
    total += *copied;
    if (discard) {
      Notify(side, kSocketReadable | kSocketWritable | base::kEventErr | base::kEventHup | base::kEventRdHup);
      break;
    }
    Notify(Other(side), kSocketReadable | (is_urgent ? base::kEventPri : 0));
    if (*copied < wanted) break;  // the rest of the buffer cannot be read
  } while (message.data.remaining() != 0);
  if (total == 0) return Errno(EAGAIN);
  return total;
}

Result<size_t> Connection::SendPacket(int side, OutgoingMessage& message, const SenderId& sender, bool stamp) {
  base::FiberMutexLock writing(write_lock_[side]);
  size_t length = message.data.remaining();
  {
    base::MutexLock lock(mu_);
    if (int error = SendErrorLocked(side); error != 0) return Errno(error);
    if (length > sides_[side].send_limit - 32) return Errno(EMSGSIZE);
    // sock_alloc_send_pskb(): a packet goes as long as the limit is not reached before it.
    if (sides_[Other(side)].charged >= LimitLocked(side)) return Errno(EAGAIN);
  }
  RefPtr<Chunk> chunk = TRY(TakeChunk(side, length));
  if (length != 0) {
    auto copied = message.data.CopyIn(std::span<std::byte>(chunk->data(), length));
    if (!copied.ok()) return copied.error();
    if (*copied != length) return Errno(EFAULT);
  }
  chunk->end = length;
  chunk->sender = stamp ? message.sender.value_or(sender) : SenderId{};
  {
    base::MutexLock lock(mu_);
    if (int error = SendErrorLocked(side); error != 0) return Errno(error);
    Side& peer = sides_[Other(side)];
    if (message.rights != nullptr) {
      message.rights->queued.store(true, std::memory_order_release);
      chunk->rights = std::move(message.rights);
    }
    peer.bytes += length;
    peer.charged += length + Chunk::kOverhead;
    peer.received += length;
    peer.queue.push_back(std::move(chunk));
  }
  Notify(Other(side), kSocketReadable);
  return length;
}

Result<size_t> Connection::NothingToRead(Side& s) {
  if (s.error != 0) return Errno(std::exchange(s.error, 0));
  if (s.receive_shut) return 0;
  return Errno(EAGAIN);
}

Result<size_t> Connection::Receive(int side, IncomingMessage& message) {
  return packets() ? ReceivePacket(side, message) : ReceiveStream(side, message);
}

Result<size_t> Connection::ReceiveStream(int side, IncomingMessage& message) {
  base::FiberMutexLock reading(read_lock_[side]);
  if ((message.flags & MSG_OOB) != 0) return ReceiveUrgent(side, message);
  const bool peek = (message.flags & MSG_PEEK) != 0;
  // tcp(7): MSG_TRUNC throws the bytes away.
  const bool throw_away = kind_ == Kind::kTcp && (message.flags & MSG_TRUNC) != 0;
  const bool glue_all = kind_ == Kind::kTcp || !pass_credentials_[side].load(std::memory_order_relaxed);
  size_t total = 0, index = 0;
  size_t wanted_total = message.data.remaining();
  Errno error(EAGAIN);
  bool became_writable = false, stop = false;
  for (bool first = true; first || total < wanted_total; first = false) {
    RefPtr<Chunk> chunk, skipped;
    size_t begin, length;
    {
      base::MutexLock lock(mu_);
      Side& self = sides_[side];
      if (index >= self.queue.size()) {
        if (total == 0) return NothingToRead(self);
        break;
      }
      if (wanted_total == 0) return 0;
      chunk = self.queue[index];
      if (chunk == self.urgent) {
        if (total != 0) break;  // the mark
        if (!UrgentInline(side)) {
          // Reading on passes over it.
          if (peek) {
            ++index;
          } else {
            PopLocked(self, chunk, skipped);
          }
          continue;
        }
      }
      begin = chunk->begin;
      length = chunk->size();
    }
    if (total != 0) {
      // Descriptors are a boundary on both sides; senders are one when the reader wants to know them
      // (unix_stream_read_generic).
      if (message.rights != nullptr || chunk->rights != nullptr) break;
      if (!glue_all && message.sender != chunk->sender) break;
    }
    length = std::min(length, wanted_total - total);
    size_t moved = length;
    if (!throw_away) {
      auto copied = message.data.CopyOut(std::span<const std::byte>(chunk->data() + begin, length));
      if (!copied.ok()) {
        error = copied.error();
        break;
      }
      moved = *copied;
    }
    total += moved;
    message.sender = chunk->sender;
    RefPtr<Chunk> dropped;
    {
      base::MutexLock lock(mu_);
      Side& self = sides_[side];
      if (chunk->rights != nullptr) {
        if (peek) {
          message.rights = chunk->rights;
        } else {
          chunk->rights->queued.store(false, std::memory_order_release);
          message.rights = std::move(chunk->rights);
        }
      }
      if (peek) {
        // The writer may have appended to it meanwhile: then this is all for now.
        stop = chunk->begin + moved < chunk->end;
        ++index;
      } else if (!self.queue.empty() && self.queue.front() == chunk) {
        bool was_writable = WritableLocked(Other(side));
        chunk->begin += moved;
        self.bytes -= moved;
        self.charged -= moved;
        if (chunk->size() == 0) {
          self.queue.pop_front();
          if (chunk == self.urgent) self.urgent = nullptr;
          chunk->urgent = false;
          dropped = std::move(self.spare);
          // Only if the writer does not append to it just now: then it has a reference too.
          if (chunk->ref_count() == 1) {
            chunk->begin = chunk->end = 0;
            self.spare = std::move(chunk);
          }
        }
        if (!was_writable && WritableLocked(Other(side))) became_writable = true;
        if (sides_[Other(side)].closed && self.charged <= self.window) became_writable = true;  // it may linger
      }
    }
    if (stop || moved < length) break;
  }
  if (became_writable) Notify(Other(side), kSocketWritable);
  if (total == 0) return error;
  return total;
}

// The head of the queue goes, unread.
void Connection::PopLocked(Side& self, RefPtr<Chunk>& chunk, RefPtr<Chunk>& dropped) {
  self.bytes -= chunk->size();
  self.charged -= chunk->size();
  if (chunk == self.urgent) dropped = std::move(self.urgent);
  self.queue.pop_front();
}

// tcp_recv_urg, unix_stream_recv_urg.
Result<size_t> Connection::ReceiveUrgent(int side, IncomingMessage& message) {
  RefPtr<Chunk> chunk;
  {
    base::MutexLock lock(mu_);
    Side& self = sides_[side];
    if (UrgentInline(side) || self.urgent == nullptr || self.urgent_read) return Errno(EINVAL);
    chunk = self.urgent;
  }
  message.out_flags |= MSG_OOB;
  if (message.data.remaining() == 0) {
    message.out_flags |= MSG_TRUNC;
    return 0;
  }
  TRY(message.data.CopyOut(std::span<const std::byte>(chunk->data() + chunk->begin, 1)));
  if ((message.flags & MSG_PEEK) == 0) {
    base::MutexLock lock(mu_);
    if (sides_[side].urgent == chunk) sides_[side].urgent_read = true;
  }
  return 1;
}

bool Connection::AtMark(int side) {
  base::MutexLock lock(mu_);
  const Side& self = sides_[side];
  return self.urgent != nullptr && !self.queue.empty() && self.queue.front() == self.urgent;
}

Result<size_t> Connection::ReceivePacket(int side, IncomingMessage& message) {
  base::FiberMutexLock reading(read_lock_[side]);
  const bool peek = (message.flags & MSG_PEEK) != 0;
  RefPtr<Chunk> chunk;
  bool became_writable = false;
  {
    base::MutexLock lock(mu_);
    Side& self = sides_[side];
    if (self.queue.empty()) return NothingToRead(self);
    chunk = self.queue.front();
    if (chunk->rights != nullptr) {
      message.rights = chunk->rights;
      if (!peek) chunk->rights->queued.store(false, std::memory_order_release);
    }
    if (!peek) {
      bool was_writable = WritableLocked(Other(side));
      self.queue.pop_front();
      self.bytes -= chunk->size();
      self.charged -= chunk->size() + Chunk::kOverhead;
      became_writable = !was_writable && WritableLocked(Other(side));
    }
  }
  if (became_writable) Notify(Other(side), kSocketWritable);
  message.sender = chunk->sender;
  message.out_flags |= MSG_EOR;
  size_t length = std::min(chunk->size(), message.data.remaining());
  if (length != 0) {
    auto copied = message.data.CopyOut(std::span<const std::byte>(chunk->data() + chunk->begin, length));
    if (!copied.ok()) return copied.error();
    if (*copied != length) return Errno(EFAULT);
  }
  if (length < chunk->size()) message.out_flags |= MSG_TRUNC;
  return (message.flags & MSG_TRUNC) != 0 ? chunk->size() : length;
}

Result<void> Connection::Shutdown(int side, int how) {
  if (how < SHUT_RD || how > SHUT_RDWR) return Errno(EINVAL);
  uint8_t bits = static_cast<uint8_t>(how + 1);
  base::EventMask own = 0, others = 0;
  {
    base::MutexLock lock(mu_);
    Side& self = sides_[side];
    Side& peer = sides_[Other(side)];
    if (kind_ == Kind::kTcp && (self.reset || (self.fin_received && self.send_shut && peer.closed)))
      return Errno(ENOTCONN);
    if ((bits & kReceiveBit) != 0 && !self.receive_shut) {
      self.receive_shut = true;
      own |= kSocketReadable | base::kEventRdHup;
      // UNIX tells the writer; TCP does not.
      if (kind_ != Kind::kTcp) {
        peer.send_shut = true;
        others |= kSocketWritable;
      }
    }
    if ((bits & kSendBit) != 0 && !self.send_shut) {
      self.send_shut = true;
      own |= kSocketWritable;
      peer.fin_received = peer.receive_shut = true;
      others |= kSocketReadable | base::kEventRdHup;
    }
    if (self.send_shut && self.receive_shut) own |= base::kEventHup;
    if (peer.send_shut && peer.receive_shut) others |= base::kEventHup;
  }
  if (own != 0) Notify(side, own);
  if (others != 0) Notify(Other(side), others);
  return {};
}

void Connection::Close(int side, bool abort) {
  std::deque<RefPtr<Chunk>> unread;
  RefPtr<Chunk> spare, urgent;
  base::EventMask events = 0;
  {
    base::MutexLock lock(mu_);
    Side& self = sides_[side];
    Side& peer = sides_[Other(side)];
    if (self.closed) return;
    self.closed = true;
    for (auto& chunk : self.queue) {
      if (chunk->rights != nullptr) chunk->rights->queued.store(false, std::memory_order_release);
    }
    unread.swap(self.queue);
    self.bytes = self.charged = 0;
    urgent = std::move(self.urgent);
    spare = std::move(self.spare);
    const bool lost = !unread.empty();
    if (!peer.closed && !peer.reset) {
      if (kind_ == Kind::kTcp) {
        if (lost || abort) {
          peer.error = peer.fin_received ? EPIPE : ECONNRESET;
          peer.reset = peer.receive_shut = peer.send_shut = true;
          events = base::kEventErr | base::kEventHup;
        } else {
          peer.fin_received = peer.receive_shut = true;
        }
      } else {
        peer.fin_received = peer.receive_shut = peer.send_shut = true;
        if (lost || abort) peer.error = ECONNRESET;
        events = base::kEventHup | (lost || abort ? base::kEventErr : 0);
      }
      if (peer.send_shut) events |= base::kEventHup;
      events |= kSocketReadable | kSocketWritable | base::kEventRdHup;
    }
    if (peer.closed) events |= kSocketWritable;  // it may linger
  }
  if (events != 0) Notify(Other(side), events);
}

base::EventMask Connection::Readiness(int side) {
  base::MutexLock lock(mu_);
  const Side& self = sides_[side];
  base::EventMask events = 0;
  const bool over =
      self.reset || (kind_ == Kind::kTcp && self.fin_received && self.send_shut && sides_[Other(side)].closed);
  if (self.error != 0) events |= base::kEventErr;
  if ((self.receive_shut && self.send_shut) || over) events |= base::kEventHup;
  if (self.receive_shut) events |= kSocketReadable | base::kEventRdHup;
  const size_t bytes = packets() ? 0 : NormalBytesLocked(side);
  if (packets() ? !self.queue.empty()
                : bytes != 0 && (kind_ != Kind::kTcp || bytes >= low_water_[side].load(std::memory_order_relaxed))) {
    events |= kSocketReadable;
  }
  if (self.urgent != nullptr && !self.urgent_read) events |= base::kEventPri;
  if (self.send_shut && kind_ == Kind::kTcp) {
    events |= kSocketWritable;
  } else if (WritableLocked(side)) {
    events |= kSocketWritable;
    if (kind_ != Kind::kTcp) events |= base::kEventWrBand;
  }
  return events;
}

size_t Connection::ReadableBytes(int side) {
  base::MutexLock lock(mu_);
  const Side& self = sides_[side];
  if (!packets()) return NormalBytesLocked(side);
  return self.queue.empty() ? 0 : self.queue.front()->size();
}

size_t Connection::UnreadByPeer(int side) {
  base::MutexLock lock(mu_);
  return kind_ == Kind::kTcp ? 0 : sides_[Other(side)].charged;
}

int Connection::TakeError(int side) {
  base::MutexLock lock(mu_);
  return std::exchange(sides_[side].error, 0);
}

bool Connection::Over(int side) {
  base::MutexLock lock(mu_);
  const Side& self = sides_[side];
  return self.reset || (self.fin_received && self.send_shut && sides_[Other(side)].closed);
}

bool Connection::Delivered(int side) {
  base::MutexLock lock(mu_);
  const Side& self = sides_[side];
  const Side& peer = sides_[Other(side)];
  return !self.closed || self.reset || peer.closed || peer.reset || peer.charged <= peer.window;
}

bool Connection::FinSent(int side) {
  base::MutexLock lock(mu_);
  return sides_[side].send_shut;
}

bool Connection::FinReceived(int side) {
  base::MutexLock lock(mu_);
  return sides_[side].fin_received;
}

void Connection::CollectQueuedRights(int side, std::vector<RefPtr<Rights>>& out) {
  base::MutexLock lock(mu_);
  for (const auto& chunk : sides_[side].queue) {
    if (chunk->rights != nullptr) out.push_back(chunk->rights);
  }
}

void Connection::PurgeQueue(int side) {
  std::deque<RefPtr<Chunk>> dropped;
  RefPtr<Chunk> urgent;
  base::MutexLock lock(mu_);
  urgent = std::move(sides_[side].urgent);
  for (auto& chunk : sides_[side].queue) {
    if (chunk->rights != nullptr) chunk->rights->queued.store(false, std::memory_order_release);
  }
  dropped.swap(sides_[side].queue);
  sides_[side].bytes = sides_[side].charged = 0;
}

Connection::Counters Connection::counters(int side) {
  base::MutexLock lock(mu_);
  return {sides_[Other(side)].received, sides_[side].received};
}

}  // namespace sentry

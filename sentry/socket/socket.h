// Socket: the file description that socket(2) makes (kernel: struct socket and struct sock in one). A family implements
// the operations; none of them waits: they return EAGAIN (EINPROGRESS for connect), and the system call layer waits on
// `wait_on`, or on the socket's own queue when that is not set, and tries again.
//
// What others keep of a socket (a port, a name, the other end of a connection) is never the socket itself but its
// SocketEvents or an object of the family, so that the last descriptor's end is the socket's end.
#ifndef SENTRY_SOCKET_SOCKET_H_
#define SENTRY_SOCKET_SOCKET_H_

#include <sys/socket.h>

#include <atomic>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/mutex.h"
#include "base/time.h"
#include "base/wait_queue.h"
#include "sentry/socket/chunk.h"
#include "sentry/socket/rights.h"
#include "sentry/socket/socket_address.h"
#include "sentry/vfs/file_description.h"

namespace sentry {

// What poll(2) shows of a socket with something to read, and of one with room.
inline constexpr base::EventMask kSocketReadable = base::kEventIn | base::kEventRdNorm;
inline constexpr base::EventMask kSocketWritable = base::kEventOut | base::kEventWrNorm;

// Outlives the socket for as long as a peer may notify it.
struct SocketEvents final : public base::RefCounted {
  base::WaitQueue queue;
};

// A control message: cmsg level, type and data. SCM_RIGHTS and SCM_CREDENTIALS have fields of their own.
struct ControlMessage {
  int level, type;
  std::string data;
};

struct OutgoingMessage {
  IoBuffer& data;
  int flags = 0;                        // MSG_*
  const SocketAddress* to = nullptr;    // null: to the connected peer
  RefPtr<Rights> rights;                // consumed by the first bytes that go
  std::optional<SenderId> sender;       // an explicit SCM_CREDENTIALS, already checked
  std::vector<ControlMessage> control;  // of internet sockets: what is not SOL_SOCKET's
  VfsContext* ctx = nullptr;            // for names of files; null: EINVAL for those
  // Out, with EAGAIN: what to wait on instead of the socket itself.
  RefPtr<SocketEvents> wait_on;
};

struct IncomingMessage {
  IoBuffer& data;
  int flags = 0;  // MSG_* of the caller
  bool wants_from = false;
  // Out.
  int out_flags = 0;  // MSG_TRUNC, MSG_EOR, …
  std::optional<SocketAddress> from;
  RefPtr<Rights> rights;
  std::optional<SenderId> sender;
  std::vector<ControlMessage> control;
};

class Socket : public FileDescription {
 public:
  // SO_RCVBUF and SO_SNDBUF (net.core.{r,w}mem_{default,max}; SOCK_MIN_{RCV,SND}BUF). Values as getsockopt shows them:
  // doubled.
  static constexpr int kDefaultBuffer = 212992, kMaxBuffer = 212992, kMinReceive = 2304, kMinSend = 4608;

  Socket(int family, int type, int protocol, uint32_t file_flags, const Credentials* creds);
  ~Socket() override;
  int family() const { return family_; }
  int type() const { return type_; }
  int protocol() const { return protocol_; }
  // ENFILE beyond what the sandbox may have; asked before one is made.
  static Result<void> CheckCount();

  // --- The family's.
  virtual Result<void> Bind(VfsContext& ctx, const SocketAddress& address) { return Errno(EOPNOTSUPP); }
  // EINPROGRESS: started; the socket becomes writable when it is done, and SO_ERROR tells how it went. EAGAIN with
  // *wait_on set: a blocking caller tries again.
  virtual Result<void> Connect(VfsContext& ctx, const SocketAddress& address, RefPtr<SocketEvents>* wait_on) {
    return Errno(EOPNOTSUPP);
  }
  virtual Result<void> Listen(VfsContext& ctx, int backlog) { return Errno(EOPNOTSUPP); }
  virtual Result<RefPtr<Socket>> Accept(VfsContext& ctx, uint32_t file_flags, SocketAddress* peer) {
    return Errno(EOPNOTSUPP);
  }
  virtual Result<size_t> Send(OutgoingMessage& message) = 0;
  // The bytes put into message.data; with MSG_TRUNC among the caller's flags the length of the whole packet.
  virtual Result<size_t> Receive(IncomingMessage& message) = 0;
  virtual Result<void> Shutdown(int how) { return Errno(EOPNOTSUPP); }
  virtual Result<SocketAddress> Name() = 0;
  virtual Result<SocketAddress> PeerName() { return Errno(ENOTCONN); }
  // The generic SOL_SOCKET options are here; families add theirs and call these for the rest. ENOPROTOOPT. The value is
  // at most `max` bytes, cut by the caller if longer.
  virtual Result<std::string> GetOption(VfsContext& ctx, int level, int name);
  virtual Result<void> SetOption(VfsContext& ctx, int level, int name, std::string_view value);
  Result<int64_t> Ioctl(const IoctlArgs& args) override;
  // SIOCINQ/FIONREAD and SIOCOUTQ.
  virtual Result<int> ReadableBytes() { return Errno(ENOTTY); }
  virtual Result<int> UnsentBytes() { return Errno(ENOTTY); }
  // Takes the pending error (sock_error); 0 if there is none.
  virtual int TakeError() { return error_.exchange(0, std::memory_order_acq_rel); }
  virtual bool Listening() { return false; }
  // SIOCATMARK: whether the next byte is the out-of-band one.
  virtual Result<bool> AtMark() { return Errno(ENOTTY); }
  // A buffer size or the like changed.
  virtual void OptionsChanged() {}
  // For the collector of unreachable descriptors: what is in its receive queue, and dropping it.
  virtual void CollectQueuedRights(std::vector<RefPtr<Rights>>& out) {}
  virtual void PurgeQueue() {}

  bool IsStream() const { return type_ == SOCK_STREAM; }
  // --- As a file.
  Result<size_t> Read(IoBuffer& to, const IoFlags& flags) override;
  Result<size_t> Write(IoBuffer& from, const IoFlags& flags) override;
  Result<size_t> PRead(IoBuffer&, int64_t, const IoFlags&) override { return Errno(ESPIPE); }
  Result<size_t> PWrite(IoBuffer&, int64_t, const IoFlags&) override { return Errno(ESPIPE); }
  base::WaitQueue* wait_queue() override { return &events_->queue; }
  bool RaisesSigpipe() const override { return IsStream(); }
  base::MonotonicNs ReadDeadline(base::MonotonicNs started) override { return Deadline(receive_timeout_ns_, started); }
  base::MonotonicNs WriteDeadline(base::MonotonicNs started) override { return Deadline(send_timeout_ns_, started); }
  void OnDescriptorClosed(VfsContext& ctx) override;

  // --- Options that others read.
  int receive_buffer() const { return receive_buffer_.load(std::memory_order_relaxed); }
  int send_buffer() const { return send_buffer_.load(std::memory_order_relaxed); }
  size_t receive_low_water() const { return static_cast<size_t>(low_water_.load(std::memory_order_relaxed)); }
  bool reuse_address() const { return Flag(SO_REUSEADDR); }
  bool reuse_port() const { return Flag(SO_REUSEPORT); }
  bool pass_credentials() const { return Flag(SO_PASSCRED); }
  bool wants_timestamp() const { return timestamp_option_.load(std::memory_order_relaxed) != 0; }
  // Boolean SOL_SOCKET options by number.
  bool Flag(int option) const { return (flags_.load(std::memory_order_relaxed) >> (option & 63)) & 1; }

 protected:
  void SetFlag(int option, bool on);
  // An int option from a guest's bytes: EINVAL if shorter.
  static Result<int> IntValue(std::string_view value);
  static std::string IntBytes(int value) { return std::string(reinterpret_cast<const char*>(&value), sizeof(value)); }
  // Options that change nothing here and are read back as they were set. `initial`: what Linux says before.
  std::string KeptOption(int level, int name, int initial) EXCLUDES(kept_mu_);
  void KeepOption(int level, int name, std::string_view value) EXCLUDES(kept_mu_);
  void AddTimestamp(IncomingMessage& message, int64_t ns) const;

  // What a new connection has from its listener (sk_clone_lock).
  void InheritOptions(const Socket& listener) EXCLUDES(kept_mu_);
  // The identity of the calling task; nobody's outside of tasks.
  static SenderId CurrentSender();

  RefPtr<SocketEvents> events_;  // set once
  std::atomic<int> error_{0};    // SO_ERROR
  std::atomic<int> receive_buffer_{kDefaultBuffer}, send_buffer_{kDefaultBuffer};
  std::atomic<bool> send_buffer_set_{false}, receive_buffer_set_{false};

 private:
  static base::MonotonicNs Deadline(const std::atomic<int64_t>& timeout_ns, base::MonotonicNs started);

  const int family_, type_, protocol_;
  std::atomic<uint64_t> flags_{0};
  std::atomic<int> low_water_{1};
  std::atomic<int> timestamp_option_{0};
  std::atomic<int64_t> receive_timeout_ns_{0}, send_timeout_ns_{0};  // 0: none
  std::atomic<int> linger_seconds_{-1};                              // −1: SO_LINGER is off

 protected:
  int linger_seconds() const { return linger_seconds_.load(std::memory_order_relaxed); }

 private:
  mutable base::Mutex kept_mu_;
  std::map<std::pair<int, int>, std::string> kept_ GUARDED_BY(kept_mu_);
};

}  // namespace sentry

#endif  // SENTRY_SOCKET_SOCKET_H_

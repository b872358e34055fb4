#include "sentry/socket/socket.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include <algorithm>

#include "sentry/kernel/async_signals.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"
#include "sentry/socket/interface_ioctl.h"

#ifndef SO_TIMESTAMP_NEW
#define SO_TIMESTAMP_NEW 63
#define SO_TIMESTAMPNS_NEW 64
#define SO_RCVTIMEO_NEW 66
#define SO_SNDTIMEO_NEW 67
#endif

namespace sentry {
namespace {

constexpr int64_t kMaxSockets = 262144;  // of the sandbox as a whole
std::atomic<int64_t> socket_count{0};

// sock_set_timeout() of net/core/sock.c.
Result<int64_t> TimeoutNs(std::string_view value) {
  abi::Timeval tv;
  if (value.size() < sizeof(tv)) return Errno(EINVAL);
  memcpy(&tv, value.data(), sizeof(tv));
  if (tv.tv_usec < 0 || tv.tv_usec >= 1'000'000) return Errno(EDOM);
  if (tv.tv_sec < 0) return int64_t{1};  // it is over at once
  if (tv.tv_sec == 0 && tv.tv_usec == 0) return int64_t{0};
  if (tv.tv_sec >= INT64_MAX / 1'000'000'000 - 1) return int64_t{0};
  return tv.tv_sec * 1'000'000'000 + tv.tv_usec * 1000;
}

std::string TimeoutBytes(int64_t ns) {
  abi::Timeval tv{ns / 1'000'000'000, ns % 1'000'000'000 / 1000};
  return std::string(reinterpret_cast<const char*>(&tv), sizeof(tv));
}

}  // namespace

Socket::Socket(int family, int type, int protocol, uint32_t file_flags, const Credentials* creds)
    : FileDescription(NewAnonymousPath("socket:", S_IFSOCK | 0777, creds), O_RDWR | file_flags),
      events_(base::MakeRef<SocketEvents>()),
      family_(family),
      type_(type),
      protocol_(protocol) {
  socket_count.fetch_add(1, std::memory_order_relaxed);
}

Socket::~Socket() { socket_count.fetch_sub(1, std::memory_order_relaxed); }

Result<void> Socket::CheckCount() {
  if (socket_count.load(std::memory_order_relaxed) >= kMaxSockets) return Errno(ENFILE);
  return base::ChargedMemory::Admit();
}

Result<size_t> Socket::Read(IoBuffer& to, const IoFlags&) {
  // sock_recvmsg with no bytes asked for still takes a packet; a stream gives nothing.
  if (IsStream() && to.remaining() == 0) return 0;
  IncomingMessage message{.data = to};
  return Receive(message);
}

Result<size_t> Socket::Write(IoBuffer& from, const IoFlags&) {
  OutgoingMessage message{.data = from};
  return Send(message);
}

void Socket::OnDescriptorClosed(VfsContext& ctx) {
  FileDescription::OnDescriptorClosed(ctx);
  if (FilesInFlight() != 0) CollectUnreachableSockets(this);
}

SenderId Socket::CurrentSender() {
  Task* task = Task::Current();
  if (task == nullptr) return {};
  return {task->thread_group().pid(), task->creds().ruid, task->creds().rgid};
}

base::MonotonicNs Socket::Deadline(const std::atomic<int64_t>& timeout_ns, base::MonotonicNs started) {
  int64_t ns = timeout_ns.load(std::memory_order_relaxed);
  return ns == 0 || ns > base::kNever - started ? base::kNever : started + ns;
}

void Socket::SetFlag(int option, bool on) {
  uint64_t bit = uint64_t{1} << (option & 63);
  if (on) {
    flags_.fetch_or(bit, std::memory_order_relaxed);
  } else {
    flags_.fetch_and(~bit, std::memory_order_relaxed);
  }
}

Result<int> Socket::IntValue(std::string_view value) {
  int v;
  if (value.size() < sizeof(v)) return Errno(EINVAL);
  memcpy(&v, value.data(), sizeof(v));
  return v;
}

std::string Socket::KeptOption(int level, int name, int initial) {
  base::MutexLock lock(kept_mu_);
  auto it = kept_.find({level, name});
  return it != kept_.end() ? it->second : IntBytes(initial);
}

void Socket::KeepOption(int level, int name, std::string_view value) {
  std::string copy(value.substr(0, 256));
  base::MutexLock lock(kept_mu_);
  kept_[{level, name}] = std::move(copy);
}

void Socket::InheritOptions(const Socket& listener) {
  auto copy = [](auto& to, const auto& from) {
    to.store(from.load(std::memory_order_relaxed), std::memory_order_relaxed);
  };
  copy(flags_, listener.flags_);
  copy(low_water_, listener.low_water_);
  copy(receive_timeout_ns_, listener.receive_timeout_ns_);
  copy(send_timeout_ns_, listener.send_timeout_ns_);
  copy(linger_seconds_, listener.linger_seconds_);
  copy(receive_buffer_, listener.receive_buffer_);
  copy(send_buffer_, listener.send_buffer_);
  copy(receive_buffer_set_, listener.receive_buffer_set_);
  copy(send_buffer_set_, listener.send_buffer_set_);
  std::map<std::pair<int, int>, std::string> kept;
  {
    base::MutexLock lock(listener.kept_mu_);
    kept = listener.kept_;
  }
  base::MutexLock lock(kept_mu_);
  kept_ = std::move(kept);
}

void Socket::AddTimestamp(IncomingMessage& message, int64_t ns) const {
  int option = timestamp_option_.load(std::memory_order_relaxed);
  if (option == 0 || ns == 0) return;
  if (option == SO_TIMESTAMP || option == SO_TIMESTAMP_NEW) {
    message.control.push_back({SOL_SOCKET, option, TimeoutBytes(ns)});
  } else {
    abi::Timespec ts{ns / 1'000'000'000, ns % 1'000'000'000};
    message.control.push_back({SOL_SOCKET, option, std::string(reinterpret_cast<const char*>(&ts), sizeof(ts))});
  }
}

// sk_getsockopt() of net/core/sock.c.
Result<std::string> Socket::GetOption(VfsContext&, int level, int name) {
  if (level != SOL_SOCKET) return Errno(EOPNOTSUPP);
  switch (name) {
    case SO_DEBUG:
    case SO_REUSEADDR:
    case SO_REUSEPORT:
    case SO_DONTROUTE:
    case SO_BROADCAST:
    case SO_KEEPALIVE:
    case SO_OOBINLINE:
    case SO_PASSCRED:
    case SO_PASSSEC:
    case SO_RXQ_OVFL:
    case SO_LOCK_FILTER:
    case SO_SELECT_ERR_QUEUE:
    case SO_WIFI_STATUS:
    case SO_NOFCS:
    case SO_ZEROCOPY:
      return IntBytes(Flag(name) ? 1 : 0);
    case SO_NO_CHECK:
    case SO_PRIORITY:
    case SO_MARK:
    case SO_BUSY_POLL:
    case SO_INCOMING_CPU:
      return KeptOption(level, name, name == SO_INCOMING_CPU ? -1 : 0);
    case SO_PEEK_OFF:
      return KeptOption(level, name, -1);
    case SO_TYPE:
      return IntBytes(type_);
    case SO_PROTOCOL:
      return IntBytes(protocol_);
    case SO_DOMAIN:
      return IntBytes(family_);
    case SO_ERROR:
      return IntBytes(TakeError());
    case SO_SNDBUF:
      return IntBytes(send_buffer());
    case SO_RCVBUF:
      return IntBytes(receive_buffer());
    case SO_RCVLOWAT:
      return IntBytes(static_cast<int>(receive_low_water()));
    case SO_SNDLOWAT:
      return IntBytes(1);
    case SO_ACCEPTCONN:
      return IntBytes(Listening() ? 1 : 0);
    case SO_LINGER: {
      int seconds = linger_seconds();
      return IntBytes(seconds >= 0 ? 1 : 0) + IntBytes(std::max(0, seconds));
    }
    case SO_RCVTIMEO:
    case SO_RCVTIMEO_NEW:
      return TimeoutBytes(receive_timeout_ns_.load(std::memory_order_relaxed));
    case SO_SNDTIMEO:
    case SO_SNDTIMEO_NEW:
      return TimeoutBytes(send_timeout_ns_.load(std::memory_order_relaxed));
    case SO_TIMESTAMP:
    case SO_TIMESTAMPNS:
    case SO_TIMESTAMP_NEW:
    case SO_TIMESTAMPNS_NEW:
      return IntBytes(timestamp_option_.load(std::memory_order_relaxed) == name ? 1 : 0);
    case SO_BINDTODEVICE: {
      std::string name_of = KeptOption(level, name, 0);
      return name_of.size() == 4 && name_of[0] == 0 ? std::string() : name_of;
    }
    case SO_COOKIE: {
      uint64_t cookie = inode()->ino();
      return std::string(reinterpret_cast<const char*>(&cookie), sizeof(cookie));
    }
    case SO_PEERCRED:
      return IntBytes(0) + IntBytes(-1) + IntBytes(-1);  // nobody's, but for UNIX sockets
    // SO_PEERSEC among them: there is no security module.
    default:
      return Errno(ENOPROTOOPT);
  }
}

// sk_setsockopt() of net/core/sock.c.
Result<void> Socket::SetOption(VfsContext& ctx, int level, int name, std::string_view value) {
  if (level != SOL_SOCKET) return Errno(ENOPROTOOPT);
  if (name == SO_BINDTODEVICE) {
    std::string device(value.substr(0, 15));
    device = device.substr(0, device.find('\0'));
    if (!device.empty() && device != "lo") return Errno(ENODEV);
    KeepOption(level, name, device.empty() ? std::string() : device + std::string(1, '\0'));
    return {};
  }
  int v = TRY(IntValue(value));
  auto capable = [&](int cap) { return ctx.creds != nullptr && ctx.creds->Capable(cap); };
  switch (name) {
    case SO_DEBUG:
      if (v != 0 && !capable(CAP_NET_ADMIN)) return Errno(EACCES);
      SetFlag(name, v != 0);
      return {};
    case SO_REUSEPORT:
    case SO_REUSEADDR:
    case SO_DONTROUTE:
    case SO_BROADCAST:
    case SO_KEEPALIVE:
    case SO_OOBINLINE:
    case SO_PASSCRED:
    case SO_PASSSEC:
    case SO_RXQ_OVFL:
    case SO_SELECT_ERR_QUEUE:
    case SO_WIFI_STATUS:
    case SO_NOFCS:
      SetFlag(name, v != 0);
      OptionsChanged();
      return {};
    case SO_ZEROCOPY:
      if (family_ != AF_INET && family_ != AF_INET6) return Errno(EOPNOTSUPP);
      if (v < 0 || v > 1) return Errno(EINVAL);
      SetFlag(name, v != 0);
      return {};
    case SO_MARK:
      if (!capable(CAP_NET_ADMIN)) return Errno(EPERM);
      KeepOption(level, name, IntBytes(v));
      return {};
    case SO_PRIORITY:
      if ((v < 0 || v > 6) && !capable(CAP_NET_ADMIN)) return Errno(EPERM);
      KeepOption(level, name, IntBytes(v));
      return {};
    case SO_NO_CHECK:
    case SO_INCOMING_CPU:
    case SO_BUSY_POLL:
      KeepOption(level, name, IntBytes(v));
      return {};
    case SO_PEEK_OFF:
      return Errno(EOPNOTSUPP);
    case SO_SNDBUFFORCE:
      if (!capable(CAP_NET_ADMIN)) return Errno(EPERM);
      [[fallthrough]];
    case SO_SNDBUF: {
      // Differs from Linux: SO_SNDBUFFORCE goes no further than net.core.wmem_max either.
      int wanted = v < 0 ? kMaxBuffer : std::min(v, kMaxBuffer);
      send_buffer_.store(std::max(wanted * 2, kMinSend), std::memory_order_relaxed);
      send_buffer_set_.store(true, std::memory_order_relaxed);
      OptionsChanged();
      events_->queue.Notify(base::kEventOut | base::kEventWrNorm);
      return {};
    }
    case SO_RCVBUFFORCE:
      if (!capable(CAP_NET_ADMIN)) return Errno(EPERM);
      [[fallthrough]];
    case SO_RCVBUF: {
      int wanted = v < 0 ? kMaxBuffer : std::min(v, kMaxBuffer);
      receive_buffer_.store(std::max(wanted * 2, kMinReceive), std::memory_order_relaxed);
      receive_buffer_set_.store(true, std::memory_order_relaxed);
      OptionsChanged();
      return {};
    }
    case SO_RCVLOWAT:
      low_water_.store(v < 0 ? INT32_MAX : std::max(v, 1), std::memory_order_relaxed);
      OptionsChanged();
      events_->queue.Notify(base::kEventIn | base::kEventRdNorm);
      return {};
    case SO_LINGER: {
      if (value.size() < 8) return Errno(EINVAL);
      int seconds = TRY(IntValue(value.substr(4)));
      linger_seconds_.store(v == 0 ? -1 : std::max(0, seconds), std::memory_order_relaxed);
      return {};
    }
    case SO_RCVTIMEO:
    case SO_RCVTIMEO_NEW:
      receive_timeout_ns_.store(TRY(TimeoutNs(value)), std::memory_order_relaxed);
      return {};
    case SO_SNDTIMEO:
    case SO_SNDTIMEO_NEW:
      send_timeout_ns_.store(TRY(TimeoutNs(value)), std::memory_order_relaxed);
      return {};
    case SO_TIMESTAMP:
    case SO_TIMESTAMPNS:
    case SO_TIMESTAMP_NEW:
    case SO_TIMESTAMPNS_NEW:
      if (v != 0) {
        timestamp_option_.store(name, std::memory_order_relaxed);
      } else {
        timestamp_option_.store(0, std::memory_order_relaxed);
      }
      return {};
    case SO_TYPE:
    case SO_PROTOCOL:
    case SO_DOMAIN:
    case SO_ERROR:
    case SO_SNDLOWAT:
    case SO_ACCEPTCONN:
      return Errno(ENOPROTOOPT);
    case SO_ATTACH_FILTER:
    case SO_ATTACH_BPF:
    case SO_ATTACH_REUSEPORT_CBPF:
    case SO_ATTACH_REUSEPORT_EBPF:
      return Errno(EPERM);
    case SO_DETACH_FILTER:
      return Errno(ENOENT);
    default:
      return Errno(ENOPROTOOPT);
  }
}

Result<int64_t> Socket::Ioctl(const IoctlArgs& args) {
  switch (args.command) {
    case FIONREAD: {
      int bytes = TRY(ReadableBytes());
      TRY(args.memory.Write(UserPtr<int32_t>{args.argument}, bytes));
      return 0;
    }
    case SIOCOUTQ: {
      int bytes = TRY(UnsentBytes());
      TRY(args.memory.Write(UserPtr<int32_t>{args.argument}, bytes));
      return 0;
    }
    case SIOCATMARK: {
      const bool at = TRY(AtMark());
      TRY(args.memory.Write(UserPtr<int32_t>{args.argument}, at ? 1 : 0));
      return 0;
    }
    case FIOSETOWN:
    case SIOCSPGRP: {
      int32_t pid = TRY(args.memory.Read(UserPtr<int32_t>{args.argument}));
      if (pid == INT32_MIN) return Errno(EINVAL);
      Task* task = Task::Current();
      if (task == nullptr) return Errno(ENOTTY);
      TRY(SetAsyncOwner(*task, *this, pid < 0 ? F_OWNER_PGRP : F_OWNER_PID, pid < 0 ? -pid : pid));
      return 0;
    }
    case FIOGETOWN:
    case SIOCGPGRP: {
      int32_t pid;
      {
        base::MutexLock lock(owner_mu);
        pid = owner.type == F_OWNER_PGRP ? -owner.id : owner.id;
      }
      TRY(args.memory.Write(UserPtr<int32_t>{args.argument}, pid));
      return 0;
    }
    default:
      return InterfaceIoctl(args);
  }
}

}  // namespace sentry

// Sending and receiving: messages with addresses and control data. (net/socket.c, net/core/scm.c)
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "base/time.h"
#include "sentry/syscalls/file_io.h"
#include "sentry/syscalls/sys_fd.h"
#include "sentry/syscalls/sys_socket.h"
#include "sentry/time/conversions.h"

namespace sentry {
namespace {

constexpr size_t kMaxControl = 20480;    // net.core.optmem_max
constexpr uint32_t kMaxMessages = 1024;  // UIO_MAXIOV
constexpr size_t kControlHeader = 16;    // sizeof(struct cmsghdr)

struct ControlHeader {
  uint64_t length;
  int32_t level, type;
};
static_assert(sizeof(ControlHeader) == kControlHeader);
constexpr size_t Align8(size_t n) { return (n + 7) & ~size_t{7}; }

// --- Sending

// scm_check_creds()
Result<SenderId> CheckSender(Task& task, std::string_view data) {
  if (data.size() != 12) return Errno(EINVAL);
  SenderId id;
  memcpy(&id.pid, data.data(), 4);
  memcpy(&id.uid, data.data() + 4, 4);
  memcpy(&id.gid, data.data() + 8, 4);
  const Credentials& c = task.creds();
  bool pid_ok = id.pid == task.thread_group().pid() || task.Capable(CAP_SYS_ADMIN);
  bool uid_ok = id.uid == c.ruid || id.uid == c.euid || id.uid == c.suid || task.Capable(CAP_SETUID);
  bool gid_ok = id.gid == c.rgid || id.gid == c.egid || id.gid == c.sgid || task.Capable(CAP_SETGID);
  if (!pid_ok || !uid_ok || !gid_ok) return Errno(EPERM);
  return id;
}

// __scm_send()
Result<void> ReadControl(Task& task, Socket& socket, Addr control, size_t length, OutgoingMessage& message) {
  if (length > kMaxControl) return Errno(ENOBUFS);
  std::string bytes(length, '\0');
  if (TRY(task.mm().CopyIn(std::as_writable_bytes(std::span(bytes)), control)) != length) return Errno(EFAULT);
  std::vector<RefPtr<FileDescription>> files;
  bool has_rights = false;
  size_t at = 0;
  while (at + kControlHeader <= length) {
    ControlHeader header;
    memcpy(&header, bytes.data() + at, sizeof(header));
    if (header.length < kControlHeader || header.length > length - at) return Errno(EINVAL);
    std::string_view data(bytes.data() + at + kControlHeader, header.length - kControlHeader);
    at += Align8(header.length);
    const bool internet = socket.family() == AF_INET || socket.family() == AF_INET6;
    if (internet && header.level != SOL_SOCKET) {
      message.control.push_back({header.level, header.type, std::string(data)});
    }
    if (header.level != SOL_SOCKET || socket.family() != AF_UNIX) continue;
    switch (header.type) {
      case SCM_RIGHTS: {
        size_t count = data.size() / sizeof(int32_t);
        if (files.size() + count > Rights::kMaxPerMessage) return Errno(EINVAL);
        for (size_t i = 0; i < count; ++i) {
          int32_t fd;
          memcpy(&fd, data.data() + i * sizeof(fd), sizeof(fd));
          files.push_back(TRY(task.fds().Get(fd, /*allow_path=*/true)));
        }
        has_rights = has_rights || count != 0;
        break;
      }
      case SCM_CREDENTIALS:
        message.sender = TRY(CheckSender(task, data));
        break;
      default:
        return Errno(EINVAL);
    }
  }
  if (has_rights) {
    bool unlimited = task.Capable(CAP_SYS_RESOURCE) || task.Capable(CAP_SYS_ADMIN);
    message.rights = TRY(Rights::Create(std::move(files), task.creds().ruid,
                                        unlimited ? UINT64_MAX : task.thread_group().Limit(RLIMIT_NOFILE)));
  }
  return {};
}

Result<size_t> SendMessage(Task& task, Socket& socket, OutgoingMessage& message) {
  const bool nonblock = socket.nonblocking() || (message.flags & MSG_DONTWAIT) != 0;
  const base::MonotonicNs deadline = socket.WriteDeadline(base::MonotonicNow());
  size_t done = 0;
  for (;;) {
    auto result = RetrySocket(task, socket, kWriteEvents, nonblock, deadline, message.wait_on,
                              [&]() -> Result<size_t> { return socket.Send(message); });
    if (!result.ok()) {
      if (result.failed_with(EPIPE) && socket.IsStream() && (message.flags & MSG_NOSIGNAL) == 0) {
        (void)task.SendSignal(UserSignal(kSIGPIPE, task.thread_group().pid(), task.creds().ruid));
      }
      if (done != 0) return done;
      return result.error();
    }
    done += *result;
    if (nonblock || !socket.IsStream() || message.data.remaining() == 0 || *result == 0) return done;
  }
}

Result<size_t> SendUserMessage(Task& task, Socket& socket, const UserMsghdr& header, int flags) {
  SocketAddress to;
  if (header.name != 0 && header.name_length != 0) {
    if (header.name_length < 0) return Errno(EINVAL);
    to = TRY(ReadSocketAddress(task, header.name, std::min<int32_t>(header.name_length, SocketAddress::kMax)));
  }
  if (header.iov_length > kMaxIovecs) return Errno(EMSGSIZE);
  UserIo io(task.mm(), TRY(ReadIovec(task, UserPtr<abi::Iovec>{header.iov}, header.iov_length)));
  VfsContext ctx = task.MakeVfsContext();
  OutgoingMessage message{.data = io, .flags = flags, .to = to.length != 0 ? &to : nullptr, .ctx = &ctx};
  if (header.control_length != 0) TRY(ReadControl(task, socket, header.control, header.control_length, message));
  return SendMessage(task, socket, message);
}

// --- Receiving

// Waits for what recv(2) promises: on streams SO_RCVLOWAT, or all with MSG_WAITALL.
Result<size_t> ReceiveMessage(Task& task, Socket& socket, IncomingMessage& message) {
  // Nobody waits for the error queue (man 2 recv).
  const bool nonblock = socket.nonblocking() || (message.flags & (MSG_DONTWAIT | MSG_ERRQUEUE)) != 0;
  const base::MonotonicNs deadline = socket.ReadDeadline(base::MonotonicNow());
  const size_t room = message.data.remaining();
  const bool stream = socket.IsStream();
  const size_t target =
      (message.flags & MSG_WAITALL) != 0 ? room : std::min(room, std::max<size_t>(1, socket.receive_low_water()));
  RefPtr<SocketEvents> wait_on;
  size_t done = 0;
  for (;;) {
    auto result = RetrySocket(task, socket, kReadEvents, nonblock, deadline, wait_on,
                              [&]() -> Result<size_t> { return socket.Receive(message); });
    if (!result.ok()) {
      if (done != 0) return done;
      return result.error();
    }
    done += *result;
    if (!stream || nonblock || *result == 0 || done >= target || message.rights != nullptr ||
        (message.flags & MSG_PEEK) != 0 || message.data.remaining() == 0) {
      return done;
    }
  }
}

// Builds the control data of one message: what does not fit sets MSG_CTRUNC (put_cmsg).
class ControlWriter {
 public:
  ControlWriter(size_t room, int& flags) : room_(room), flags_(flags) {}
  size_t Left() const { return room_ - bytes_.size(); }
  void Put(int level, int type, std::string_view data) {
    if (Left() < kControlHeader) {
      flags_ |= MSG_CTRUNC;
      return;
    }
    size_t length = kControlHeader + data.size();
    if (length > Left()) {
      flags_ |= MSG_CTRUNC;
      length = Left();
    }
    ControlHeader header{length, level, type};
    bytes_.append(reinterpret_cast<const char*>(&header), sizeof(header));
    bytes_.append(data.substr(0, length - kControlHeader));
    bytes_.resize(std::min(room_, Align8(bytes_.size())), '\0');
  }
  const std::string& bytes() const { return bytes_; }

 private:
  const size_t room_;
  int& flags_;
  std::string bytes_;
};

// scm_detach_fds(): as many as fit and can be installed.
void PutRights(Task& task, const Rights& rights, bool cloexec, ControlWriter& writer, int& flags,
               std::vector<Fd>& installed) {
  size_t fit = writer.Left() >= kControlHeader ? (writer.Left() - kControlHeader) / sizeof(int32_t) : 0;
  std::string numbers;
  for (const auto& file : rights.files()) {
    if (installed.size() >= fit) break;
    auto fd = task.InstallFile(file, cloexec);
    if (!fd.ok()) break;
    installed.push_back(*fd);
    int32_t number = *fd;
    numbers.append(reinterpret_cast<const char*>(&number), sizeof(number));
  }
  if (!numbers.empty()) writer.Put(SOL_SOCKET, SCM_RIGHTS, numbers);
  if (installed.size() < rights.files().size()) flags |= MSG_CTRUNC;
}

// ____sys_recvmsg(). The results go to `where`, the guest's header.
Result<size_t> ReceiveUserMessage(Task& task, Socket& socket, const UserMsghdr& header, UserPtr<UserMsghdr> where,
                                  int flags) {
  if (header.name_length < 0 && header.name != 0) return Errno(EINVAL);
  if (header.iov_length > kMaxIovecs) return Errno(EMSGSIZE);
  UserIo io(task.mm(), TRY(ReadIovec(task, UserPtr<abi::Iovec>{header.iov}, header.iov_length)));
  IncomingMessage message{.data = io, .flags = flags};
  message.wants_from = header.name != 0;
  size_t received = TRY(ReceiveMessage(task, socket, message));
  int out_flags = message.out_flags | (flags & MSG_CMSG_CLOEXEC);
  std::vector<Fd> installed;
  // Control data is built before anything is written: descriptors that the guest cannot learn of are closed again.
  const size_t room = header.control != 0 ? std::min<size_t>(header.control_length, kMaxControl) : 0;
  ControlWriter writer(room, out_flags);
  for (const ControlMessage& c : message.control) writer.Put(c.level, c.type, c.data);
  if (message.sender.has_value()) {
    uint32_t id[3] = {static_cast<uint32_t>(message.sender->pid), message.sender->uid, message.sender->gid};
    writer.Put(SOL_SOCKET, SCM_CREDENTIALS, std::string_view(reinterpret_cast<const char*>(id), sizeof(id)));
  }
  if (message.rights != nullptr) {
    PutRights(task, *message.rights, (flags & MSG_CMSG_CLOEXEC) != 0, writer, out_flags, installed);
    message.rights.reset();
  }
  auto write_out = [&]() -> Result<void> {
    if (header.name != 0) {
      SocketAddress from = message.from.value_or(SocketAddress{});
      TRY(WriteSocketAddress(task, from, header.name,
                             UserPtr<int32_t>{where.addr + offsetof(UserMsghdr, name_length)}));
    }
    if (!writer.bytes().empty()) {
      size_t n = TRY(task.mm().CopyOut(header.control, std::as_bytes(std::span(writer.bytes()))));
      if (n != writer.bytes().size()) return Errno(EFAULT);
    }
    TRY(task.mm().Write(UserPtr<uint64_t>{where.addr + offsetof(UserMsghdr, control_length)}, writer.bytes().size()));
    return task.mm().Write(UserPtr<uint32_t>{where.addr + offsetof(UserMsghdr, flags)},
                           static_cast<uint32_t>(out_flags));
  };
  auto written = write_out();
  if (!written.ok()) {
    for (Fd fd : installed) {
      if (auto file = task.fds().Remove(fd); file.ok()) CloseDescription(task, *std::move(file));
    }
    return written.error();
  }
  return received;
}

Result<size_t> CheckBuffer(Addr addr, size_t count) {
  count = std::min(count, kMaxRwCount);
  if (!AccessOk(addr, count)) return Errno(EFAULT);
  return count;
}

}  // namespace

Result<size_t> SysSendto(Task& task, FdArg fd, UserPtr<std::byte> buffer, size_t count, int32_t flags,
                         UserPtr<std::byte> address, int32_t length) {
  count = TRY(CheckBuffer(buffer.addr, count));
  auto socket = TRY(GetSocket(task, fd));
  SocketAddress to;
  if (address) to = TRY(ReadSocketAddress(task, address.addr, length));
  UserIo io(task.mm(), buffer.addr, count);
  OutgoingMessage message{.data = io, .flags = flags};
  if (to.length == 0) return SendMessage(task, *socket, message);
  VfsContext ctx = task.MakeVfsContext();
  message.to = &to;
  message.ctx = &ctx;
  return SendMessage(task, *socket, message);
}

Result<size_t> SysRecvfrom(Task& task, FdArg fd, UserPtr<std::byte> buffer, size_t count, int32_t flags,
                           UserPtr<std::byte> address, UserPtr<int32_t> length) {
  count = TRY(CheckBuffer(buffer.addr, count));
  auto socket = TRY(GetSocket(task, fd));
  UserIo io(task.mm(), buffer.addr, count);
  IncomingMessage message{.data = io, .flags = flags};
  message.wants_from = address.addr != 0;
  size_t received = TRY(ReceiveMessage(task, *socket, message));
  if (address) TRY(WriteSocketAddress(task, message.from.value_or(SocketAddress{}), address.addr, length));
  return received;
}

Result<size_t> SysSendmsg(Task& task, FdArg fd, UserPtr<UserMsghdr> message, int32_t flags) {
  auto socket = TRY(GetSocket(task, fd));
  return SendUserMessage(task, *socket, TRY(task.mm().Read(message)), flags);
}

Result<size_t> SysRecvmsg(Task& task, FdArg fd, UserPtr<UserMsghdr> message, int32_t flags) {
  auto socket = TRY(GetSocket(task, fd));
  return ReceiveUserMessage(task, *socket, TRY(task.mm().Read(message)), message, flags);
}

Result<int> SysSendmmsg(Task& task, FdArg fd, UserPtr<UserMmsghdr> messages, uint32_t count, int32_t flags) {
  auto socket = TRY(GetSocket(task, fd));
  count = std::min(count, kMaxMessages);
  int done = 0;
  for (uint32_t i = 0; i < count; ++i) {
    UserPtr<UserMmsghdr> at = messages + i;
    auto one = [&]() -> Result<void> {
      size_t sent = TRY(SendUserMessage(task, *socket, TRY(task.mm().Read(UserPtr<UserMsghdr>{at.addr})), flags));
      return task.mm().Write(UserPtr<uint32_t>{at.addr + offsetof(UserMmsghdr, length)}, static_cast<uint32_t>(sent));
    };
    auto result = one();
    if (!result.ok()) {
      if (done == 0) return result.error();
      break;
    }
    ++done;
    if (task.SignalPending()) break;
  }
  return done;
}

Result<int> SysRecvmmsg(Task& task, FdArg fd, UserPtr<UserMmsghdr> messages, uint32_t count, int32_t flags,
                        UserPtr<abi::Timespec> timeout) {
  base::MonotonicNs deadline = base::kNever;
  if (timeout) deadline = AddSaturated(base::MonotonicNow(), TRY(ToNs(TRY(task.mm().Read(timeout)))));
  auto socket = TRY(GetSocket(task, fd));
  count = std::min(count, kMaxMessages);
  int done = 0;
  for (uint32_t i = 0; i < count; ++i) {
    UserPtr<UserMmsghdr> at = messages + i;
    UserPtr<UserMsghdr> header{at.addr};
    auto one = [&]() -> Result<void> {
      size_t received =
          TRY(ReceiveUserMessage(task, *socket, TRY(task.mm().Read(header)), header, flags & ~MSG_WAITFORONE));
      return task.mm().Write(UserPtr<uint32_t>{at.addr + offsetof(UserMmsghdr, length)},
                             static_cast<uint32_t>(received));
    };
    auto result = one();
    if (!result.ok()) {
      if (done == 0) return result.error();
      break;
    }
    ++done;
    if ((flags & MSG_WAITFORONE) != 0) flags |= MSG_DONTWAIT;
    // The timeout is looked at after each message only (man 2 recvmmsg, BUGS).
    if (deadline != base::kNever && base::MonotonicNow() >= deadline) break;
  }
  if (timeout) (void)task.mm().Write(timeout, ToTimespec(std::max<int64_t>(0, deadline - base::MonotonicNow())));
  return done;
}

}  // namespace sentry

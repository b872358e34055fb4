// Sockets: making, naming, connecting (sys_socket.cc); sending and receiving (sys_socket_io.cc); options
// (sys_socket.cc). (net/socket.c)
#ifndef SENTRY_SYSCALLS_SYS_SOCKET_H_
#define SENTRY_SYSCALLS_SYS_SOCKET_H_

#include "sentry/socket/socket.h"
#include "sentry/syscalls/table.h"

namespace sentry {

struct UserMsghdr {  // struct user_msghdr
  uint64_t name;
  int32_t name_length;
  uint32_t pad0;
  uint64_t iov, iov_length;
  uint64_t control, control_length;
  uint32_t flags;
  uint32_t pad1;
};
static_assert(sizeof(UserMsghdr) == 56);
struct UserMmsghdr {
  UserMsghdr header;
  uint32_t length;
  uint32_t pad;
};
static_assert(sizeof(UserMmsghdr) == 64);

Result<Fd> SysSocket(Task& task, int32_t family, int32_t type, int32_t protocol);
Result<void> SysSocketpair(Task& task, int32_t family, int32_t type, int32_t protocol, UserPtr<int32_t> fds);
Result<void> SysBind(Task& task, FdArg fd, UserPtr<std::byte> address, int32_t length);
Result<void> SysConnect(Task& task, FdArg fd, UserPtr<std::byte> address, int32_t length);
Result<void> SysListen(Task& task, FdArg fd, int32_t backlog);
Result<Fd> SysAccept(Task& task, FdArg fd, UserPtr<std::byte> address, UserPtr<int32_t> length);
Result<Fd> SysAccept4(Task& task, FdArg fd, UserPtr<std::byte> address, UserPtr<int32_t> length, int32_t flags);
Result<void> SysGetsockname(Task& task, FdArg fd, UserPtr<std::byte> address, UserPtr<int32_t> length);
Result<void> SysGetpeername(Task& task, FdArg fd, UserPtr<std::byte> address, UserPtr<int32_t> length);
Result<void> SysShutdown(Task& task, FdArg fd, int32_t how);
Result<void> SysGetsockopt(Task& task, FdArg fd, int32_t level, int32_t name, UserPtr<std::byte> value,
                           UserPtr<int32_t> length);
Result<void> SysSetsockopt(Task& task, FdArg fd, int32_t level, int32_t name, UserPtr<std::byte> value, int32_t length);
Result<size_t> SysSendto(Task& task, FdArg fd, UserPtr<std::byte> buffer, size_t count, int32_t flags,
                         UserPtr<std::byte> address, int32_t length);
Result<size_t> SysRecvfrom(Task& task, FdArg fd, UserPtr<std::byte> buffer, size_t count, int32_t flags,
                           UserPtr<std::byte> address, UserPtr<int32_t> length);
Result<size_t> SysSendmsg(Task& task, FdArg fd, UserPtr<UserMsghdr> message, int32_t flags);
Result<size_t> SysRecvmsg(Task& task, FdArg fd, UserPtr<UserMsghdr> message, int32_t flags);
Result<int> SysSendmmsg(Task& task, FdArg fd, UserPtr<UserMmsghdr> messages, uint32_t count, int32_t flags);
Result<int> SysRecvmmsg(Task& task, FdArg fd, UserPtr<UserMmsghdr> messages, uint32_t count, int32_t flags,
                        UserPtr<abi::Timespec> timeout);

// --- Shared by the two files.
// EBADF, ENOTSOCK.
Result<RefPtr<Socket>> GetSocket(Task& task, FdArg fd);
// EINVAL, EFAULT.
Result<SocketAddress> ReadSocketAddress(Task& task, Addr address, int32_t length);
// A value-result length: what fits is written, and the whole length.
Result<void> WriteSocketAddress(Task& task, const SocketAddress& value, Addr address, UserPtr<int32_t> length);

// Runs `operation` until it is not EAGAIN, waiting on *wait_on if the operation set it, on the socket itself otherwise.
template <typename F>
auto RetrySocket(Task& task, Socket& socket, base::EventMask mask, bool nonblock, base::MonotonicNs deadline,
                 RefPtr<SocketEvents>& wait_on, F&& operation) -> decltype(operation()) {
  auto result = operation();
  if (nonblock || !result.failed_with(EAGAIN)) return result;
  for (;;) {
    RefPtr<SocketEvents> other = std::exchange(wait_on, nullptr);
    base::WaitQueue& queue = other != nullptr ? other->queue : *socket.wait_queue();
    base::WaitEntry entry(mask | base::kEventErr | base::kEventHup);
    base::ScopedWait wait(queue, entry);
    for (;;) {
      result = operation();
      if (!result.failed_with(EAGAIN)) return result;
      if (wait_on != other) break;
      const Task::Wake wake = task.ParkInterruptible(deadline);
      if (wake == Task::Wake::kWoken) continue;
      // What came together with the signal comes first.
      result = operation();
      if (!result.failed_with(EAGAIN)) return result;
      if (wake == Task::Wake::kTimedOut) return Errno(EAGAIN);
      // sock_intr_errno(): with a timeout there is no restart.
      return Errno(deadline == base::kNever ? base::ERESTARTSYS_ : EINTR);
    }
  }
}

inline constexpr Row kSocketRows[] = {
    SYSCALL_PARTIAL(socket, SysSocket,
                    "UNIX, loopback TCP and UDP, NETLINK_ROUTE for reading; no raw, packet or ICMP sockets"),
    SYSCALL(socketpair, SysSocketpair),
    SYSCALL(bind, SysBind),
    SYSCALL(connect, SysConnect),
    SYSCALL(listen, SysListen),
    SYSCALL(accept, SysAccept),
    SYSCALL(accept4, SysAccept4),
    SYSCALL(getsockname, SysGetsockname),
    SYSCALL(getpeername, SysGetpeername),
    SYSCALL(shutdown, SysShutdown),
    SYSCALL_PARTIAL(getsockopt, SysGetsockopt, "no filters, no SO_PEERSEC, SO_PEERPIDFD or SO_MEMINFO"),
    SYSCALL_PARTIAL(setsockopt, SysSetsockopt,
                    "options that only packets would show are kept and read back; no filters, no multicast"),
    SYSCALL_PARTIAL(sendto, SysSendto, "no MSG_FASTOPEN, no MSG_MORE on UDP"),
    SYSCALL_PARTIAL(recvfrom, SysRecvfrom, "the error queue is always empty"),
    SYSCALL_PARTIAL(sendmsg, SysSendmsg,
                    "no MSG_FASTOPEN, no MSG_MORE on UDP; IP-level control messages are ignored; no descriptors to "
                    "sockets of the host"),
    SYSCALL_PARTIAL(recvmsg, SysRecvmsg, "the error queue is always empty"),
    SYSCALL_PARTIAL(sendmmsg, SysSendmmsg, "as sendmsg"),
    SYSCALL_PARTIAL(recvmmsg, SysRecvmmsg, "as recvmsg"),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_SOCKET_H_

#include "sentry/syscalls/sys_socket.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>

#include "base/time.h"
#include "sentry/socket/network_namespace.h"
#include "sentry/socket/provider.h"
#include "sentry/syscalls/file_io.h"
#include "sentry/syscalls/sys_fd.h"

namespace sentry {
namespace {

constexpr int kTypeMask = 0xf;
constexpr int kMaxType = 11;    // SOCK_MAX
constexpr int kMaxFamily = 46;  // AF_MAX
constexpr size_t kMaxOption = 4096;

// The family's code and what it is asked for. __sys_socket, __sock_create.
Result<SocketRequest> MakeRequest(Task& task, int family, int type, int protocol) {
  const int flags = type & ~kTypeMask;
  if ((flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) != 0) return Errno(EINVAL);
  type &= kTypeMask;
  if (family < 0 || family >= kMaxFamily) return Errno(EAFNOSUPPORT);
  if (type >= kMaxType || type == 0) return Errno(EINVAL);
  auto* net = dynamic_cast<NetworkNamespace*>(task.net());
  if (net == nullptr) return Errno(EAFNOSUPPORT);
  TRY(Socket::CheckCount());
  const uint32_t file_flags = (flags & SOCK_NONBLOCK) != 0 ? O_NONBLOCK : 0;
  return SocketRequest{RefPtr<NetworkNamespace>(net), family, type, protocol, file_flags, task.creds_ref()};
}

void CloseFd(Task& task, Fd fd) {
  if (auto file = task.fds().Remove(fd); file.ok()) CloseDescription(task, *std::move(file));
}

}  // namespace

Result<RefPtr<Socket>> GetSocket(Task& task, FdArg fd) {
  RefPtr<FileDescription> file = TRY(task.GetFile(Fd(fd)));
  auto* socket = dynamic_cast<Socket*>(file.get());
  if (socket == nullptr) return Errno(ENOTSOCK);
  return RefPtr<Socket>(socket);
}

// move_addr_to_kernel()
Result<SocketAddress> ReadSocketAddress(Task& task, Addr address, int32_t length) {
  if (length < 0 || static_cast<size_t>(length) > SocketAddress::kMax) return Errno(EINVAL);
  SocketAddress value;
  value.length = static_cast<uint32_t>(length);
  if (length != 0) {
    size_t n = TRY(task.mm().CopyIn(std::as_writable_bytes(std::span(value.bytes, value.length)), address));
    if (n != value.length) return Errno(EFAULT);
  }
  return value;
}

// move_addr_to_user()
Result<void> WriteSocketAddress(Task& task, const SocketAddress& value, Addr address, UserPtr<int32_t> length) {
  int32_t room = TRY(task.mm().Read(length));
  if (room < 0) return Errno(EINVAL);
  size_t part = std::min<size_t>(static_cast<size_t>(room), std::min<size_t>(value.length, SocketAddress::kMax));
  if (part != 0) {
    size_t n = TRY(task.mm().CopyOut(address, std::as_bytes(std::span(value.bytes, part))));
    if (n != part) return Errno(EFAULT);
  }
  return task.mm().Write(length, static_cast<int32_t>(value.length));
}

Result<Fd> SysSocket(Task& task, int32_t family, int32_t type, int32_t protocol) {
  SocketRequest request = TRY(MakeRequest(task, family, type, protocol));
  const SocketProvider* provider = TRY(FindSocketProvider(family));
  RefPtr<Socket> socket = TRY(provider->create(request));
  return task.InstallFile(std::move(socket), (type & SOCK_CLOEXEC) != 0);
}

Result<void> SysSocketpair(Task& task, int32_t family, int32_t type, int32_t protocol, UserPtr<int32_t> fds) {
  SocketRequest request = TRY(MakeRequest(task, family, type, protocol));
  const SocketProvider* provider = TRY(FindSocketProvider(family));
  if (!provider->create_pair) return Errno(EOPNOTSUPP);
  auto [a, b] = TRY(provider->create_pair(request));
  Fd numbers[2];
  TRY(task.fds().InstallPair(a, b, (type & SOCK_CLOEXEC) != 0, task.thread_group().Limit(RLIMIT_NOFILE), numbers));
  auto written = task.mm().WriteArray(fds, std::span<const int32_t>(numbers));
  if (!written.ok()) {
    for (Fd fd : numbers) CloseFd(task, fd);
  }
  return written;
}

Result<void> SysBind(Task& task, FdArg fd, UserPtr<std::byte> address, int32_t length) {
  auto socket = TRY(GetSocket(task, fd));
  SocketAddress value = TRY(ReadSocketAddress(task, address.addr, length));
  VfsContext ctx = task.MakeVfsContext();
  return socket->Bind(ctx, value);
}

Result<void> SysConnect(Task& task, FdArg fd, UserPtr<std::byte> address, int32_t length) {
  auto socket = TRY(GetSocket(task, fd));
  SocketAddress value = TRY(ReadSocketAddress(task, address.addr, length));
  VfsContext ctx = task.MakeVfsContext();
  const bool nonblock = socket->nonblocking();
  const base::MonotonicNs deadline = socket->WriteDeadline(base::MonotonicNow());
  RefPtr<SocketEvents> wait_on;
  auto result = RetrySocket(task, *socket, kWriteEvents, nonblock, deadline, wait_on,
                            [&]() -> Result<void> { return socket->Connect(ctx, value, &wait_on); });
  if (nonblock) return result;
  // Under way, or still under way after a restart.
  if (!result.failed_with(EINPROGRESS) && !result.failed_with(EALREADY)) return result;
  auto finished = [&]() -> Result<void> {
    constexpr base::EventMask kDone = base::kEventOut | base::kEventErr | base::kEventHup;
    if ((socket->Readiness() & kDone) == 0) return Errno(EAGAIN);
    int error = socket->TakeError();
    if (error != 0) return Errno(error);
    // Tells it that the success has been reported.
    auto again = socket->Connect(ctx, value, &wait_on);
    if (!again.ok() && !again.failed_with(EISCONN)) return again;
    return {};
  };
  wait_on = nullptr;
  auto done = RetrySocket(task, *socket, kWriteEvents, false, deadline, wait_on, finished);
  if (done.failed_with(EAGAIN)) return Errno(EINPROGRESS);  // SO_SNDTIMEO
  return done;
}

Result<void> SysListen(Task& task, FdArg fd, int32_t backlog) {
  auto socket = TRY(GetSocket(task, fd));
  VfsContext ctx = task.MakeVfsContext();
  return socket->Listen(ctx, backlog);
}

Result<Fd> SysAccept(Task& task, FdArg fd, UserPtr<std::byte> address, UserPtr<int32_t> length) {
  return SysAccept4(task, fd, address, length, 0);
}

Result<Fd> SysAccept4(Task& task, FdArg fd, UserPtr<std::byte> address, UserPtr<int32_t> length, int32_t flags) {
  if ((flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) != 0) return Errno(EINVAL);
  auto socket = TRY(GetSocket(task, fd));
  VfsContext ctx = task.MakeVfsContext();
  // First, so that EMFILE takes no connection out of the queue.
  FdReservation reserved = TRY(task.ReserveFd());
  SocketAddress peer;
  RefPtr<SocketEvents> wait_on;
  const uint32_t file_flags = (flags & SOCK_NONBLOCK) != 0 ? O_NONBLOCK : 0;
  RefPtr<Socket> accepted =
      TRY(RetrySocket(task, *socket, kReadEvents, socket->nonblocking(), socket->ReadDeadline(base::MonotonicNow()),
                      wait_on, [&]() -> Result<RefPtr<Socket>> { return socket->Accept(ctx, file_flags, &peer); }));
  if (address) TRY(WriteSocketAddress(task, peer, address.addr, length));
  return std::move(reserved).Install(std::move(accepted), (flags & SOCK_CLOEXEC) != 0);
}

Result<void> SysGetsockname(Task& task, FdArg fd, UserPtr<std::byte> address, UserPtr<int32_t> length) {
  auto socket = TRY(GetSocket(task, fd));
  return WriteSocketAddress(task, TRY(socket->Name()), address.addr, length);
}

Result<void> SysGetpeername(Task& task, FdArg fd, UserPtr<std::byte> address, UserPtr<int32_t> length) {
  auto socket = TRY(GetSocket(task, fd));
  return WriteSocketAddress(task, TRY(socket->PeerName()), address.addr, length);
}

Result<void> SysShutdown(Task& task, FdArg fd, int32_t how) {
  auto socket = TRY(GetSocket(task, fd));
  return socket->Shutdown(how);
}

Result<void> SysGetsockopt(Task& task, FdArg fd, int32_t level, int32_t name, UserPtr<std::byte> value,
                           UserPtr<int32_t> length) {
  auto socket = TRY(GetSocket(task, fd));
  int32_t room = TRY(task.mm().Read(length));
  if (room < 0) return Errno(EINVAL);
  VfsContext ctx = task.MakeVfsContext();
  std::string bytes = TRY(socket->GetOption(ctx, level, name));
  size_t part = std::min<size_t>(static_cast<size_t>(room), bytes.size());
  if (part != 0) {
    size_t n = TRY(task.mm().CopyOut(value.addr, std::as_bytes(std::span(bytes.data(), part))));
    if (n != part) return Errno(EFAULT);
  }
  return task.mm().Write(length, static_cast<int32_t>(part));
}

Result<void> SysSetsockopt(Task& task, FdArg fd, int32_t level, int32_t name, UserPtr<std::byte> value,
                           int32_t length) {
  if (length < 0) return Errno(EINVAL);
  auto socket = TRY(GetSocket(task, fd));
  std::string bytes(std::min<size_t>(static_cast<size_t>(length), kMaxOption), '\0');
  if (!bytes.empty()) {
    size_t n = TRY(task.mm().CopyIn(std::as_writable_bytes(std::span(bytes)), value.addr));
    if (n != bytes.size()) return Errno(EFAULT);
  }
  VfsContext ctx = task.MakeVfsContext();
  return socket->SetOption(ctx, level, name, bytes);
}

}  // namespace sentry

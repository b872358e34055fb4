// Sockets without tasks: descriptions driven directly, over the sentry's own memory.
#ifndef TESTS_UNIT_SOCKET_FIXTURE_H_
#define TESTS_UNIT_SOCKET_FIXTURE_H_

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <string>

#include "sentry/socket/inet/inet_socket.h"
#include "sentry/socket/netlink/netlink_socket.h"
#include "sentry/socket/network_namespace.h"
#include "sentry/socket/provider.h"
#include "sentry/socket/unix/unix_socket.h"

namespace sentry {

template <typename T>
std::string SocketErrorOf(const Result<T>& r) {
  return r.ok() ? "success" : base::ErrnoName(r.error().value());
}
#define EXPECT_OK(...) EXPECT_EQ("success", ::sentry::SocketErrorOf(__VA_ARGS__))
#define ASSERT_OK(...) ASSERT_EQ("success", ::sentry::SocketErrorOf(__VA_ARGS__))
#define EXPECT_ERRNO(e, ...) EXPECT_EQ(std::string(base::ErrnoName(e)), ::sentry::SocketErrorOf(__VA_ARGS__))

class SocketTest : public ::testing::Test {
 protected:
  SocketTest() {
    RegisterUnixSockets();
    RegisterInetSockets();
    RegisterNetlinkSockets();
    auto creds = base::MakeRef<Credentials>();
    creds->permitted = creds->effective = kAllCapabilities;
    creds_ = creds;
    ctx_.creds = creds_;
  }
  Result<RefPtr<Socket>> Make(int family, int type, int protocol = 0, uint32_t flags = 0) {
    SocketRequest request{net_, family, type, protocol, flags, creds_};
    return TRY(FindSocketProvider(family))->create(request);
  }
  std::pair<RefPtr<Socket>, RefPtr<Socket>> Pair(int type) {
    SocketRequest request{net_, AF_UNIX, type, 0, 0, creds_};
    return *(*FindSocketProvider(AF_UNIX))->create_pair(request);
  }
  static Result<size_t> Send(Socket& s, std::string_view text, int flags = 0, const SocketAddress* to = nullptr,
                             RefPtr<Rights> rights = nullptr) {
    std::string copy(text);
    KernelIo io(std::as_writable_bytes(std::span(copy)));
    OutgoingMessage message{.data = io, .flags = flags, .to = to};
    message.rights = std::move(rights);
    return s.Send(message);
  }
  struct Received {
    std::string text;
    int flags = 0;
    size_t result = 0;
    RefPtr<Rights> rights;
    std::optional<SocketAddress> from;
  };
  static Result<Received> Receive(Socket& s, size_t max = 100000, int flags = 0) {
    Received r;
    r.text.resize(max);
    KernelIo io(std::as_writable_bytes(std::span(r.text)));
    IncomingMessage message{.data = io, .flags = flags};
    r.result = TRY(s.Receive(message));
    r.text.resize(max - io.remaining());
    r.flags = message.out_flags;
    r.rights = std::move(message.rights);
    r.from = message.from;
    return r;
  }
  static std::string TextOf(Socket& s, size_t max = 100000, int flags = 0) {
    auto r = Receive(s, max, flags);
    return r.ok() ? r->text : SocketErrorOf(r);
  }
  static bool Has(Socket& s, base::EventMask events) { return (s.Readiness() & events) == events; }
  static SocketAddress Abstract(std::string_view name) {
    sockaddr_un a{};
    a.sun_family = AF_UNIX;
    memcpy(a.sun_path + 1, name.data(), name.size());
    return SocketAddress::Of(a, offsetof(sockaddr_un, sun_path) + 1 + name.size());
  }
  static SocketAddress V4(uint32_t address, uint16_t port) {
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(address);
    a.sin_port = htons(port);
    return SocketAddress::Of(a);
  }
  static uint16_t PortOf(Socket& s) { return ntohs(s.Name()->As<sockaddr_in>().sin_port); }

  RefPtr<NetworkNamespace> net_ = base::MakeRef<NetworkNamespace>();
  CredentialsRef creds_;
  VfsContext ctx_;
};

}  // namespace sentry

#endif  // TESTS_UNIT_SOCKET_FIXTURE_H_

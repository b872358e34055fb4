// TCP and UDP over the loopback interface, IPv4 and IPv6.
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <vector>

#include "support/support.h"

namespace conformance {
namespace {

struct Address {
  sockaddr_storage storage = {};
  socklen_t size = sizeof(sockaddr_storage);
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  int port() const {
    return ntohs(storage.ss_family == AF_INET ? reinterpret_cast<const sockaddr_in*>(&storage)->sin_port
                                              : reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_port);
  }
};

Address Loopback(int family, int port = 0) {
  Address a;
  a.storage.ss_family = family;
  if (family == AF_INET) {
    auto* in = reinterpret_cast<sockaddr_in*>(&a.storage);
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    in->sin_port = htons(port);
    a.size = sizeof(*in);
  } else {
    auto* in = reinterpret_cast<sockaddr_in6*>(&a.storage);
    in->sin6_addr = in6addr_loopback;
    in->sin6_port = htons(port);
    a.size = sizeof(*in);
  }
  return a;
}

Address NameOf(int fd) {
  Address a;
  EXPECT_OK(getsockname(fd, a.get(), &a.size));
  return a;
}

int IntOption(int fd, int level, int name) {
  int value = -1;
  socklen_t size = sizeof(value);
  EXPECT_OK(getsockopt(fd, level, name, &value, &size)) << name;
  return value;
}

std::string Receive(int fd, int flags = 0) {
  char buffer[1000];
  ssize_t n = recv(fd, buffer, sizeof(buffer), flags);
  return n < 0 ? std::string("!") + strerrorname_np(errno) : std::string(buffer, n);
}

bool WaitFor(int fd, short events, int ms = 10'000) {
  pollfd p = {fd, events, 0};
  return poll(&p, 1, ms) == 1 && (p.revents & events);
}

class Inet : public ::testing::TestWithParam<int> {
 protected:
  int family() const { return GetParam(); }
  Fd Socket(int type) { return Fd(socket(family(), type, 0)); }
  Fd Listener(int backlog = 8) {
    Fd s = Socket(SOCK_STREAM);
    Address a = Loopback(family());
    EXPECT_OK(bind(s.get(), a.get(), a.size));
    EXPECT_OK(listen(s.get(), backlog));
    return s;
  }
  // Two connected TCP sockets.
  SocketPair Connected() {
    Fd listener = Listener();
    Fd client = Socket(SOCK_STREAM);
    Address a = NameOf(listener.get());
    EXPECT_OK(connect(client.get(), a.get(), a.size));
    Fd server(accept(listener.get(), nullptr, nullptr));
    EXPECT_TRUE(server.ok());
    return {std::move(client), std::move(server)};
  }
};

class Tcp : public Inet {};
class Udp : public Inet {};
std::string FamilyName(const ::testing::TestParamInfo<int>& info) { return info.param == AF_INET ? "v4" : "v6"; }
INSTANTIATE_TEST_SUITE_P(Inet, Tcp, ::testing::Values(AF_INET, AF_INET6), FamilyName);
INSTANTIATE_TEST_SUITE_P(Inet, Udp, ::testing::Values(AF_INET, AF_INET6), FamilyName);

TEST_P(Tcp, ConnectsAndCarriesBothWays) {
  Fd listener = Listener();
  Address name = NameOf(listener.get());
  EXPECT_NE(name.port(), 0);
  Fd client = Socket(SOCK_STREAM);
  ASSERT_OK(connect(client.get(), name.get(), name.size));
  Address from;
  Fd server(accept4(listener.get(), from.get(), &from.size, SOCK_CLOEXEC | SOCK_NONBLOCK));
  ASSERT_FD(server);
  EXPECT_EQ(from.port(), NameOf(client.get()).port());
  EXPECT_TRUE(fcntl(server.get(), F_GETFL) & O_NONBLOCK);
  Address peer;
  ASSERT_OK(getpeername(client.get(), peer.get(), &peer.size));
  EXPECT_EQ(peer.port(), name.port());
  ASSERT_EQ(send(client.get(), "ping", 4, 0), 4);
  ASSERT_TRUE(WaitFor(server.get(), POLLIN));
  EXPECT_EQ(Receive(server.get()), "ping");
  ASSERT_EQ(write(server.get(), "pong", 4), 4);
  EXPECT_EQ(Receive(client.get()), "pong");
  EXPECT_EQ(Receive(server.get()), "!EAGAIN");
}

TEST_P(Tcp, RefusesWhereNobodyListens) {
  Fd s = Socket(SOCK_STREAM);
  Address a = Loopback(family());
  ASSERT_OK(bind(s.get(), a.get(), a.size));
  Address unused = NameOf(s.get());
  s.Close();
  Fd client = Socket(SOCK_STREAM);
  EXPECT_ERRNO(connect(client.get(), unused.get(), unused.size), ECONNREFUSED);
}

TEST_P(Tcp, NonblockingConnectReportsItsEnd) {
  Fd listener = Listener();
  Address name = NameOf(listener.get());
  Fd client = Socket(SOCK_STREAM | SOCK_NONBLOCK);
  int result = connect(client.get(), name.get(), name.size);
  EXPECT_TRUE(result == 0 || errno == EINPROGRESS);
  ASSERT_TRUE(WaitFor(client.get(), POLLOUT));
  EXPECT_EQ(IntOption(client.get(), SOL_SOCKET, SO_ERROR), 0);
  listener.Close();
  Fd refused = Socket(SOCK_STREAM | SOCK_NONBLOCK);
  result = connect(refused.get(), name.get(), name.size);
  if (result != 0 && errno == EINPROGRESS) {
    ASSERT_TRUE(WaitFor(refused.get(), POLLOUT | POLLERR | POLLHUP));
    EXPECT_EQ(IntOption(refused.get(), SOL_SOCKET, SO_ERROR), ECONNREFUSED);
    EXPECT_EQ(IntOption(refused.get(), SOL_SOCKET, SO_ERROR), 0) << "reading it clears it";
  } else {
    EXPECT_EQ(errno, ECONNREFUSED);
  }
}

TEST_P(Tcp, EndOfFileHalfCloseAndPipe) {
  SocketPair s = Connected();
  ASSERT_OK(shutdown(s.a.get(), SHUT_WR));
  EXPECT_EQ(Receive(s.b.get()), "");
  ASSERT_EQ(send(s.b.get(), "still", 5, 0), 5);
  EXPECT_EQ(Receive(s.a.get()), "still");
  EXPECT_ERRNO(send(s.a.get(), "x", 1, MSG_NOSIGNAL), EPIPE);
  s.b.Close();
  EXPECT_EQ(Receive(s.a.get()), "");
}

TEST_P(Tcp, AResetReachesThePeer) {
  SocketPair s = Connected();
  linger now = {1, 0};
  ASSERT_OK(setsockopt(s.b.get(), SOL_SOCKET, SO_LINGER, &now, sizeof(now)));
  s.b.Close();
  ASSERT_TRUE(WaitFor(s.a.get(), POLLIN | POLLERR | POLLHUP));
  EXPECT_EQ(Receive(s.a.get()), "!ECONNRESET");
  EXPECT_ERRNO(send(s.a.get(), "x", 1, MSG_NOSIGNAL), EPIPE);
}

TEST_P(Tcp, CloseLingersForAsLongAsItWasTold) {
  SocketPair s = Connected();
  const linger second = {1, 1};
  ASSERT_OK(setsockopt(s.a.get(), SOL_SOCKET, SO_LINGER, &second, sizeof(second)));
  std::vector<char> data(1 << 16);
  // The peer's kernel takes some more when it has looked.
  while (WaitFor(s.a.get(), POLLOUT, 50)) EXPECT_GT(send(s.a.get(), data.data(), data.size(), MSG_DONTWAIT), 0);
  const int64_t start = NowNs();
  EXPECT_OK(close(s.a.Release()));
  EXPECT_GE(NowNs() - start, 900'000'000);
}

TEST_P(Tcp, OnlyTheLastDescriptorLingersAndOnlyWhileSomethingIsOnItsWay) {
  SocketPair s = Connected();
  const linger long_time = {1, 1000};
  ASSERT_OK(setsockopt(s.a.get(), SOL_SOCKET, SO_LINGER, &long_time, sizeof(long_time)));
  ASSERT_EQ(send(s.a.get(), "arrives", 7, 0), 7);
  Fd another(dup(s.a.get()));
  EXPECT_OK(close(s.a.Release()));
  EXPECT_EQ(Receive(s.b.get()), "arrives");
  ASSERT_EQ(send(another.get(), "too", 3, 0), 3);
  EXPECT_OK(close(another.Release()));
  EXPECT_EQ(Receive(s.b.get()), "too");
}

TEST_P(Tcp, WritesToAClosedPeerEndInEPIPE) {
  SocketPair s = Connected();
  s.b.Close();
  EXPECT_TRUE(Eventually([&] { return send(s.a.get(), "x", 1, MSG_NOSIGNAL) == -1; }));
  EXPECT_TRUE(errno == EPIPE || errno == ECONNRESET) << strerrorname_np(errno);
}

TEST_P(Tcp, TenMegabytesArriveWhole) {
  SocketPair s = Connected();
  constexpr size_t kSize = 10 << 20;
  pid_t pid = ForkChild([&] {
    s.b.Close();
    std::vector<char> data(kSize);
    for (size_t i = 0; i < kSize; ++i) data[i] = static_cast<char>(i % 253);
    size_t at = 0;
    while (at < kSize) {
      ssize_t n = send(s.a.get(), data.data() + at, kSize - at, 0);
      CHILD_CHECK(n > 0);
      at += n;
    }
  });
  s.a.Close();
  size_t total = 0;
  bool good = true;
  std::vector<char> buffer(100'000);
  ssize_t n;
  while ((n = recv(s.b.get(), buffer.data(), buffer.size(), 0)) > 0) {
    for (ssize_t i = 0; i < n; ++i) good = good && buffer[i] == static_cast<char>((total + i) % 253);
    total += n;
  }
  EXPECT_EQ(total, kSize);
  EXPECT_TRUE(good);
  EXPECT_EXITED(conformance::WaitFor(pid), 0);
}

TEST_P(Tcp, BackpressureIsFelt) {
  SocketPair s = Connected();
  std::vector<char> chunk(65536);
  ssize_t n;
  long sent = 0;
  while ((n = send(s.a.get(), chunk.data(), chunk.size(), MSG_DONTWAIT)) > 0 && sent < 1l << 30) sent += n;
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_LT(sent, 1l << 30);
  EXPECT_FALSE(WaitFor(s.a.get(), POLLOUT, 0));
  long received = 0;
  while (received < sent && (n = recv(s.b.get(), chunk.data(), chunk.size(), 0)) > 0) received += n;
  EXPECT_EQ(received, sent);
  EXPECT_TRUE(WaitFor(s.a.get(), POLLOUT));
}

TEST_P(Tcp, PeekAndWaitall) {
  SocketPair s = Connected();
  ASSERT_EQ(send(s.a.get(), "abc", 3, 0), 3);
  EXPECT_EQ(Receive(s.b.get(), MSG_PEEK), "abc");
  pid_t pid = ForkChild([&] {
    char buffer[6];
    CHILD_CHECK(recv(s.b.get(), buffer, 6, MSG_WAITALL) == 6);
    CHILD_CHECK(memcmp(buffer, "abcdef", 6) == 0);
  });
  ASSERT_TRUE(WaitUntilBlocked(pid));
  ASSERT_EQ(send(s.a.get(), "def", 3, 0), 3);
  EXPECT_EXITED(conformance::WaitFor(pid), 0);
}

TEST_P(Tcp, BindConflictsAndReuseaddr) {
  Fd listener = Listener();
  Address name = NameOf(listener.get());
  Fd other = Socket(SOCK_STREAM);
  EXPECT_ERRNO(bind(other.get(), name.get(), name.size), EADDRINUSE);
  int on = 1;
  ASSERT_OK(setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
  ASSERT_OK(setsockopt(other.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
  EXPECT_ERRNO(bind(other.get(), name.get(), name.size), EADDRINUSE) << "not while somebody listens";
  // A connection that was closed by the server's side lingers; SO_REUSEADDR binds the port again.
  Fd client = Socket(SOCK_STREAM);
  ASSERT_OK(connect(client.get(), name.get(), name.size));
  Fd server(accept(listener.get(), nullptr, nullptr));
  server.Close();
  client.Close();
  listener.Close();
  EXPECT_OK(bind(other.get(), name.get(), name.size));
  EXPECT_OK(listen(other.get(), 1));
}

TEST_P(Tcp, ReuseportSharesAPort) {
  Fd a = Socket(SOCK_STREAM), b = Socket(SOCK_STREAM);
  int on = 1;
  ASSERT_OK(setsockopt(a.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)));
  ASSERT_OK(setsockopt(b.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)));
  Address address = Loopback(family());
  ASSERT_OK(bind(a.get(), address.get(), address.size));
  address = NameOf(a.get());
  ASSERT_OK(bind(b.get(), address.get(), address.size));
  ASSERT_OK(listen(a.get(), 8));
  ASSERT_OK(listen(b.get(), 8));
  for (int i = 0; i < 10; ++i) {
    Fd client = Socket(SOCK_STREAM);
    ASSERT_OK(connect(client.get(), address.get(), address.size));
    pollfd p[2] = {{a.get(), POLLIN, 0}, {b.get(), POLLIN, 0}};
    ASSERT_GE(poll(p, 2, 10'000), 1);
    Fd server(accept(p[0].revents ? a.get() : b.get(), nullptr, nullptr));
    EXPECT_TRUE(server.ok());
  }
}

TEST_P(Tcp, OptionsRoundTrip) {
  Fd s = Socket(SOCK_STREAM);
  struct Option {
    int level, name;
  };
  for (const Option option : {Option{SOL_SOCKET, SO_REUSEADDR},
                              {SOL_SOCKET, SO_KEEPALIVE},
                              {SOL_SOCKET, SO_BROADCAST},
                              {IPPROTO_TCP, TCP_NODELAY},
                              {SOL_SOCKET, SO_OOBINLINE}}) {
    const int level = option.level, name = option.name;
    EXPECT_EQ(IntOption(s.get(), level, name), 0) << name;
    int on = 1;
    EXPECT_OK(setsockopt(s.get(), level, name, &on, sizeof(on))) << name;
    EXPECT_NE(IntOption(s.get(), level, name), 0) << name;
  }
  int idle = 77;
  EXPECT_OK(setsockopt(s.get(), IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle)));
  EXPECT_EQ(IntOption(s.get(), IPPROTO_TCP, TCP_KEEPIDLE), 77);
  int size = 20'000;
  EXPECT_OK(setsockopt(s.get(), SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)));
  EXPECT_EQ(IntOption(s.get(), SOL_SOCKET, SO_RCVBUF), 40'000) << "the kernel doubles it";
  EXPECT_EQ(IntOption(s.get(), SOL_SOCKET, SO_TYPE), SOCK_STREAM);
  EXPECT_EQ(IntOption(s.get(), SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
  EXPECT_EQ(IntOption(s.get(), SOL_SOCKET, SO_DOMAIN), family());
  EXPECT_GT(IntOption(s.get(), IPPROTO_TCP, TCP_MAXSEG), 0);
  Fd listener = Listener();
  EXPECT_EQ(IntOption(listener.get(), SOL_SOCKET, SO_ACCEPTCONN), 1);
  int value;
  EXPECT_ERRNO(setsockopt(s.get(), SOL_SOCKET, 9999, &value, sizeof(value)), ENOPROTOOPT);
  EXPECT_ERRNO(setsockopt(s.get(), IPPROTO_TCP, 9999, &value, sizeof(value)), ENOPROTOOPT);
}

TEST_P(Tcp, InfoTellsTheState) {
  SocketPair s = Connected();
  tcp_info info = {};
  socklen_t size = sizeof(info);
  ASSERT_OK(getsockopt(s.a.get(), IPPROTO_TCP, TCP_INFO, &info, &size));
  EXPECT_EQ(info.tcpi_state, TCP_ESTABLISHED);
}

TEST_P(Tcp, FailsAsDocumented) {
  Fd s = Socket(SOCK_STREAM);
  Address a = Loopback(family());
  EXPECT_ERRNO(send(s.get(), "x", 1, MSG_NOSIGNAL), EPIPE);
  EXPECT_EQ(Receive(s.get()), "!ENOTCONN");
  EXPECT_ERRNO(accept(s.get(), nullptr, nullptr), EINVAL);
  Address peer;
  EXPECT_ERRNO(getpeername(s.get(), peer.get(), &peer.size), ENOTCONN);
  EXPECT_ERRNO(connect(s.get(), a.get(), 4), EINVAL);
  EXPECT_ERRNO(bind(s.get(), a.get(), 4), EINVAL);
  EXPECT_ERRNO(syscall(SYS_connect, s.get(), BadPointer(), a.size), EFAULT);
  EXPECT_ERRNO(socket(family(), SOCK_STREAM, 9999), EINVAL);
  EXPECT_ERRNO(socket(family(), SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
  Fd listener = Listener();
  EXPECT_ERRNO(connect(listener.get(), a.get(), a.size), EISCONN);
  Fd nonblocking = Listener();
  fcntl(nonblocking.get(), F_SETFL, O_NONBLOCK);
  EXPECT_ERRNO(accept(nonblocking.get(), nullptr, nullptr), EAGAIN);
  EXPECT_ERRNO(lseek(s.get(), 0, SEEK_SET), ESPIPE);
}

TEST_P(Tcp, ManyConnectionsAtOnce) {
  Fd listener = Listener(128);
  Address name = NameOf(listener.get());
  std::vector<Fd> clients, servers;
  for (int i = 0; i < 100; ++i) {
    clients.push_back(Socket(SOCK_STREAM));
    ASSERT_OK(connect(clients.back().get(), name.get(), name.size)) << i;
  }
  for (int i = 0; i < 100; ++i) servers.emplace_back(accept(listener.get(), nullptr, nullptr));
  for (int i = 0; i < 100; ++i) ASSERT_EQ(send(clients[i].get(), &i, sizeof(i), 0), static_cast<ssize_t>(sizeof(i)));
  long sum = 0;
  for (Fd& s : servers) {
    int value = 0;
    ASSERT_EQ(recv(s.get(), &value, sizeof(value), MSG_WAITALL), static_cast<ssize_t>(sizeof(value)));
    sum += value;
  }
  EXPECT_EQ(sum, 4950);
}

TEST_P(Tcp, EpollSeesAConnectionsLife) {
  Fd listener = Listener();
  Address name = NameOf(listener.get());
  Fd epoll(epoll_create1(0));
  epoll_event event = {EPOLLIN, {.u64 = 1}};
  ASSERT_OK(epoll_ctl(epoll.get(), EPOLL_CTL_ADD, listener.get(), &event));
  Fd client = Socket(SOCK_STREAM);
  ASSERT_OK(connect(client.get(), name.get(), name.size));
  ASSERT_EQ(epoll_wait(epoll.get(), &event, 1, 10'000), 1);
  Fd server(accept(listener.get(), nullptr, nullptr));
  event = {EPOLLIN | EPOLLRDHUP | EPOLLET, {.u64 = 2}};
  ASSERT_OK(epoll_ctl(epoll.get(), EPOLL_CTL_ADD, server.get(), &event));
  EXPECT_EQ(epoll_wait(epoll.get(), &event, 1, 0), 0);
  ASSERT_EQ(send(client.get(), "x", 1, 0), 1);
  ASSERT_EQ(epoll_wait(epoll.get(), &event, 1, 10'000), 1);
  EXPECT_EQ(event.data.u64, 2u);
  EXPECT_EQ(epoll_wait(epoll.get(), &event, 1, 0), 0);
  client.Close();
  ASSERT_EQ(epoll_wait(epoll.get(), &event, 1, 10'000), 1);
  EXPECT_TRUE(event.events & EPOLLRDHUP);
}

TEST_P(Udp, DatagramsCarryTheirSender) {
  Fd a = Socket(SOCK_DGRAM), b = Socket(SOCK_DGRAM);
  Address address = Loopback(family());
  ASSERT_OK(bind(a.get(), address.get(), address.size));
  address = NameOf(a.get());
  ASSERT_EQ(sendto(b.get(), "ask", 3, 0, address.get(), address.size), 3);
  char buffer[10];
  Address from;
  ASSERT_EQ(recvfrom(a.get(), buffer, 10, 0, from.get(), &from.size), 3);
  EXPECT_EQ(from.port(), NameOf(b.get()).port()) << "sending gave it a port";
  ASSERT_EQ(sendto(a.get(), "answer", 6, 0, from.get(), from.size), 6);
  EXPECT_EQ(Receive(b.get()), "answer");
}

TEST_P(Udp, ConnectedSocketsFilterAndReport) {
  Fd server = Socket(SOCK_DGRAM), client = Socket(SOCK_DGRAM), stranger = Socket(SOCK_DGRAM);
  Address address = Loopback(family());
  ASSERT_OK(bind(server.get(), address.get(), address.size));
  address = NameOf(server.get());
  ASSERT_OK(connect(client.get(), address.get(), address.size));
  ASSERT_EQ(send(client.get(), "x", 1, 0), 1);
  EXPECT_EQ(Receive(server.get()), "x");
  Address mine = NameOf(client.get());
  ASSERT_EQ(sendto(stranger.get(), "spam", 4, 0, mine.get(), mine.size), 4);
  ASSERT_EQ(sendto(server.get(), "reply", 5, 0, mine.get(), mine.size), 5);
  EXPECT_EQ(Receive(client.get()), "reply") << "only the peer gets through";
  server.Close();
  ASSERT_EQ(send(client.get(), "x", 1, 0), 1);
  EXPECT_EQ(Receive(client.get()), "!ECONNREFUSED");
  sockaddr unspecified = {AF_UNSPEC, {}};
  EXPECT_OK(connect(client.get(), &unspecified, sizeof(unspecified))) << "dissolves the association";
  EXPECT_ERRNO(send(client.get(), "x", 1, 0), EDESTADDRREQ);
}

// man 7 ip, man 7 ipv6: what a control message says of one datagram, and recvmsg(2) tells.
TEST_P(Udp, ADatagramMayHaveItsOwnHopLimitAndClass) {
  const bool v4 = family() == AF_INET;
  const int level = v4 ? IPPROTO_IP : IPPROTO_IPV6;
  Fd a = Socket(SOCK_DGRAM), b = Socket(SOCK_DGRAM);
  Address address = Loopback(family());
  ASSERT_OK(bind(a.get(), address.get(), address.size));
  address = NameOf(a.get());
  const int on = 1;
  ASSERT_OK(setsockopt(a.get(), level, v4 ? IP_RECVTTL : IPV6_RECVHOPLIMIT, &on, sizeof(on)));
  ASSERT_OK(setsockopt(a.get(), level, v4 ? IP_RECVTOS : IPV6_RECVTCLASS, &on, sizeof(on)));
  struct {
    alignas(cmsghdr) char bytes[256];
  } control;
  auto send = [&](int type, const void* data, size_t size, int at_level) {
    memset(&control, 0, sizeof(control));
    iovec iov = {const_cast<char*>("x"), 1};
    msghdr m = {};
    m.msg_name = address.get();
    m.msg_namelen = address.size;
    m.msg_iov = &iov;
    m.msg_iovlen = 1;
    m.msg_control = control.bytes;
    m.msg_controllen = CMSG_SPACE(size);
    cmsghdr* c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = at_level;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(c), data, size);
    return sendmsg(b.get(), &m, 0);
  };
  auto received = [&](int type) {
    char byte;
    iovec iov = {&byte, 1};
    msghdr m = {};
    m.msg_iov = &iov;
    m.msg_iovlen = 1;
    m.msg_control = control.bytes;
    m.msg_controllen = sizeof(control.bytes);
    EXPECT_EQ(recvmsg(a.get(), &m, MSG_DONTWAIT), 1);
    for (cmsghdr* c = CMSG_FIRSTHDR(&m); c != nullptr; c = CMSG_NXTHDR(&m, c)) {
      if (c->cmsg_level == level && c->cmsg_type == type) return static_cast<int>(*CMSG_DATA(c));
    }
    return -1;
  };
  const int limit_type = v4 ? IP_TTL : IPV6_HOPLIMIT, class_type = v4 ? IP_TOS : IPV6_TCLASS;
  const int limit = 7, traffic_class = 0x20, none = -1, large = 256;
  ASSERT_EQ(send(limit_type, &limit, sizeof(limit), level), 1);
  EXPECT_EQ(received(limit_type), 7);
  ASSERT_EQ(send(class_type, &traffic_class, sizeof(traffic_class), level), 1);
  EXPECT_EQ(received(class_type), 0x20);
  // The other protocol's are not for this datagram.
  ASSERT_EQ(send(v4 ? IPV6_HOPLIMIT : IP_TTL, &limit, sizeof(limit), v4 ? IPPROTO_IPV6 : IPPROTO_IP), 1);
  EXPECT_EQ(received(limit_type), 64);
  if (!v4) {
    ASSERT_EQ(send(limit_type, &none, sizeof(none), level), 1);
    EXPECT_EQ(received(limit_type), 64);
  } else {
    EXPECT_ERRNO(send(limit_type, &none, sizeof(none), level), EINVAL);
  }
  EXPECT_ERRNO(send(limit_type, &large, sizeof(large), level), EINVAL);
  EXPECT_ERRNO(send(limit_type, &limit, 3, level), EINVAL);
  EXPECT_ERRNO(send(255, &limit, sizeof(limit), level), EINVAL);
}

TEST_P(Udp, AnswersFromTheAddressThatWasAsked) {
  if (family() != AF_INET) return;  // ::1 is the only one
  Fd a = Socket(SOCK_DGRAM), b = Socket(SOCK_DGRAM);
  Address any = Loopback(AF_INET);
  reinterpret_cast<sockaddr_in*>(any.get())->sin_addr.s_addr = 0;
  ASSERT_OK(bind(a.get(), any.get(), any.size));
  Address mine = Loopback(AF_INET);
  ASSERT_OK(bind(b.get(), mine.get(), mine.size));
  mine = NameOf(b.get());
  in_pktinfo info = {};
  inet_pton(AF_INET, "127.0.0.5", &info.ipi_spec_dst);
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(info))] = {};
  iovec iov = {const_cast<char*>("x"), 1};
  msghdr m = {};
  m.msg_name = mine.get();
  m.msg_namelen = mine.size;
  m.msg_iov = &iov;
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = sizeof(control);
  cmsghdr* c = CMSG_FIRSTHDR(&m);
  c->cmsg_level = IPPROTO_IP;
  c->cmsg_type = IP_PKTINFO;
  c->cmsg_len = CMSG_LEN(sizeof(info));
  memcpy(CMSG_DATA(c), &info, sizeof(info));
  ASSERT_EQ(sendmsg(a.get(), &m, 0), 1);
  char byte;
  Address from;
  ASSERT_EQ(recvfrom(b.get(), &byte, 1, 0, from.get(), &from.size), 1);
  EXPECT_EQ(reinterpret_cast<sockaddr_in*>(from.get())->sin_addr.s_addr, info.ipi_spec_dst.s_addr);
}

TEST_P(Udp, NobodyWaitsForTheErrorQueue) {
  Fd s = Socket(SOCK_DGRAM);
  char byte;
  EXPECT_ERRNO(recv(s.get(), &byte, 1, MSG_ERRQUEUE), EAGAIN);
}

TEST_P(Udp, KeepsBoundariesAndTruncates) {
  Fd s = Socket(SOCK_DGRAM);
  Address address = Loopback(family());
  ASSERT_OK(bind(s.get(), address.get(), address.size));
  address = NameOf(s.get());
  ASSERT_EQ(sendto(s.get(), "12345", 5, 0, address.get(), address.size), 5);
  ASSERT_EQ(sendto(s.get(), "", 0, 0, address.get(), address.size), 0);
  ASSERT_EQ(sendto(s.get(), "67", 2, 0, address.get(), address.size), 2);
  int waiting = 0;
  ASSERT_OK(ioctl(s.get(), FIONREAD, &waiting));
  EXPECT_EQ(waiting, 5) << "the next datagram, not all";
  char two[2];
  EXPECT_EQ(recv(s.get(), two, 2, MSG_TRUNC), 5);
  EXPECT_EQ(Receive(s.get()), "");
  EXPECT_EQ(Receive(s.get()), "67");
  EXPECT_EQ(Receive(s.get(), MSG_DONTWAIT), "!EAGAIN");
  std::vector<char> big(65536);
  EXPECT_ERRNO(sendto(s.get(), big.data(), big.size(), 0, address.get(), address.size), EMSGSIZE);
  EXPECT_EQ(sendto(s.get(), big.data(), 60'000, 0, address.get(), address.size), 60'000);
  EXPECT_EQ(recv(s.get(), big.data(), big.size(), 0), 60'000);
}

TEST_P(Udp, BindConflicts) {
  Fd a = Socket(SOCK_DGRAM), b = Socket(SOCK_DGRAM);
  Address address = Loopback(family());
  ASSERT_OK(bind(a.get(), address.get(), address.size));
  address = NameOf(a.get());
  EXPECT_ERRNO(bind(b.get(), address.get(), address.size), EADDRINUSE);
  EXPECT_ERRNO(bind(a.get(), address.get(), address.size), EINVAL) << "it is bound";
  EXPECT_ERRNO(listen(a.get(), 1), EOPNOTSUPP);
}

TEST(Inet, AnyAddressIsReachedThroughLoopback) {
  Fd listener(socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in any = {};
  any.sin_family = AF_INET;
  ASSERT_OK(bind(listener.get(), reinterpret_cast<sockaddr*>(&any), sizeof(any)));
  ASSERT_OK(listen(listener.get(), 1));
  Address name = NameOf(listener.get());
  for (const char* text : {"127.0.0.1", "127.8.9.10", "0.0.0.0"}) {
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_port = htons(name.port());
    inet_pton(AF_INET, text, &to.sin_addr);
    Fd client(socket(AF_INET, SOCK_STREAM, 0));
    EXPECT_OK(connect(client.get(), reinterpret_cast<sockaddr*>(&to), sizeof(to))) << text;
    Fd server(accept(listener.get(), nullptr, nullptr));
  }
}

TEST(Inet, AV6ListenerAcceptsV4UnlessV6only) {
  for (int only : {0, 1}) {
    Fd listener(socket(AF_INET6, SOCK_STREAM, 0));
    ASSERT_OK(setsockopt(listener.get(), IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only)));
    sockaddr_in6 any = {};
    any.sin6_family = AF_INET6;
    ASSERT_OK(bind(listener.get(), reinterpret_cast<sockaddr*>(&any), sizeof(any)));
    ASSERT_OK(listen(listener.get(), 1));
    Address v4 = Loopback(AF_INET, NameOf(listener.get()).port());
    Fd client(socket(AF_INET, SOCK_STREAM, 0));
    if (only) {
      EXPECT_ERRNO(connect(client.get(), v4.get(), v4.size), ECONNREFUSED);
    } else {
      ASSERT_OK(connect(client.get(), v4.get(), v4.size));
      sockaddr_in6 from;
      socklen_t size = sizeof(from);
      Fd server(accept(listener.get(), reinterpret_cast<sockaddr*>(&from), &size));
      EXPECT_TRUE(IN6_IS_ADDR_V4MAPPED(&from.sin6_addr));
    }
  }
}

TEST(Inet, PrivilegedPortsNeedTheirCapability) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  std::string start = ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start");
  if (atoi(start.c_str()) <= 80) GTEST_SKIP() << "every port is open to everybody here";
  int status = RunInChild([] {
    CHILD_CHECK(setresuid(1234, 1234, 1234) == 0);
    Fd s(socket(AF_INET, SOCK_STREAM, 0));
    Address a = Loopback(AF_INET, 80);
    CHILD_CHECK(bind(s.get(), a.get(), a.size) == -1 && errno == EACCES);
  });
  EXPECT_EXITED(status, 0);
}

TEST(Inet, AForeignAddressCannotBeBound) {
  Fd s(socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in a = {};
  a.sin_family = AF_INET;
  inet_pton(AF_INET, "192.0.2.1", &a.sin_addr);  // TEST-NET-1: nobody's.
  EXPECT_ERRNO(bind(s.get(), reinterpret_cast<sockaddr*>(&a), sizeof(a)), EADDRNOTAVAIL);
  a.sin_family = AF_UNIX;
  EXPECT_ERRNO(bind(s.get(), reinterpret_cast<sockaddr*>(&a), sizeof(a)), EAFNOSUPPORT);
}

TEST(Inet, LoopbackInterfaceIsUp) {
  Fd s(socket(AF_INET, SOCK_DGRAM, 0));
  ifreq request = {};
  strcpy(request.ifr_name, "lo");
  ASSERT_OK(ioctl(s.get(), SIOCGIFFLAGS, &request));
  EXPECT_TRUE(request.ifr_flags & IFF_UP);
  EXPECT_TRUE(request.ifr_flags & IFF_LOOPBACK);
  ASSERT_OK(ioctl(s.get(), SIOCGIFINDEX, &request));
  EXPECT_EQ(request.ifr_ifindex, 1);
  ASSERT_OK(ioctl(s.get(), SIOCGIFADDR, &request));
  EXPECT_EQ(reinterpret_cast<sockaddr_in*>(&request.ifr_addr)->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
  strcpy(request.ifr_name, "absent0");
  EXPECT_ERRNO(ioctl(s.get(), SIOCGIFFLAGS, &request), ENODEV);
}

}  // namespace
}  // namespace conformance

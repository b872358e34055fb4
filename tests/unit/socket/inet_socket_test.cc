#include "tests/unit/socket/fixture.h"

namespace sentry {
namespace {

constexpr base::EventMask kBoth = base::kEventIn | base::kEventOut;

class InetSocketTest : public SocketTest {
 protected:
  RefPtr<Socket> Listener(int backlog = 8, int family = AF_INET) {
    auto s = *Make(family, SOCK_STREAM);
    EXPECT_OK(s->Listen(ctx_, backlog));
    return s;
  }
  SocketAddress To(Socket& s) { return V4(INADDR_LOOPBACK, PortOf(s)); }
};

TEST_F(InetSocketTest, ConnectsSendsAndEnds) {
  auto listener = Listener();
  auto client = *Make(AF_INET, SOCK_STREAM);
  EXPECT_OK(client->Connect(ctx_, To(*listener), nullptr));
  EXPECT_TRUE(Has(*listener, base::kEventIn));
  SocketAddress peer;
  auto server = *listener->Accept(ctx_, 0, &peer);
  EXPECT_EQ(ntohs(peer.As<sockaddr_in>().sin_port), PortOf(*client));
  EXPECT_OK(Send(*client, "hello"));
  EXPECT_EQ(TextOf(*server), "hello");
  EXPECT_OK(client->Shutdown(SHUT_WR));
  EXPECT_EQ(TextOf(*server), "");
  EXPECT_EQ(server->Readiness() & (kBoth | base::kEventRdHup | base::kEventHup), kBoth | base::kEventRdHup);
  EXPECT_OK(Send(*server, "bye"));
  EXPECT_EQ(TextOf(*client), "bye");
}

TEST_F(InetSocketTest, RefusesWhereNobodyListens) {
  auto client = *Make(AF_INET, SOCK_STREAM);
  EXPECT_ERRNO(ECONNREFUSED, client->Connect(ctx_, V4(INADDR_LOOPBACK, 81), nullptr));
  auto impatient = *Make(AF_INET, SOCK_STREAM, 0, O_NONBLOCK);
  EXPECT_ERRNO(EINPROGRESS, impatient->Connect(ctx_, V4(INADDR_LOOPBACK, 81), nullptr));
  EXPECT_TRUE(Has(*impatient, base::kEventErr | base::kEventHup | kBoth));
  EXPECT_EQ(impatient->TakeError(), ECONNREFUSED);
}

TEST_F(InetSocketTest, NothingButLoopbackCanBeReached) {
  auto client = *Make(AF_INET, SOCK_STREAM);
  EXPECT_ERRNO(ENETUNREACH, client->Connect(ctx_, V4(0x0a000001, 80), nullptr));
  EXPECT_ERRNO(EADDRNOTAVAIL, client->Bind(ctx_, V4(0x0a000001, 80)));
  auto udp = *Make(AF_INET, SOCK_DGRAM);
  auto to = V4(0x0a000001, 80);
  EXPECT_ERRNO(ENETUNREACH, Send(*udp, "x", 0, &to));
}

TEST_F(InetSocketTest, AFullBacklogMakesClientsWaitUntilAnAccept) {
  auto listener = Listener(0);
  auto first = *Make(AF_INET, SOCK_STREAM), second = *Make(AF_INET, SOCK_STREAM);
  EXPECT_OK(first->Connect(ctx_, To(*listener), nullptr));
  EXPECT_ERRNO(EINPROGRESS, second->Connect(ctx_, To(*listener), nullptr));
  EXPECT_EQ(second->Readiness(), 0u);
  auto a = listener->Accept(ctx_, 0, nullptr);
  EXPECT_TRUE(Has(*second, base::kEventOut));
  EXPECT_EQ(second->TakeError(), 0);
  EXPECT_OK(listener->Accept(ctx_, 0, nullptr));
  EXPECT_ERRNO(EAGAIN, listener->Accept(ctx_, 0, nullptr));
}

TEST_F(InetSocketTest, UnreadDataAndLingerZeroReset) {
  auto listener = Listener();
  for (bool linger : {false, true}) {
    auto client = *Make(AF_INET, SOCK_STREAM);
    EXPECT_OK(client->Connect(ctx_, To(*listener), nullptr));
    auto server = *listener->Accept(ctx_, 0, nullptr);
    if (linger) {
      int value[2] = {1, 0};
      EXPECT_OK(server->SetOption(ctx_, SOL_SOCKET, SO_LINGER, std::string_view(reinterpret_cast<char*>(value), 8)));
    } else {
      EXPECT_OK(Send(*client, "unread"));
    }
    server.reset();
    EXPECT_TRUE(Has(*client, base::kEventErr | base::kEventHup));
    EXPECT_ERRNO(ECONNRESET, Receive(*client));
    EXPECT_ERRNO(EPIPE, Send(*client, "x"));
  }
}

TEST_F(InetSocketTest, PortsConflictUnlessBothWantToShare) {
  auto a = *Make(AF_INET, SOCK_STREAM), b = *Make(AF_INET, SOCK_STREAM), c = *Make(AF_INET6, SOCK_STREAM);
  EXPECT_OK(a->Bind(ctx_, V4(INADDR_LOOPBACK, 4000)));
  EXPECT_ERRNO(EADDRINUSE, b->Bind(ctx_, V4(0, 4000)));
  EXPECT_OK(b->Bind(ctx_, V4(INADDR_LOOPBACK + 1, 4000)));
  sockaddr_in6 any{};
  any.sin6_family = AF_INET6;
  any.sin6_port = htons(4000);
  EXPECT_ERRNO(EADDRINUSE, c->Bind(ctx_, SocketAddress::Of(any)));
  int on = 1;
  EXPECT_OK(c->SetOption(ctx_, IPPROTO_IPV6, IPV6_V6ONLY, std::string_view(reinterpret_cast<char*>(&on), 4)));
  EXPECT_OK(c->Bind(ctx_, SocketAddress::Of(any)));
}

TEST_F(InetSocketTest, AnIpv6ListenerTakesIpv4Clients) {
  auto listener = Listener(8, AF_INET6);
  auto client = *Make(AF_INET, SOCK_STREAM);
  EXPECT_OK(client->Connect(ctx_, V4(INADDR_LOOPBACK, PortOf(*listener)), nullptr));
  SocketAddress peer;
  EXPECT_OK(listener->Accept(ctx_, 0, &peer));
  auto a = peer.As<sockaddr_in6>();
  EXPECT_TRUE(IN6_IS_ADDR_V4MAPPED(&a.sin6_addr));
}

TEST_F(InetSocketTest, DatagramsArriveWithTheirSenderOrAreRefused) {
  auto a = *Make(AF_INET, SOCK_DGRAM), b = *Make(AF_INET, SOCK_DGRAM);
  EXPECT_OK(a->Bind(ctx_, V4(INADDR_LOOPBACK, 5000)));
  auto to = V4(INADDR_LOOPBACK, 5000);
  EXPECT_ERRNO(EDESTADDRREQ, Send(*b, "x"));
  EXPECT_OK(Send(*b, "hello", 0, &to));
  auto got = Receive(*a, 3, MSG_TRUNC);
  EXPECT_EQ(got->text, "hel");
  EXPECT_EQ(got->result, 5u);
  EXPECT_EQ(ntohs(got->from->As<sockaddr_in>().sin_port), PortOf(*b));
  EXPECT_OK(b->Connect(ctx_, to, nullptr));
  a.reset();
  EXPECT_OK(Send(*b, "lost"));
  EXPECT_TRUE(Has(*b, base::kEventErr));
  EXPECT_ERRNO(ECONNREFUSED, Receive(*b));
}

TEST_F(InetSocketTest, DatagramsBeyondTheBufferAreDropped) {
  auto a = *Make(AF_INET, SOCK_DGRAM), b = *Make(AF_INET, SOCK_DGRAM);
  EXPECT_OK(a->Bind(ctx_, V4(INADDR_LOOPBACK, 5001)));
  auto to = V4(INADDR_LOOPBACK, 5001);
  std::string block(10000, 'x');
  for (int i = 0; i < 100; ++i) EXPECT_OK(Send(*b, block, 0, &to));
  int received = 0;
  while (Receive(*a).ok()) ++received;
  EXPECT_EQ(received, 20);
}

TEST_F(InetSocketTest, OptionsAreKept) {
  auto s = *Make(AF_INET, SOCK_STREAM);
  int v = 1;
  std::string_view one(reinterpret_cast<char*>(&v), 4);
  for (auto [level, name] : {std::pair(SOL_SOCKET, SO_KEEPALIVE), {IPPROTO_TCP, 1}, {IPPROTO_IP, IP_RECVTOS}}) {
    EXPECT_OK(s->SetOption(ctx_, level, name, one));
    EXPECT_EQ(*s->GetOption(ctx_, level, name), one);
  }
  EXPECT_ERRNO(ENOPROTOOPT, s->SetOption(ctx_, IPPROTO_TCP, 12345, one));
}

}  // namespace
}  // namespace sentry

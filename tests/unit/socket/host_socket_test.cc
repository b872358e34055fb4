#include "sentry/socket/host/host_socket.h"

#include <poll.h>

#include "tests/unit/socket/fixture.h"

namespace sentry {
namespace {

class HostSocketTest : public SocketTest {
 protected:
  Result<RefPtr<Socket>> MakeHost(int type, int family = AF_INET, int protocol = 0) {
    return HostSocket::Create(reactor_, {net_, family, type, protocol, 0, creds_});
  }
  // Bounded by the host's loopback, not by time.
  static void WaitFor(Socket& s, base::EventMask events) {
    for (int i = 0; i < 10000 && (s.Readiness() & events) == 0; ++i) poll(nullptr, 0, 1);
  }
  base::Reactor reactor_;
};

TEST_F(HostSocketTest, CarriesAStreamOverTheHostsLoopback) {
  auto listener = *MakeHost(SOCK_STREAM);
  ASSERT_OK(listener->Bind(ctx_, V4(INADDR_LOOPBACK, 0)));
  ASSERT_OK(listener->Listen(ctx_, 4));
  EXPECT_ERRNO(EAGAIN, listener->Accept(ctx_, 0, nullptr));
  auto client = *MakeHost(SOCK_STREAM);
  EXPECT_ERRNO(EINPROGRESS, client->Connect(ctx_, *listener->Name(), nullptr));
  WaitFor(*client, base::kEventOut);
  EXPECT_EQ(client->TakeError(), 0);
  WaitFor(*listener, base::kEventIn);
  SocketAddress peer;
  auto accepted = listener->Accept(ctx_, 0, &peer);
  ASSERT_OK(accepted);
  EXPECT_EQ(ntohs(peer.As<sockaddr_in>().sin_port), PortOf(*client));
  EXPECT_OK(Send(*client, "hello"));
  WaitFor(**accepted, base::kEventIn);
  EXPECT_EQ(TextOf(**accepted, 3, MSG_PEEK), "hel");
  EXPECT_EQ(TextOf(**accepted), "hello");
  EXPECT_ERRNO(EAGAIN, Receive(**accepted));
  client.reset();
  WaitFor(**accepted, base::kEventIn);
  EXPECT_EQ(TextOf(**accepted), "");
}

TEST_F(HostSocketTest, CarriesDatagramsWithTheirSender) {
  auto a = *MakeHost(SOCK_DGRAM), b = *MakeHost(SOCK_DGRAM);
  ASSERT_OK(a->Bind(ctx_, V4(INADDR_LOOPBACK, 0)));
  auto to = *a->Name();
  EXPECT_OK(Send(*b, "datagram", 0, &to));
  WaitFor(*a, base::kEventIn);
  auto got = Receive(*a, 4, MSG_TRUNC);
  ASSERT_OK(got);
  EXPECT_EQ(got->text, "data");
  EXPECT_EQ(got->result, 8u);
  EXPECT_EQ(got->flags & MSG_TRUNC, MSG_TRUNC);
  EXPECT_EQ(ntohs(got->from->As<sockaddr_in>().sin_port), PortOf(*b));
}

TEST_F(HostSocketTest, MakesNoRawSocketsAndNoOtherNetlink) {
  EXPECT_ERRNO(EPERM, MakeHost(SOCK_RAW));
  EXPECT_ERRNO(EPROTONOSUPPORT, MakeHost(SOCK_RAW, AF_NETLINK, 31));
}

TEST_F(HostSocketTest, OptionsAreTheHostsWhereTheyMatter) {
  auto s = *MakeHost(SOCK_STREAM);
  int v = 1;
  std::string_view one(reinterpret_cast<char*>(&v), 4);
  EXPECT_OK(s->SetOption(ctx_, SOL_SOCKET, SO_KEEPALIVE, one));
  EXPECT_EQ(*s->GetOption(ctx_, SOL_SOCKET, SO_KEEPALIVE), one);
  EXPECT_ERRNO(EPERM, s->SetOption(ctx_, SOL_SOCKET, SO_ATTACH_FILTER, std::string(16, '\0')));
}

TEST_F(HostSocketTest, LingeringIsKeptFromTheHostUnlessItResets) {
  auto listener = *MakeHost(SOCK_STREAM);
  ASSERT_OK(listener->Bind(ctx_, V4(INADDR_LOOPBACK, 0)));
  ASSERT_OK(listener->Listen(ctx_, 4));
  for (int seconds : {0, 1000}) {
    const linger option = {1, seconds};
    const std::string_view bytes(reinterpret_cast<const char*>(&option), sizeof(option));
    ASSERT_OK(listener->SetOption(ctx_, SOL_SOCKET, SO_LINGER, bytes));
    auto client = *MakeHost(SOCK_STREAM);
    EXPECT_ERRNO(EINPROGRESS, client->Connect(ctx_, *listener->Name(), nullptr));
    WaitFor(*listener, base::kEventIn);
    auto accepted = listener->Accept(ctx_, 0, nullptr);
    ASSERT_OK(accepted);
    EXPECT_EQ(*(*accepted)->GetOption(ctx_, SOL_SOCKET, SO_LINGER), bytes) << "the listener's";
    // More than the client's window takes: with a time of the host's, dropping the socket would take that long.
    while (Send(**accepted, std::string(1 << 16, 'x')).ok()) {
    }
    (*accepted).reset();
    WaitFor(*client, seconds == 0 ? base::kEventErr : base::kEventIn);
    EXPECT_EQ(client->TakeError(), seconds == 0 ? ECONNRESET : 0);
  }
}

}  // namespace
}  // namespace sentry

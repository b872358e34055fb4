// Out-of-band data of stream sockets: MSG_OOB, SO_OOBINLINE, SIOCATMARK, SIGURG, POLLPRI. (man 7 tcp, man 7 unix)
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <atomic>

#include "support/support.h"

namespace conformance {
namespace {

class Oob : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (GetParam() == AF_UNIX) {
      SocketPair pair = MakeSocketPair();
      a_ = std::move(pair.a);
      b_ = std::move(pair.b);
    } else {
      Fd listener(socket(AF_INET, SOCK_STREAM, 0));
      sockaddr_in address = {};
      address.sin_family = AF_INET;
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      ASSERT_OK(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)));
      ASSERT_OK(listen(listener.get(), 1));
      socklen_t length = sizeof(address);
      ASSERT_OK(getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length));
      a_ = Fd(socket(AF_INET, SOCK_STREAM, 0));
      ASSERT_OK(connect(a_.get(), reinterpret_cast<sockaddr*>(&address), length));
      b_ = Fd(accept(listener.get(), nullptr, nullptr));
      ASSERT_FD(b_);
    }
  }
  void SendOob(const std::string& text) {
    ASSERT_EQ(send(a_.get(), text.data(), text.size(), MSG_OOB), static_cast<ssize_t>(text.size()));
    ASSERT_TRUE(Eventually([&] { return (Poll(b_.get()) & POLLPRI) != 0; }));
  }
  void Send(const std::string& text) {
    ASSERT_EQ(send(a_.get(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  }
  static short Poll(int fd) {
    pollfd p = {fd, POLLIN | POLLPRI, 0};
    poll(&p, 1, 0);
    return p.revents;
  }
  std::string Receive(int flags = 0) {
    char text[64];
    ssize_t n = recv(b_.get(), text, sizeof(text), flags | MSG_DONTWAIT);
    return n < 0 ? "error " + std::to_string(errno) : std::string(text, static_cast<size_t>(n));
  }
  bool AtMark() {
    int at = -1;
    EXPECT_OK(ioctl(b_.get(), SIOCATMARK, &at));
    return at == 1;
  }
  const std::string again_ = "error " + std::to_string(EAGAIN), invalid_ = "error " + std::to_string(EINVAL);
  Fd a_, b_;
};

TEST_P(Oob, TheLastByteIsApart) {
  EXPECT_EQ(Receive(MSG_OOB), invalid_);
  SendOob("helloX");
  EXPECT_FALSE(AtMark());
  EXPECT_EQ(Receive(MSG_OOB | MSG_PEEK), "X");
  EXPECT_EQ(Receive(MSG_OOB), "X");
  EXPECT_EQ(Receive(MSG_OOB), invalid_);
  EXPECT_EQ(Receive(), "hello");
  EXPECT_EQ(Receive(), again_);
}

TEST_P(Oob, ReadsStopAtTheMarkAndGoOnBehindIt) {
  if (GetParam() == AF_UNIX && !KernelIsAtLeast(6, 10)) GTEST_SKIP() << "older UNIX sockets lose the byte";
  SendOob("abcX");
  Send("def");
  EXPECT_EQ(Receive(), "abc");
  EXPECT_TRUE(AtMark());
  EXPECT_EQ(Receive(MSG_OOB), "X");
  EXPECT_EQ(Receive(), "def");
  EXPECT_FALSE(AtMark());
}

TEST_P(Oob, WhatIsReadOverIsLost) {
  SendOob("abcX");
  Send("def");
  EXPECT_EQ(Receive(), "abc");
  EXPECT_EQ(Receive(), "def");
  EXPECT_EQ(Receive(MSG_OOB), invalid_);
}

TEST_P(Oob, InlineItIsAByteLikeOthersBehindTheMark) {
  int on = 1;
  ASSERT_OK(setsockopt(b_.get(), SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)));
  SendOob("abcX");
  Send("def");
  EXPECT_EQ(Receive(MSG_OOB), invalid_);
  EXPECT_EQ(Receive(), "abc");
  EXPECT_TRUE(AtMark());
  EXPECT_EQ(Receive(), "Xdef");
}

std::atomic<int> g_count{0};

TEST_P(Oob, TheOwnerGetsSIGURG) {
  g_count = 0;
  ScopedHandler handler(
      SIGURG, [](int) { ++g_count; }, SA_RESTART);
  SendOob("X");
  EXPECT_EQ(g_count, 0);
  EXPECT_EQ(Receive(MSG_OOB), "X");
  ASSERT_OK(fcntl(b_.get(), F_SETOWN, getpid()));
  SendOob("Y");
  EXPECT_TRUE(Eventually([] { return g_count == 1; }));
}

TEST_P(Oob, PollTellsApart) {
  SendOob("X");
  EXPECT_EQ(Poll(b_.get()) & POLLPRI, POLLPRI);
  EXPECT_EQ(Receive(MSG_OOB), "X");
  EXPECT_EQ(Poll(b_.get()) & POLLPRI, 0);
  Send("abc");
  EXPECT_TRUE(Eventually([&] { return Poll(b_.get()) == POLLIN; }));
}

TEST_P(Oob, TheEndComesBehindIt) {
  SendOob("abX");
  ASSERT_OK(shutdown(a_.get(), SHUT_WR));
  EXPECT_EQ(Receive(), "ab");
  EXPECT_EQ(Receive(), "");
}

INSTANTIATE_TEST_SUITE_P(Families, Oob, ::testing::Values(AF_UNIX, AF_INET),
                         [](const auto& info) { return info.param == AF_UNIX ? "Unix" : "Inet"; });

TEST(OobOthers, DatagramsAndPacketsHaveNone) {
  SocketPair pair = MakeSocketPair(SOCK_DGRAM);
  EXPECT_ERRNO(send(pair.a.get(), "x", 1, MSG_OOB), EOPNOTSUPP);
  char c;
  EXPECT_ERRNO(recv(pair.b.get(), &c, 1, MSG_OOB | MSG_DONTWAIT), EOPNOTSUPP);
  SocketPair packets = MakeSocketPair(SOCK_SEQPACKET);
  EXPECT_ERRNO(send(packets.a.get(), "x", 1, MSG_OOB), EOPNOTSUPP);
}

}  // namespace
}  // namespace conformance

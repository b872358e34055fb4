#include "tests/unit/socket/fixture.h"

namespace sentry {
namespace {

using UnixSocketTest = SocketTest;

TEST_F(UnixSocketTest, StreamJoinsWritesAndEndsAtClose) {
  auto [a, b] = Pair(SOCK_STREAM);
  EXPECT_OK(Send(*a, "hello"));
  EXPECT_OK(Send(*a, "world"));
  EXPECT_EQ(TextOf(*b, 100, MSG_PEEK), "helloworld");
  EXPECT_EQ(TextOf(*b, 7), "hellowo");
  a.reset();
  EXPECT_TRUE(Has(*b, base::kEventIn | base::kEventRdHup | base::kEventHup));
  EXPECT_EQ(TextOf(*b), "rld");
  EXPECT_EQ(TextOf(*b), "");
  EXPECT_ERRNO(EPIPE, Send(*b, "x"));
}

TEST_F(UnixSocketTest, UnreadDataAtCloseIsAResetForThePeer) {
  auto [a, b] = Pair(SOCK_STREAM);
  EXPECT_OK(Send(*a, "unread"));
  b.reset();
  EXPECT_TRUE(Has(*a, base::kEventErr | base::kEventHup));
  EXPECT_ERRNO(ECONNRESET, Receive(*a));
  EXPECT_EQ(TextOf(*a), "");
}

TEST_F(UnixSocketTest, AFullStreamSaysSoAndBecomesWritableWhenAQuarterIsLeft) {
  auto [a, b] = Pair(SOCK_STREAM);
  std::string block(10000, 'x');
  size_t total = 0;
  for (;;) {
    auto sent = Send(*a, block);
    if (!sent.ok()) {
      EXPECT_ERRNO(EAGAIN, sent);
      break;
    }
    total += *sent;
  }
  EXPECT_EQ(total, static_cast<size_t>(Socket::kDefaultBuffer));
  EXPECT_FALSE(Has(*a, base::kEventOut));
  int events = 0;
  base::WaitEntry entry(base::kEventOut, [&](base::EventMask) { ++events; });
  base::ScopedWait wait(*a->wait_queue(), entry);
  size_t read = 0;
  while (!Has(*a, base::kEventOut)) read += TextOf(*b, 1000).size();
  EXPECT_GE(read, total * 3 / 4);
  EXPECT_EQ(events, 1);  // once, when it changed
}

TEST_F(UnixSocketTest, PacketsKeepTheirBoundaries) {
  auto [a, b] = Pair(SOCK_SEQPACKET);
  EXPECT_OK(Send(*a, "first"));
  EXPECT_OK(Send(*a, ""));
  EXPECT_OK(Send(*a, "third"));
  auto cut = Receive(*b, 3);
  EXPECT_EQ(cut->text, "fir");
  EXPECT_EQ(cut->flags, MSG_TRUNC | MSG_EOR);
  EXPECT_EQ(TextOf(*b), "");
  auto whole = Receive(*b, 2, MSG_TRUNC);
  EXPECT_EQ(whole->result, 5u);
}

TEST_F(UnixSocketTest, AbstractNamesEndWithTheirSocket) {
  auto listener = *Make(AF_UNIX, SOCK_STREAM);
  auto client = *Make(AF_UNIX, SOCK_STREAM);
  EXPECT_ERRNO(ECONNREFUSED, client->Connect(ctx_, Abstract("x"), nullptr));
  EXPECT_OK(listener->Bind(ctx_, Abstract("x")));
  EXPECT_ERRNO(EADDRINUSE, client->Bind(ctx_, Abstract("x")));
  EXPECT_ERRNO(ECONNREFUSED, client->Connect(ctx_, Abstract("x"), nullptr));
  EXPECT_OK(listener->Listen(ctx_, 0));
  EXPECT_OK(client->Connect(ctx_, Abstract("x"), nullptr));
  auto second = *Make(AF_UNIX, SOCK_STREAM);
  RefPtr<SocketEvents> wait_on;
  EXPECT_ERRNO(EAGAIN, second->Connect(ctx_, Abstract("x"), &wait_on));
  EXPECT_NE(wait_on, nullptr);
  SocketAddress peer;
  auto accepted = *listener->Accept(ctx_, 0, &peer);
  EXPECT_EQ(peer.length, sizeof(sa_family_t));
  EXPECT_OK(Send(*client, "hi"));
  EXPECT_EQ(TextOf(*accepted), "hi");
  listener.reset();
  EXPECT_ERRNO(ECONNREFUSED, second->Connect(ctx_, Abstract("x"), nullptr));
  EXPECT_OK(second->Bind(ctx_, Abstract("x")));
}

TEST_F(UnixSocketTest, AClosedListenerResetsWhomItDidNotAccept) {
  auto listener = *Make(AF_UNIX, SOCK_STREAM);
  auto client = *Make(AF_UNIX, SOCK_STREAM);
  EXPECT_OK(listener->Bind(ctx_, Abstract("y")));
  EXPECT_OK(listener->Listen(ctx_, 4));
  EXPECT_OK(client->Connect(ctx_, Abstract("y"), nullptr));
  listener.reset();
  EXPECT_ERRNO(ECONNRESET, Receive(*client));
}

TEST_F(UnixSocketTest, DatagramsWaitForRoomInTheReceiver) {
  auto receiver = *Make(AF_UNIX, SOCK_DGRAM);
  auto sender = *Make(AF_UNIX, SOCK_DGRAM);
  EXPECT_OK(receiver->Bind(ctx_, Abstract("d")));
  EXPECT_ERRNO(ENOTCONN, Send(*sender, "x"));
  EXPECT_OK(sender->Connect(ctx_, Abstract("d"), nullptr));
  int sent = 0;
  while (Send(*sender, "x").ok()) ++sent;
  EXPECT_EQ(sent, 11);
  EXPECT_FALSE(Has(*sender, base::kEventOut));
  int events = 0;
  base::WaitEntry entry(base::kEventOut, [&](base::EventMask) { ++events; });
  base::ScopedWait wait(*sender->wait_queue(), entry);
  EXPECT_EQ(TextOf(*receiver), "x");
  EXPECT_EQ(events, 1);
  EXPECT_TRUE(Has(*sender, base::kEventOut));
  receiver.reset();
  EXPECT_ERRNO(ECONNREFUSED, Send(*sender, "x"));
  EXPECT_ERRNO(ENOTCONN, Send(*sender, "x"));
}

TEST_F(UnixSocketTest, DescriptorsAreABoundaryInAStream) {
  auto [a, b] = Pair(SOCK_STREAM);
  auto [x, y] = Pair(SOCK_STREAM);
  EXPECT_OK(Send(*a, "one"));
  EXPECT_OK(Send(*a, "two", 0, nullptr, *Rights::Create({RefPtr<FileDescription>(x)}, 0, UINT64_MAX)));
  EXPECT_OK(Send(*a, "three"));
  EXPECT_EQ(TextOf(*b), "one");
  auto with = Receive(*b);
  EXPECT_EQ(with->text, "two");
  ASSERT_NE(with->rights, nullptr);
  EXPECT_EQ(with->rights->files().size(), 1u);
  EXPECT_EQ(TextOf(*b), "three");
}

TEST_F(UnixSocketTest, TooManyDescriptorsInFlightAreRefused) {
  auto [a, b] = Pair(SOCK_STREAM);
  auto first = Rights::Create(std::vector(3, RefPtr<FileDescription>(a)), 7, 2);
  EXPECT_OK(first);
  EXPECT_ERRNO(ETOOMANYREFS, Rights::Create({RefPtr<FileDescription>(a)}, 7, 2));
  first = Errno(EIO);
  EXPECT_EQ(FilesInFlight(), 0);
}

TEST_F(UnixSocketTest, ACycleOfSocketsIsCollected) {
  auto [a, b] = Pair(SOCK_STREAM);
  EXPECT_OK(Send(*a, "x", 0, nullptr,
                 *Rights::Create({RefPtr<FileDescription>(a), RefPtr<FileDescription>(b)}, 0, UINT64_MAX)));
  EXPECT_OK(Send(*b, "x", 0, nullptr, *Rights::Create({RefPtr<FileDescription>(a)}, 0, UINT64_MAX)));
  a->OnDescriptorClosed(ctx_);  // b is still held: nothing happens
  a.reset();
  EXPECT_EQ(FilesInFlight(), 3);
  b->OnDescriptorClosed(ctx_);
  b.reset();
  EXPECT_EQ(FilesInFlight(), 0);
}

TEST_F(UnixSocketTest, ASocketInFlightThatCanBeReceivedIsKept) {
  auto [a, b] = Pair(SOCK_STREAM);
  auto [x, y] = Pair(SOCK_STREAM);
  EXPECT_OK(Send(*y, "kept"));
  EXPECT_OK(Send(*a, "x", 0, nullptr, *Rights::Create({RefPtr<FileDescription>(x)}, 0, UINT64_MAX)));
  x->OnDescriptorClosed(ctx_);
  x.reset();
  auto got = Receive(*b);
  ASSERT_NE(got->rights, nullptr);
  EXPECT_EQ(TextOf(static_cast<Socket&>(*got->rights->files()[0])), "kept");
}

TEST_F(UnixSocketTest, LongChainsOfSocketsEndWithoutRecursion) {
  auto [a, b] = Pair(SOCK_STREAM);
  for (int i = 0; i < 20000; ++i) {
    auto [x, y] = Pair(SOCK_STREAM);
    EXPECT_OK(Send(*x, "x", 0, nullptr, *Rights::Create({RefPtr<FileDescription>(b)}, 0, UINT64_MAX)));
    b = y;
  }
  b.reset();
  EXPECT_EQ(FilesInFlight(), 0);
}

}  // namespace
}  // namespace sentry

// Several threads on the same sockets: nothing is lost, nothing is used after its end. For ThreadSanitizer above all.
#include <thread>
#include <vector>

#include "tests/unit/socket/fixture.h"

namespace sentry {
namespace {

class SocketStress : public SocketTest {};

TEST_F(SocketStress, WritersAndReadersOfOneStreamMoveEveryByte) {
  auto [a, b] = Pair(SOCK_STREAM);
  constexpr int kWriters = 2, kReaders = 2;
  constexpr size_t kBytes = 2 << 20;
  std::atomic<size_t> read{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kWriters; ++i) {
    threads.emplace_back([&, i, s = a] {
      std::string block(1000 + 5000 * i, 'x');
      for (size_t left = kBytes; left != 0;) {
        auto sent = Send(*s, std::string_view(block).substr(0, std::min(left, block.size())));
        if (sent.ok())
          left -= *sent;
        else
          std::this_thread::yield();
      }
    });
  }
  for (int i = 0; i < kReaders; ++i) {
    threads.emplace_back([&, s = b] {
      while (read.load() < kWriters * kBytes) {
        auto got = Receive(*s, 7000);
        if (got.ok())
          read += got->text.size();
        else
          std::this_thread::yield();
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(read.load(), kWriters * kBytes);
  EXPECT_EQ(*b->ReadableBytes(), 0);
}

TEST_F(SocketStress, ConnectAcceptAndCloseRace) {
  for (int family : {AF_UNIX, AF_INET}) {
    for (int round = 0; round < 200; ++round) {
      auto listener = *Make(family, SOCK_STREAM);
      SocketAddress at = family == AF_UNIX ? Abstract("race") : V4(INADDR_LOOPBACK, 6000);
      ASSERT_OK(listener->Bind(ctx_, at));
      ASSERT_OK(listener->Listen(ctx_, 1));
      std::vector<std::thread> threads;
      for (int i = 0; i < 3; ++i) {
        threads.emplace_back([&] {
          VfsContext ctx = ctx_;
          auto client = *Make(family, SOCK_STREAM, 0, O_NONBLOCK);
          (void)client->Connect(ctx, at, nullptr);
          (void)Send(*client, "hello");
          (void)client->Readiness();
          (void)Receive(*client);
        });
      }
      threads.emplace_back([&] {
        VfsContext ctx = ctx_;
        for (int i = 0; i < 2; ++i) {
          SocketAddress peer;
          auto server = listener->Accept(ctx, 0, &peer);
          if (!server.ok()) continue;
          (void)Receive(**server);
          (void)Send(**server, "x");
        }
        listener.reset();
      });
      for (auto& t : threads) t.join();
    }
  }
  EXPECT_EQ(net_->tcp().size(), 0u);
  EXPECT_TRUE(net_->UnixObjects().empty());
  EXPECT_EQ(QueuedBytes(), 0);
}

TEST_F(SocketStress, DescriptorsInFlightAndTheCollectorRace) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      VfsContext ctx = ctx_;
      for (int round = 0; round < 200; ++round) {
        auto [a, b] = Pair(SOCK_STREAM);
        auto [x, y] = Pair(SOCK_DGRAM);
        (void)Send(*x, "kept", 0, nullptr, *Rights::Create({RefPtr<FileDescription>(a)}, 0, UINT64_MAX));
        (void)Send(*a, "cycle", 0, nullptr,
                   *Rights::Create({RefPtr<FileDescription>(b), RefPtr<FileDescription>(a)}, 0, UINT64_MAX));
        a->OnDescriptorClosed(ctx);
        a.reset();
        auto got = Receive(*y);
        ASSERT_NE(got->rights, nullptr);
        EXPECT_OK(Send(static_cast<Socket&>(*got->rights->files()[0]), "alive"));
        got = Errno(EIO);
        b->OnDescriptorClosed(ctx);
        b.reset();
      }
    });
  }
  for (auto& t : threads) t.join();
  // What a race left is found by the next closing of any socket.
  auto [a, b] = Pair(SOCK_STREAM);
  CollectUnreachableSockets(nullptr);
  EXPECT_EQ(FilesInFlight(), 0);
}

}  // namespace
}  // namespace sentry

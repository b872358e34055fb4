#include <poll.h>

#include <atomic>
#include <random>

#include "base/executor.h"
#include "base/fiber.h"
#include "tests/unit/gofer/gofer_fixture.h"

namespace gofer {
namespace {

// Every call checks that the reply it gets is its own.
void Work(Node& root, int seed, int rounds, std::atomic<int>& wrong) {
  std::mt19937 random(static_cast<unsigned>(seed));
  for (int i = 0; i < rounds; ++i) {
    int number = static_cast<int>(random() % 50);
    std::string name = "file" + std::to_string(number);
    std::string_view names[] = {name};
    if (random() % 8 == 0) {
      auto chunk = root.Readdir(0);
      if (!chunk.ok() || chunk->entries.size() != 50) wrong++;
      continue;
    }
    bool open = random() % 2 == 0;
    auto walked = root.Walk(names, {.open = open});
    if (!walked.ok() || walked->components.size() != 1 ||
        walked->components[0].attributes.size != static_cast<uint64_t>(number) || walked->file.valid() != open) {
      wrong++;
      continue;
    }
    if (random() % 16 == 0 && !walked->components[0].node->Fsync().ok()) wrong++;
    auto attributes = walked->components[0].node->GetAttr();
    if (!attributes.ok() || attributes->size != static_cast<uint64_t>(number)) wrong++;
  }
}

class ConcurrencyTest : public GoferTest {
 protected:
  ConcurrencyTest() {
    for (int i = 0; i < 50; ++i) dir_.Write("file" + std::to_string(i), std::string(static_cast<size_t>(i), 'x'));
  }
};

TEST_F(ConcurrencyTest, ManyThreadsShareOneConnection) {
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) threads.emplace_back([&, i] { Work(*root_, i, 300, wrong); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
}

TEST_F(ConcurrencyTest, ManyFibersShareOneConnection) {
  std::atomic<int> wrong{0};
  for (int executors : {1, 3}) {
    base::Scheduler scheduler({.executors = executors});
    std::vector<base::RefPtr<base::Fiber>> fibers;
    for (int i = 0; i < 100; ++i) {
      fibers.push_back(base::Fiber::Spawn(scheduler, {}, [&, i] { Work(*root_, i, 40, wrong); }));
    }
    // And host threads besides.
    std::thread thread([&] { Work(*root_, 1000, 200, wrong); });
    for (auto& fiber : fibers) fiber->Join();
    thread.join();
  }
  EXPECT_EQ(wrong.load(), 0);
}

TEST_F(ConcurrencyTest, AFiberAloneNeverParksForAQuickReply) {
  std::atomic<int> wrong{0};
  base::RunInFiber([&] { Work(*root_, 1, 500, wrong); });
  EXPECT_EQ(wrong.load(), 0);
}

// Replies that take longer than a fiber's patience come through the reactor.
TEST(Multiplexing, LateRepliesWakeParkedFibers) {
  auto channel = MakeChannel();
  ASSERT_OK(channel);
  std::thread slow([socket = std::move(channel->server)] {
    std::vector<uint8_t> buffer(kMaxMessageBytes), packet;
    std::vector<std::pair<uint32_t, uint64_t>> held;
    for (;;) {
      // Whatever has gathered is answered when nothing has come for a while, in reverse order.
      pollfd poll = {.fd = socket.get(), .events = POLLIN, .revents = 0};
      if (::poll(&poll, 1, 8) == 0) {
        for (; !held.empty(); held.pop_back()) {
          AttributesReply reply;
          reply.attributes.mode = S_IFREG;
          reply.attributes.size = held.back().second;
          ASSERT_TRUE(EncodeReply(MessageType::kSetAttr, reply, held.back().first, 0, packet));
          ASSERT_OK(SendPacket(socket.get(), packet, -1, true));
        }
        continue;
      }
      auto size = ReceivePacket(socket.get(), buffer, nullptr, nullptr, true);
      if (!size.ok() || *size == 0) return;
      ParsedRequest request;
      ASSERT_OK(ParseRequest(std::span(buffer).first(*size), request));
      if (std::holds_alternative<AttachRequest>(request.body)) {
        AttachReply reply;
        reply.version = kVersion;
        reply.max_message_bytes = kMaxMessageBytes;
        reply.max_in_flight = 64;
        reply.root = static_cast<NodeId>(1);
        reply.attributes.mode = S_IFDIR;
        ASSERT_TRUE(EncodeReply(MessageType::kAttach, reply, request.header.tag, 0, packet));
        ASSERT_OK(SendPacket(socket.get(), packet, -1, true));
        continue;
      }
      if (auto* set = std::get_if<SetAttrRequest>(&request.body)) held.push_back({request.header.tag, set->size});
    }
  });
  auto client = Client::Create(std::move(channel->client));
  auto attached = client->Attach(0);
  ASSERT_OK(attached);
  std::atomic<int> right{0};
  {
    base::Scheduler scheduler({.executors = 2});
    std::vector<base::RefPtr<base::Fiber>> fibers;
    for (int i = 0; i < 20; ++i) {
      fibers.push_back(base::Fiber::Spawn(scheduler, {}, [&, i] {
        for (int round = 0; round < 10; ++round) {
          const auto size = static_cast<uint64_t>(i) * 100 + static_cast<uint64_t>(round);
          auto reply = attached->root->SetAttr({.which = kSetSize, .size = size});
          if (reply.ok() && reply->size == size) right++;
        }
      }));
    }
    for (auto& fiber : fibers) fiber->Join();
  }
  EXPECT_EQ(right.load(), 200);
  attached = base::Errno(EIO);
  client.reset();
  slow.join();
}

TEST(Multiplexing, DisconnectWakesParkedFibers) {
  auto channel = MakeChannel();
  ASSERT_OK(channel);
  // Nobody answers, and more wait than may be in flight.
  auto client = Client::Create(std::move(channel->client));
  base::Scheduler scheduler({.executors = 2});
  std::vector<base::RefPtr<base::Fiber>> fibers;
  std::atomic<int> failed{0};
  for (int i = 0; i < 100; ++i) {
    fibers.push_back(base::Fiber::Spawn(scheduler, {}, [&] {
      if (client->Attach(0).failed_with(EIO)) failed++;
    }));
  }
  usleep(20'000);
  EXPECT_EQ(failed.load(), 0);
  client->Disconnect();
  for (auto& fiber : fibers) fiber->Join();
  EXPECT_EQ(failed.load(), 100);
}

}  // namespace
}  // namespace gofer

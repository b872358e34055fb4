// Streams of random pieces, compared with what was sent.
#include "sentry/socket/connection.h"

#include <random>

#include "tests/unit/socket/fixture.h"

namespace sentry {
namespace {

class ConnectionTest : public SocketTest {};

TEST_F(ConnectionTest, EverySequenceOfSendsReadsAndPeeksKeepsTheBytes) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    auto [a, b] = Pair(SOCK_STREAM);
    std::string expected;  // sent, not read yet
    uint8_t next = 0;
    for (int step = 0; step < 2000; ++step) {
      if (random() % 2 == 0) {
        std::string text(random() % 9000, '\0');
        for (char& c : text) c = static_cast<char>(next++);
        auto sent = Send(*a, text);
        size_t n = sent.ok() ? *sent : 0;
        expected += text.substr(0, n);
        next = static_cast<uint8_t>(next - (text.size() - n));
      } else {
        bool peek = random() % 4 == 0;
        auto got = Receive(*b, random() % 12000, peek ? MSG_PEEK : 0);
        if (!got.ok()) {
          EXPECT_TRUE(expected.empty());
          continue;
        }
        ASSERT_EQ(got->text, expected.substr(0, got->text.size())) << "seed " << seed << " step " << step;
        if (!peek) expected.erase(0, got->text.size());
      }
      ASSERT_EQ(*b->ReadableBytes(), static_cast<int>(expected.size()));
    }
  }
  EXPECT_EQ(QueuedBytes(), 0);
}

}  // namespace
}  // namespace sentry

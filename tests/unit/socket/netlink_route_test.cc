#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include <random>

#include "tests/unit/socket/fixture.h"

namespace sentry {
namespace {

std::string Request(uint16_t type, uint16_t flags) {
  struct {
    nlmsghdr header;
    rtgenmsg body;
  } request{};
  request.header.nlmsg_len = sizeof(request);
  request.header.nlmsg_type = type;
  request.header.nlmsg_flags = flags;
  request.header.nlmsg_seq = 7;
  return std::string(reinterpret_cast<char*>(&request), sizeof(request));
}

// Types of the messages in the answers.
std::vector<int> TypesOf(const std::vector<std::string>& answers) {
  std::vector<int> types;
  for (const std::string& answer : answers) {
    for (size_t at = 0; at + sizeof(nlmsghdr) <= answer.size();) {
      nlmsghdr header;
      memcpy(&header, answer.data() + at, sizeof(header));
      types.push_back(header.nlmsg_type);
      EXPECT_EQ(header.nlmsg_seq, 7u);
      at += NLMSG_ALIGN(header.nlmsg_len);
    }
  }
  return types;
}

TEST(NetlinkRoute, DumpsLo) {
  using ::testing::ElementsAre;
  EXPECT_THAT(TypesOf(AnswerRoute(Request(RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP), 1)),
              ElementsAre(RTM_NEWLINK, NLMSG_DONE));
  EXPECT_THAT(TypesOf(AnswerRoute(Request(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP), 1)),
              ElementsAre(RTM_NEWADDR, RTM_NEWADDR, NLMSG_DONE));
  EXPECT_THAT(TypesOf(AnswerRoute(Request(RTM_NEWLINK, NLM_F_REQUEST), 1)), ElementsAre(NLMSG_ERROR));
}

TEST(NetlinkRoute, SurvivesNoise) {
  std::mt19937 random(1);
  for (int i = 0; i < 20000; ++i) {
    std::string noise(random() % 100, '\0');
    for (char& c : noise) c = static_cast<char>(random());
    if (noise.size() >= 8 && i % 2 == 0) {
      uint16_t type = RTM_GETLINK + 4 * (random() % 4), flags = NLM_F_REQUEST;
      memcpy(noise.data() + 4, &type, 2);
      memcpy(noise.data() + 6, &flags, 2);
    }
    (void)AnswerRoute(noise, 1);
  }
}

}  // namespace
}  // namespace sentry

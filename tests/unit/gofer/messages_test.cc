#include "gofer/protocol/messages.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <random>
#include <string>

namespace gofer {
namespace {

std::vector<uint8_t> EncodedWalk() {
  WalkRequest walk;
  walk.base = static_cast<NodeId>(0x1122334455667788);
  walk.flags = kWalkOpen;
  walk.open_flags = 02;
  walk.names = {"usr", "lib", "x"};
  std::vector<uint8_t> packet;
  NodeId closes[] = {static_cast<NodeId>(7), static_cast<NodeId>(8)};
  EXPECT_TRUE(EncodeRequest(walk, 0xabcd, closes, packet));
  return packet;
}

TEST(Messages, ARequestSurvivesTheWay) {
  std::vector<uint8_t> packet = EncodedWalk();
  ParsedRequest parsed;
  ASSERT_TRUE(ParseRequest(packet, parsed).ok());
  EXPECT_EQ(parsed.header.tag, 0xabcdu);
  ASSERT_EQ(parsed.closes.size(), 2u);
  EXPECT_EQ(parsed.closes[1], static_cast<NodeId>(8));
  const auto& walk = std::get<WalkRequest>(parsed.body);
  EXPECT_EQ(walk.base, static_cast<NodeId>(0x1122334455667788));
  EXPECT_EQ(walk.names, (std::vector<std::string_view>{"usr", "lib", "x"}));
}

TEST(Messages, TheLayoutIsLittleEndianAndFixed) {
  GetAttrRequest request;
  request.node = static_cast<NodeId>(0x0102030405060708);
  std::vector<uint8_t> packet;
  ASSERT_TRUE(EncodeRequest(request, 0x11223344, {}, packet));
  EXPECT_EQ(packet, (std::vector<uint8_t>{24, 0, 0, 0, 12, 0, 0, 0, 0x44, 0x33, 0x22, 0x11,
                                          0,  0, 0, 0, 8,  7, 6, 5, 4,    3,    2,    1}));
}

TEST(Messages, EveryTruncationIsRefused) {
  std::vector<uint8_t> packet = EncodedWalk();
  for (size_t size = 0; size < packet.size(); ++size) {
    std::vector<uint8_t> cut(packet.begin(), packet.begin() + static_cast<ptrdiff_t>(size));
    ParsedRequest parsed;
    EXPECT_TRUE(ParseRequest(cut, parsed).failed_with(EBADMSG)) << size;
    // And with a size that agrees.
    if (size >= kHeaderBytes) {
      cut[0] = static_cast<uint8_t>(size);
      EXPECT_TRUE(ParseRequest(cut, parsed).failed_with(EPROTO)) << size;
    }
  }
  packet.push_back(0);
  packet[0] = static_cast<uint8_t>(packet.size());
  ParsedRequest parsed;
  EXPECT_TRUE(ParseRequest(packet, parsed).failed_with(EPROTO));
}

TEST(Messages, UnknownTypesAreToldApart) {
  std::vector<uint8_t> packet = EncodedWalk();
  ParsedRequest parsed;
  for (int type : {0, 27, 99, 0x8002}) {
    packet[4] = static_cast<uint8_t>(type);
    packet[5] = static_cast<uint8_t>(type >> 8);
    EXPECT_TRUE(ParseRequest(packet, parsed).failed_with(ENOSYS)) << type;
  }
}

TEST(Messages, NamesAreCheckedOnBothEnds) {
  for (std::string name : {std::string("."), std::string(".."), std::string("a/b"), std::string("a\0b", 3),
                           std::string(), std::string(256, 'x')}) {
    MkdirRequest request;
    request.name = name;
    std::vector<uint8_t> packet;
    EXPECT_FALSE(EncodeRequest(request, 1, {}, packet));
    // Smuggled in: the encoding of a good name of the same length, overwritten.
    std::string placeholder(name.size(), 'y');
    request.name = placeholder;
    if (name.empty() || name.size() > 255) continue;
    ASSERT_TRUE(EncodeRequest(request, 1, {}, packet) || placeholder == "..");
    std::copy(name.begin(), name.end(), packet.end() - static_cast<ptrdiff_t>(name.size()));
    ParsedRequest parsed;
    EXPECT_TRUE(ParseRequest(packet, parsed).failed_with(EPROTO)) << name;
  }
  EXPECT_TRUE(ValidName("..."));
  EXPECT_TRUE(ValidName(std::string(255, 'x')));
}

TEST(Messages, ACountThatIsNotCoveredByBytesAllocatesNothing) {
  std::vector<uint8_t> packet = EncodedWalk();
  // The count of names lies after header, two closes, base, flags and open_flags.
  size_t at = kHeaderBytes + 16 + 8 + 4 + 4;
  packet[at] = 0xff, packet[at + 1] = 0xff, packet[at + 2] = 0xff, packet[at + 3] = 0xff;
  ParsedRequest parsed;
  EXPECT_TRUE(ParseRequest(packet, parsed).failed_with(EPROTO));
  EXPECT_EQ(std::get<WalkRequest>(parsed.body).names.capacity(), 0u);
  // And closes.
  packet = EncodedWalk();
  packet[6] = 0xff, packet[7] = 0xff;
  EXPECT_TRUE(ParseRequest(packet, parsed).failed_with(EPROTO));
}

TEST(Messages, RepliesAreCheckedToo) {
  AttributesReply reply;
  reply.attributes.mode = S_IFREG | 0644;
  std::vector<uint8_t> packet;
  ASSERT_TRUE(EncodeReply(MessageType::kGetAttr, reply, 1, 0, packet));
  EXPECT_TRUE(ParseReply(packet).ok());
  EXPECT_EQ(packet.size(), kHeaderBytes + kAttributesBytes);
  // A file type that does not exist, a negative size.
  reply.attributes.mode = 0170000;
  EXPECT_FALSE(EncodeReply(MessageType::kGetAttr, reply, 1, 0, packet));
  reply.attributes.mode = S_IFREG;
  reply.attributes.size = uint64_t{1} << 63;
  EXPECT_FALSE(EncodeReply(MessageType::kGetAttr, reply, 1, 0, packet));
  EncodeErrorReply(12, 1, ENOENT, packet);
  auto header = ParseReplyHeader(packet);
  ASSERT_TRUE(header.ok());
  EXPECT_EQ(header->error, ENOENT);
  // An error with a body, a request's type, two descriptors.
  std::vector<uint8_t> bad = packet;
  bad.push_back(0), bad[0]++;
  EXPECT_FALSE(ParseReplyHeader(bad).ok());
  bad = packet, bad[5] = 0;
  EXPECT_FALSE(ParseReplyHeader(bad).ok());
  bad = packet, bad[6] = 2;
  EXPECT_FALSE(ParseReplyHeader(bad).ok());
}

// A small version of what the fuzzers do: mutations of valid packets, and noise.
TEST(Messages, NoiseIsSurvived) {
  std::mt19937 random(1);
  std::vector<uint8_t> seed = EncodedWalk();
  ParsedRequest parsed;
  for (int i = 0; i < 200'000; ++i) {
    std::vector<uint8_t> packet;
    if (i % 2 == 0) {
      packet = seed;
      for (int m = 0; m < 3; ++m) packet[random() % packet.size()] = static_cast<uint8_t>(random());
    } else {
      packet.resize(random() % 200);
      for (uint8_t& byte : packet) byte = static_cast<uint8_t>(random() % 4 == 0 ? random() : random() % 8);
      if (packet.size() >= kHeaderBytes) {
        packet[0] = static_cast<uint8_t>(packet.size());
        packet[1] = packet[2] = packet[3] = 0;
        packet[4] = static_cast<uint8_t>(random() % 25);
        packet[5] = i % 4 == 1 ? 0x80 : 0;
        packet[6] = static_cast<uint8_t>(random() % 2), packet[7] = 0;
        packet[12] = packet[13] = packet[14] = packet[15] = 0;
      }
    }
    (void)ParseRequest(packet, parsed);
    (void)ParseReply(packet);
  }
}

}  // namespace
}  // namespace gofer

// A server against a peer that does not keep to the protocol.
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cstring>

#include "tests/unit/gofer/gofer_fixture.h"

namespace gofer {
namespace {

class HostileSentryTest : public testing::Test {
 protected:
  HostileSentryTest() : server_(OneMount(dir_)) {}

  void Send(const std::vector<uint8_t>& packet) {
    (void)SendPacket(server_.client_end.get(), packet, -1, /*wait=*/true);
  }
  // The error in the next reply, or −1 if the server hung up.
  int ReceiveError() {
    std::vector<uint8_t> buffer(kMaxMessageBytes);
    base::UniqueFd fd;
    base::Result<size_t> size = base::Errno(EAGAIN);  // which the end's receive timeout makes of patience
    while (size.failed_with(EAGAIN))
      size = ReceivePacket(server_.client_end.get(), buffer, &fd, nullptr, /*wait=*/true);
    if (!size.ok() || *size == 0) return -1;
    auto header = ParseReplyHeader(std::span(buffer).first(*size));
    EXPECT_OK(header);
    last_.assign(buffer.begin(), buffer.begin() + static_cast<ptrdiff_t>(*size));
    return header.ok() ? static_cast<int>(header->error) : -2;
  }
  template <typename RequestT>
  int Ask(const RequestT& request) {
    std::vector<uint8_t> packet;
    EXPECT_TRUE(EncodeRequest(request, 1, {}, packet));
    Send(packet);
    return ReceiveError();
  }
  NodeId Attach() {
    EXPECT_EQ(Ask(AttachRequest()), 0);
    AttachReply reply;
    EXPECT_OK(ParseReplyBody(last_, reply));
    return reply.root;
  }
  bool Alive() {
    GetAttrRequest request;
    return Ask(request) == ESTALE;
  }

  TempDirectory dir_;
  RunningServer server_;
  std::vector<uint8_t> last_;
};

TEST_F(HostileSentryTest, AttachComesFirst) {
  GetAttrRequest request;
  EXPECT_EQ(Ask(request), EPROTO);
  AttachRequest attach;
  attach.version = 0;
  EXPECT_EQ(Ask(attach), EPROTONOSUPPORT);
  attach = AttachRequest();
  attach.version = kVersion + 5;  // a newer client: the server's version it is
  EXPECT_EQ(Ask(attach), 0);
  AttachReply reply;
  EXPECT_OK(ParseReplyBody(last_, reply));
  EXPECT_EQ(reply.version, kVersion);
}

TEST_F(HostileSentryTest, IdsThatWereNeverGivenAreStale) {
  NodeId root = Attach();
  for (uint64_t id : {uint64_t{0}, uint64_t{1}, uint64_t{0xffffffff}, ~uint64_t{0}, static_cast<uint64_t>(root) + 1,
                      static_cast<uint64_t>(root) + (uint64_t{1} << 32)}) {
    GetAttrRequest request;
    request.node = static_cast<NodeId>(id);
    EXPECT_EQ(Ask(request), ESTALE) << id;
    WalkRequest walk;
    walk.base = static_cast<NodeId>(id);
    EXPECT_EQ(Ask(walk), ESTALE) << id;
  }
}

TEST_F(HostileSentryTest, AClosedIdStaysStaleWhenItsSlotIsUsedAgain) {
  NodeId root = Attach();
  dir_.Write("file", "");
  WalkRequest walk;
  walk.base = root;
  walk.names = {"file"};
  ASSERT_EQ(Ask(walk), 0);
  WalkReply reply;
  ASSERT_OK(ParseReplyBody(last_, reply));
  NodeId first = reply.components[0].node;
  std::vector<uint8_t> packet;
  NodeId closes[] = {first, first, static_cast<NodeId>(12345)};
  ASSERT_TRUE(EncodeRequest(walk, 1, closes, packet));
  Send(packet);
  ASSERT_EQ(ReceiveError(), 0);
  WalkReply second_reply;
  ASSERT_OK(ParseReplyBody(last_, second_reply));
  EXPECT_NE(second_reply.components[0].node, first);
  GetAttrRequest get;
  get.node = first;
  EXPECT_EQ(Ask(get), ESTALE);
  get.node = second_reply.components[0].node;
  EXPECT_EQ(Ask(get), 0);
}

TEST_F(HostileSentryTest, MalformedBodiesAreAnswered) {
  Attach();
  MkdirRequest request;
  request.name = "xxxx";
  for (std::string_view name : {"a/..", "..\0x", "../x"}) {
    std::vector<uint8_t> packet;
    ASSERT_TRUE(EncodeRequest(request, 1, {}, packet));
    memcpy(packet.data() + packet.size() - 4, name.data(), 4);
    Send(packet);
    EXPECT_EQ(ReceiveError(), EPROTO) << name;
  }
  std::vector<uint8_t> packet;
  ASSERT_TRUE(EncodeRequest(request, 1, {}, packet));
  packet[4] = 77;
  Send(packet);
  EXPECT_EQ(ReceiveError(), ENOSYS);
  EXPECT_TRUE(Alive());
  EXPECT_TRUE(std::filesystem::is_empty(dir_.path()));
}

TEST_F(HostileSentryTest, AHeaderThatLiesEndsTheConnection) {
  Attach();
  std::vector<uint8_t> packet;
  ASSERT_TRUE(EncodeRequest(GetAttrRequest(), 1, {}, packet));
  packet[0]++;
  Send(packet);
  EXPECT_EQ(ReceiveError(), -1);
  server_.Join();
  EXPECT_EQ(server_.end, ServeEnd::kProtocolError);
}

TEST_F(HostileSentryTest, AnOversizedPacketEndsTheConnection) {
  Attach();
  Send(std::vector<uint8_t>(kMaxMessageBytes + 1));
  EXPECT_EQ(ReceiveError(), -1);
  server_.Join();
  EXPECT_EQ(server_.end, ServeEnd::kProtocolError);
}

TEST_F(HostileSentryTest, DescriptorsAreRefused) {
  Attach();
  std::vector<uint8_t> packet;
  ASSERT_TRUE(EncodeRequest(GetAttrRequest(), 1, {}, packet));
  ASSERT_OK(SendPacket(server_.client_end.get(), packet, STDERR_FILENO, /*wait=*/true));
  EXPECT_EQ(ReceiveError(), -1);
}

TEST_F(HostileSentryTest, AShortPacketEndsTheConnection) {
  Attach();
  Send({1, 0, 0});
  EXPECT_EQ(ReceiveError(), -1);
}

// The server shares this process's descriptor table here, so that its limit can be lowered from outside.
TEST_F(HostileSentryTest, RunningOutOfDescriptorsIsAnError) {
  NodeId root = Attach();
  dir_.MakeDirectory("a/b/c");
  dir_.Write("file", "x");
  WalkRequest walk;
  walk.base = root;
  walk.names = {"a", "b", "c"};
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  base::UniqueFd next(static_cast<int>(syscall(SYS_dup, 0)));  // uninstrumented, as the closes of UniqueFd are
  rlimit tight = limit;
  tight.rlim_cur = static_cast<rlim_t>(next.get());
  next.reset();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
  int walked = Ask(walk);
  WalkReply reply;
  auto parsed = ParseReplyBody(last_, reply);
  CreateRequest create;
  create.directory = root;
  create.name = "new";
  create.mode = 0600;
  int created = Ask(create);
  ReaddirRequest readdir;
  readdir.node = root;
  int read = Ask(readdir);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_EQ(walked, 0);
  ASSERT_OK(parsed);
  EXPECT_EQ(reply.stop_errno, static_cast<uint32_t>(EMFILE));
  EXPECT_TRUE(reply.components.empty());
  EXPECT_EQ(created, EMFILE);
  EXPECT_EQ(read, EMFILE);
  EXPECT_EQ(Ask(walk), 0);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "new"));
}

}  // namespace
}  // namespace gofer

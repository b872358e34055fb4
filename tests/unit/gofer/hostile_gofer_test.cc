// A client against a gofer that does not keep to the protocol, or dies.
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <functional>

#include "tests/unit/gofer/gofer_fixture.h"

namespace gofer {
namespace {

// Answers Attach properly and every later request with what `answer` puts into the packet and descriptor.
class FakeGofer {
 public:
  using Answer = std::function<void(const ParsedRequest&, std::vector<uint8_t>& packet, base::UniqueFd& fd)>;
  explicit FakeGofer(Answer answer) {
    auto channel = MakeChannel();
    client_ = Client::Create(std::move(channel->client));
    thread_ = std::thread([socket = std::move(channel->server), answer = std::move(answer)] {
      std::vector<uint8_t> buffer(kMaxMessageBytes);
      for (;;) {
        auto size = ReceivePacket(socket.get(), buffer, nullptr, nullptr, /*wait=*/true);
        if (!size.ok() || *size == 0) return;
        ParsedRequest request;
        EXPECT_OK(ParseRequest(std::span(buffer).first(*size), request));
        if (request.header.type == static_cast<uint16_t>(MessageType::kClose)) continue;
        std::vector<uint8_t> packet;
        base::UniqueFd fd;
        if (request.header.type == static_cast<uint16_t>(MessageType::kAttach)) {
          AttachReply reply;
          reply.version = kVersion;
          reply.max_message_bytes = kMaxMessageBytes;
          reply.max_in_flight = 8;
          reply.root = static_cast<NodeId>(1);
          reply.attributes.mode = S_IFDIR | 0755;
          EXPECT_TRUE(EncodeReply(MessageType::kAttach, reply, request.header.tag, 0, packet));
        } else {
          answer(request, packet, fd);
        }
        if (!packet.empty()) (void)SendPacket(socket.get(), packet, fd.get(), /*wait=*/true);
      }
    });
    auto attached = client_->Attach(0);
    EXPECT_OK(attached);
    root_ = attached->root;
  }
  ~FakeGofer() {
    client_->Disconnect();
    root_.reset();
    client_.reset();
    thread_.join();
  }
  Node& root() { return *root_; }
  Client& client() { return *client_; }

 private:
  base::RefPtr<Client> client_;
  base::RefPtr<Node> root_;
  std::thread thread_;
};

// A call that `answer` spoils fails with EIO, and so does everything afterwards.
void ExpectBroken(FakeGofer::Answer answer, std::function<int(Node&)> call) {
  FakeGofer gofer(std::move(answer));
  EXPECT_EQ(call(gofer.root()), EIO);
  EXPECT_TRUE(gofer.client().broken());
  EXPECT_ERRNO(EIO, gofer.root().GetAttr());
  EXPECT_ERRNO(EIO, gofer.client().Attach(0));
}

template <typename T>
int Error(const base::Result<T>& result) {
  return result.ok() ? 0 : result.error().value();
}
int GetAttrError(Node& node) { return Error(node.GetAttr()); }

AttributesReply GoodAttributes() {
  AttributesReply reply;
  reply.attributes.mode = S_IFREG | 0644;
  return reply;
}

TEST(HostileGofer, SpoiledReplies) {
  using P = std::vector<uint8_t>;
  // Too short for a header.
  ExpectBroken([](auto&, P& packet, auto&) { packet = {1, 2, 3}; }, GetAttrError);
  // A body that is too short, or too long.
  for (int change : {-1, 1}) {
    ExpectBroken(
        [change](auto& request, P& packet, auto&) {
          (void)EncodeReply(MessageType::kGetAttr, GoodAttributes(), request.header.tag, 0, packet);
          packet.resize(change < 0 ? packet.size() - 1 : packet.size() + 1);
          packet[0] = static_cast<uint8_t>(packet.size());
        },
        GetAttrError);
  }
  // Larger than any message.
  ExpectBroken([](auto&, P& packet, auto&) { packet.resize(kMaxMessageBytes + 100); }, GetAttrError);
  // A tag that nobody uses; another type; a request.
  ExpectBroken(
      [](auto& request, P& packet, auto&) {
        (void)EncodeReply(MessageType::kGetAttr, GoodAttributes(), request.header.tag + 1, 0, packet);
      },
      GetAttrError);
  ExpectBroken([](auto& request, P& packet,
                  auto&) { (void)EncodeReply(MessageType::kStatFs, StatFsReply(), request.header.tag, 0, packet); },
               GetAttrError);
  ExpectBroken(
      [](auto& request, P& packet, auto&) { (void)EncodeRequest(GetAttrRequest(), request.header.tag, {}, packet); },
      GetAttrError);
  // A file type that does not exist.
  ExpectBroken(
      [](auto& request, P& packet, auto&) {
        (void)EncodeReply(MessageType::kGetAttr, GoodAttributes(), request.header.tag, 0, packet);
        packet[kHeaderBytes + 9 * 8 + 1] = 0xff;
      },
      GetAttrError);
}

TEST(HostileGofer, DescriptorsThatDoNotBelong) {
  using P = std::vector<uint8_t>;
  auto devnull = [](base::UniqueFd& fd) { fd.reset(open("/dev/null", O_RDONLY | O_CLOEXEC)); };
  // One that was not announced, one that nobody asked for, none where there should be one.
  ExpectBroken(
      [&](auto& request, P& packet, base::UniqueFd& fd) {
        (void)EncodeReply(MessageType::kGetAttr, GoodAttributes(), request.header.tag, 0, packet);
        devnull(fd);
      },
      GetAttrError);
  ExpectBroken(
      [&](auto& request, P& packet, base::UniqueFd& fd) {
        (void)EncodeReply(MessageType::kGetAttr, GoodAttributes(), request.header.tag, 1, packet);
        devnull(fd);
      },
      GetAttrError);
  auto open_read = [](Node& node) { return Error(node.Open(O_RDONLY)); };
  ExpectBroken(
      [&](auto& request, P& packet, base::UniqueFd&) {
        (void)EncodeReply(MessageType::kOpen, EmptyReply(), request.header.tag, 0, packet);
      },
      open_read);
  // A device, a directory, a file open with more rights or only by path.
  for (auto [path, flags] : {std::pair("/dev/null", O_RDONLY), std::pair("/", O_RDONLY),
                             std::pair("/etc/passwd", O_RDWR), std::pair("/etc/passwd", O_PATH)}) {
    ExpectBroken(
        [path = path, flags = flags](auto& request, P& packet, base::UniqueFd& fd) {
          (void)EncodeReply(MessageType::kOpen, EmptyReply(), request.header.tag, 1, packet);
          fd.reset(open(path, flags | O_CLOEXEC));
        },
        open_read);
  }
}

TEST(HostileGofer, WalksThatCannotBe) {
  auto walk = [](Node& node) {
    std::vector<std::string_view> names = {"a", "b"};
    return Error(node.Walk(names));
  };
  auto answer = [](WalkReply reply) {
    return [reply](auto& request, std::vector<uint8_t>& packet, auto&) {
      (void)EncodeReply(MessageType::kWalk, reply, request.header.tag, 0, packet);
    };
  };
  WalkReply::Component directory = {static_cast<NodeId>(5), {.mode = S_IFDIR}};
  WalkReply::Component file = {static_cast<NodeId>(6), {.mode = S_IFREG}};
  WalkReply::Component link = {static_cast<NodeId>(7), {.mode = S_IFLNK}};
  WalkReply reply;
  reply.components = {directory};  // no progress, no reason
  ExpectBroken(answer(reply), walk);
  reply.components = {file, directory};  // through a file
  ExpectBroken(answer(reply), walk);
  reply.components = {link, directory};  // through a link
  ExpectBroken(answer(reply), walk);
  reply.components = {directory, directory, directory};  // more than asked
  ExpectBroken(answer(reply), walk);
  reply.components = {directory, file};
  reply.components[1].node = NodeId::kNone;  // without a node
  ExpectBroken(answer(reply), walk);
  reply.components[1].node = static_cast<NodeId>(6);
  reply.symlink_target = "/etc";  // of a file
  ExpectBroken(answer(reply), walk);
  reply.symlink_target = {};
  FakeGofer good(answer(reply));
  EXPECT_EQ(walk(good.root()), 0);
  // Entries that nobody asked for, and entries of a file.
  reply.listing.entries = {{.ino = 1, .cookie = 1, .type = 8, .name = "c"}};
  ExpectBroken(answer(reply), walk);
  auto list = [](Node& node) {
    std::vector<std::string_view> names = {"a", "b"};
    return Error(node.Walk(names, {.list = true}));
  };
  ExpectBroken(answer(reply), list);
  reply.components = {directory, directory};
  ExpectBroken(answer(reply), walk);
  FakeGofer listing(answer(reply));
  EXPECT_EQ(list(listing.root()), 0);
}

TEST(HostileGofer, AnErrnoOfTheKernelsInsideDoesNotComeThrough) {
  FakeGofer gofer([](auto& request, std::vector<uint8_t>& packet, auto&) {
    EncodeErrorReply(request.header.type, request.header.tag, 512, packet);
  });
  EXPECT_ERRNO(EIO, gofer.root().GetAttr());
  EXPECT_FALSE(gofer.client().broken());
}

TEST(HostileGofer, AFullDescriptorTableHereFailsOnlyTheCall) {
  FakeGofer gofer([](auto& request, std::vector<uint8_t>& packet, base::UniqueFd& fd) {
    (void)EncodeReply(MessageType::kOpen, EmptyReply(), request.header.tag, 1, packet);
    fd.reset(open("/etc/passwd", O_RDONLY | O_CLOEXEC));
  });
  EXPECT_OK(gofer.root().Open(O_RDONLY));
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  // The fake gofer needs one descriptor of the same table; it goes back when the packet is sent. So occupy all but one,
  // and let the first reply's descriptor keep it.
  base::UniqueFd next(static_cast<int>(syscall(SYS_dup, 0)));  // uninstrumented, as the closes of UniqueFd are
  rlimit tight = limit;
  tight.rlim_cur = static_cast<rlim_t>(next.get()) + 1;
  next.reset();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
  int error = Error(gofer.root().Open(O_RDONLY));
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  // Whether the gofer has closed its own yet decides between success and EMFILE; the connection lives either way.
  EXPECT_TRUE(error == 0 || error == EMFILE) << error;
  EXPECT_FALSE(gofer.client().broken());
}

TEST(HostileGofer, DeathFailsPendingAndLaterCalls) {
  TempDirectory dir;
  auto channel = MakeChannel();
  ASSERT_OK(channel);
  pid_t child = fork();
  if (child == 0) {
    channel->client.reset();
    // Serves Attach, then falls silent.
    std::vector<uint8_t> buffer(kMaxMessageBytes), packet;
    auto size = ReceivePacket(channel->server.get(), buffer, nullptr, nullptr, true);
    ParsedRequest request;
    if (!size.ok() || !ParseRequest(std::span(buffer).first(*size), request).ok()) _exit(1);
    AttachReply reply;
    reply.version = kVersion;
    reply.max_message_bytes = kMaxMessageBytes;
    reply.max_in_flight = 64;
    reply.root = static_cast<NodeId>(1);
    reply.attributes.mode = S_IFDIR;
    if (!EncodeReply(MessageType::kAttach, reply, request.header.tag, 0, packet)) _exit(1);
    (void)SendPacket(channel->server.get(), packet, -1, true);
    for (;;) pause();
  }
  channel->server.reset();
  auto client = Client::Create(std::move(channel->client));
  auto attached = client->Attach(0);
  ASSERT_OK(attached);
  std::vector<std::thread> callers;
  std::atomic<int> failed{0};
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] {
      if (Error(attached->root->GetAttr()) == EIO) failed++;
    });
  }
  usleep(20'000);
  EXPECT_EQ(failed.load(), 0);
  kill(child, SIGKILL);
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(failed.load(), 4);
  EXPECT_TRUE(client->broken());
  EXPECT_ERRNO(EIO, attached->root->GetAttr());
  waitpid(child, nullptr, 0);
}

}  // namespace
}  // namespace gofer

// Requests of every type with ids, names and flags at random, and then bytes changed at random, against a real server:
// whatever comes is answered or ends the connection, and nothing outside of the mount changes.
#include <random>

#include "tests/unit/gofer/gofer_fixture.h"

namespace gofer {
namespace {

class Noise {
 public:
  Noise(unsigned seed, NodeId root) : random_(seed), root_(root) {}

  std::vector<uint8_t> Next() {
    std::vector<uint8_t> packet;
    while (!Encode(packet)) {
    }
    if (random_() % 4 == 0) {
      for (unsigned i = 0; i <= random_() % 3; ++i) {
        packet[kHeaderBytes + random_() % (packet.size() - kHeaderBytes + 1) - 1] = static_cast<uint8_t>(random_());
      }
    }
    return packet;
  }
  bool Chance(unsigned of) { return random_() % of == 0; }

 private:
  NodeId Id() {
    switch (random_() % 4) {
      case 0:
      case 1:
        return root_;
      case 2:
        return random_() % 4 == 0 ? static_cast<NodeId>(random_()) : OtherId();
      default:
        return OtherId();
    }
  }
  // Slots after the root's, of the first generations.
  NodeId OtherId() {
    return static_cast<NodeId>((uint64_t{1} + random_() % 2) << 32 |
                               ((static_cast<uint64_t>(root_) & 0xffffffff) + 1 + random_() % 12));
  }
  std::string_view Name() {
    static constexpr std::string_view kNames[] = {"a", "b", "c", "dir", "file", "link", "outside", "x"};
    return kNames[random_() % std::size(kNames)];
  }
  uint32_t Small() { return static_cast<uint32_t>(random_() % 8); }

  template <typename RequestT>
  bool Finish(const RequestT& request, std::vector<uint8_t>& packet) {
    std::vector<NodeId> closes;
    if (random_() % 6 == 0) closes = {OtherId()};
    return EncodeRequest(request, static_cast<uint32_t>(random_()), closes, packet);
  }

  bool Encode(std::vector<uint8_t>& out) {
    switch (random_() % 23) {
      case 0:
        return Finish(AttachRequest{.mount = Small() / 4}, out);
      case 1:
        return Finish(OpenRequest{.node = Id(), .flags = static_cast<uint32_t>(random_()) & kOpenFlagsMask}, out);
      case 2:
        return Finish(CreateRequest{.directory = Id(), .open_flags = Small() & 3, .mode = 0644, .name = Name()}, out);
      case 3:
        return Finish(MkdirRequest{.directory = Id(), .mode = 0755, .name = Name()}, out);
      case 4:
        return Finish(SymlinkRequest{.directory = Id(), .name = Name(), .target = "../outside/secret"}, out);
      case 5:
        return Finish(LinkRequest{.node = Id(), .directory = Id(), .name = Name()}, out);
      case 6:
        return Finish(MknodRequest{.directory = Id(), .mode = (Small() << 13 | 0600) & 0177777u, .name = Name()}, out);
      case 7:
        return Finish(UnlinkRequest{.directory = Id(), .flags = Small() & 1, .name = Name()}, out);
      case 8:
        return Finish(RenameRequest{.old_directory = Id(),
                                    .new_directory = Id(),
                                    .flags = Small() & 3,
                                    .old_name = Name(),
                                    .new_name = Name()},
                      out);
      case 9:
        return Finish(SetAttrRequest{.node = Id(),
                                     .which = static_cast<uint32_t>(random_()) & (kSetAll & ~(kSetUid | kSetGid)),
                                     .mode = 0755,
                                     .size = random_() % 5000},
                      out);
      case 10:
        return Finish(GetAttrRequest{.node = Id()}, out);
      case 11:
        return Finish(ReadLinkRequest{.node = Id()}, out);
      case 12:
        return Finish(ReaddirRequest{.node = Id(), .cookie = Small() == 0 ? random_() : 0, .max_bytes = Small() * 999},
                      out);
      case 13:
        return Finish(GetXattrRequest{.node = Id(), .name = "user.a"}, out);
      case 14:
        return Finish(SetXattrRequest{.node = Id(), .flags = Small() & 3, .name = "user.a", .value = "value"}, out);
      case 15:
        return Finish(ListXattrRequest{.node = Id()}, out);
      case 16:
        return Finish(ConnectRequest{.node = Id(), .socket_type = 1}, out);
      case 18:
        return Finish(BindRequest{.directory = Id(), .socket_type = 1, .mode = 0700, .name = Name()}, out);
      case 19:
        return Finish(TmpfileRequest{.directory = Id(), .open_flags = Small() & 3, .mode = 0600}, out);
      case 20:
        return Finish(BindPortRequest{.address = Name()}, out);
      case 17:
        return Finish(StatFsRequest{.node = Id()}, out);
      default: {
        WalkRequest walk{.base = Id(), .flags = Small() & 3, .open_flags = Small() & 1};
        for (uint32_t i = Small(); i < 6; ++i) walk.names.push_back(Name());
        return Finish(walk, out);
      }
    }
  }

  std::mt19937_64 random_;
  const NodeId root_;
};

TEST(HostileNoise, IsAnsweredAndStaysInside) {
  TempDirectory dir;
  dir.MakeDirectory("tree/dir");
  dir.MakeDirectory("outside");
  dir.Write("outside/secret", "secret");
  dir.Write("tree/file", "content");
  ASSERT_EQ(symlink("../outside", (dir / "tree/link").c_str()), 0);
  int answered = 0, succeeded = 0;
  for (unsigned seed = 0; seed < 20; ++seed) {
    std::vector<ServerMount> mounts(1);
    mounts[0].root.reset(open((dir / "tree").c_str(), O_PATH | O_CLOEXEC));
    RunningServer server(std::move(mounts), {.max_nodes = 40});
    std::vector<uint8_t> packet, buffer(kMaxMessageBytes);
    // The request's tag is 1; the root is the first node there is.
    ASSERT_TRUE(EncodeRequest(AttachRequest(), 1, {}, packet));
    NodeId root = static_cast<NodeId>(uint64_t{1} << 32 | 1);
    Noise noise(seed, root);
    for (int i = 0; i < 500; ++i) {
      if (!SendPacket(server.client_end.get(), packet, -1, true).ok()) break;
      bool silent = packet[4] == static_cast<uint8_t>(MessageType::kClose) && packet[5] == 0;
      base::UniqueFd fd;
      base::Result<size_t> size = base::Errno(EAGAIN);
      while (!silent && size.failed_with(EAGAIN)) {
        size = ReceivePacket(server.client_end.get(), buffer, &fd, nullptr, true);
      }
      if (!silent && (!size.ok() || *size == 0)) break;  // hung up
      if (!silent) {
        auto header = ParseReplyHeader(std::span(buffer).first(*size));
        ASSERT_OK(header);
        ASSERT_OK(ParseReply(std::span(buffer).first(*size)));
        ++answered;
        if (header->error == 0) ++succeeded;
        struct stat st;
        if (fd.valid()) {
          ASSERT_EQ(fstat(fd.get(), &st), 0);
          ASSERT_TRUE(S_ISREG(st.st_mode));
        }
      }
      packet = noise.Next();
    }
  }
  EXPECT_GT(answered, 1000);
  EXPECT_GT(succeeded, 300);
  EXPECT_EQ(dir.Read("outside/secret"), "secret");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir / "outside"), {}), 1);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}), 2);
}

}  // namespace
}  // namespace gofer

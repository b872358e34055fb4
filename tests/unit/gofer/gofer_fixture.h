// A client and a server on a thread of the test, over a directory that is removed afterwards.
#ifndef TESTS_UNIT_GOFER_GOFER_FIXTURE_H_
#define TESTS_UNIT_GOFER_GOFER_FIXTURE_H_

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/ref_ptr.h"
#include "base/unique_fd.h"
#include "gofer/client/client.h"
#include "gofer/protocol/channel.h"
#include "gofer/server/server.h"

namespace gofer {

#define ASSERT_OK(result)                                                                           \
  do {                                                                                              \
    const auto& assert_ok_ = (result);                                                              \
    ASSERT_TRUE(assert_ok_.ok()) << #result << ": " << base::ErrnoName(assert_ok_.error().value()); \
  } while (false)
#define EXPECT_OK(result)                                                                           \
  do {                                                                                              \
    const auto& expect_ok_ = (result);                                                              \
    EXPECT_TRUE(expect_ok_.ok()) << #result << ": " << base::ErrnoName(expect_ok_.error().value()); \
  } while (false)
#define EXPECT_ERRNO(expected, result)                                                      \
  do {                                                                                      \
    const auto& expect_errno_ = (result);                                                   \
    EXPECT_EQ(expect_errno_.ok() ? 0 : expect_errno_.error().value(), expected) << #result; \
  } while (false)

class TempDirectory {
 public:
  TempDirectory() {
    char name[] = "/tmp/gofer_test.XXXXXX";
    path_ = mkdtemp(name);
  }
  ~TempDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }
  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }
  void Write(std::string_view name, std::string_view content) const { std::ofstream(*this / name) << content; }
  std::string Read(std::string_view name) const {
    std::ifstream in(*this / name);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }
  void MakeDirectory(std::string_view name) const { std::filesystem::create_directories(*this / name); }
  base::UniqueFd Open() const { return base::UniqueFd(open(path_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)); }

 private:
  std::string path_;
};

class RunningServer {
 public:
  explicit RunningServer(std::vector<ServerMount> mounts, ServerOptions options = {}) {
    auto channel = MakeChannel();
    client_end = std::move(channel->client);
    thread_ = std::thread([this, socket = std::move(channel->server), mounts = std::move(mounts),
                           options = std::move(options)]() mutable {
      end = Serve(std::move(socket), std::move(mounts), std::move(options));
    });
  }
  ~RunningServer() { Join(); }
  // Returns when the server has, which it does once the client's end is closed.
  void Join() {
    client_end.reset();
    if (thread_.joinable()) thread_.join();
  }
  base::UniqueFd client_end;
  ServeEnd end = ServeEnd::kHostError;

 private:
  std::thread thread_;
};

inline std::vector<ServerMount> OneMount(const TempDirectory& directory, bool read_only = false) {
  std::vector<ServerMount> mounts(1);
  mounts[0].root = directory.Open();
  mounts[0].read_only = read_only;
  return mounts;
}

// Mount 0 is `dir`, to be written; mount 1 the same directory, read-only; mount 2 another one, with host sockets and
// FIFOs.
class GoferTest : public testing::Test {
 protected:
  GoferTest() : server_(Mounts()) {
    client_ = Client::Create(std::move(server_.client_end));
    auto attached = client_->Attach(0);
    EXPECT_OK(attached);
    if (attached.ok()) root_ = attached->root;
  }
  ~GoferTest() override {
    root_.reset();
    client_.reset();
    server_.Join();
    EXPECT_EQ(server_.end, ServeEnd::kPeerClosed);
  }

  std::vector<ServerMount> Mounts() {
    std::vector<ServerMount> mounts(3);
    mounts[0].root = dir_.Open();
    mounts[1].root = dir_.Open();
    mounts[1].read_only = true;
    mounts[2].root = other_.Open();
    mounts[2].host_uds = true;
    mounts[2].host_uds_create = true;
    mounts[2].host_fifo = true;
    return mounts;
  }
  base::Result<WalkResult> Walk(std::initializer_list<std::string_view> names, WalkOptions options = {}) {
    return root_->Walk(std::vector<std::string_view>(names), options);
  }
  // The node at the end of a walk that has to succeed.
  base::RefPtr<Node> Get(std::initializer_list<std::string_view> names) {
    auto walked = Walk(names);
    EXPECT_OK(walked);
    if (!walked.ok() || walked->components.size() != names.size()) {
      ADD_FAILURE() << "the walk ended early: " << (walked.ok() ? walked->stop_errno : -1);
      return nullptr;
    }
    return walked->components.back().node;
  }

  TempDirectory dir_;
  TempDirectory other_;
  RunningServer server_;
  base::RefPtr<Client> client_;
  base::RefPtr<Node> root_;
};

}  // namespace gofer

#endif  // TESTS_UNIT_GOFER_GOFER_FIXTURE_H_

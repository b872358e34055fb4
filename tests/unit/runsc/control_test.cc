// The control interface: both ends over a socket pair and a real listening socket, and what hostile bytes do to either.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <optional>
#include <random>
#include <string>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sentry/control/client.h"
#include "sentry/control/messages.h"
#include "sentry/control/ready.h"
#include "sentry/control/server.h"
#include "sentry/control/testing/fake_sandbox.h"

namespace sentry::control {
namespace {

using ::testing::HasSubstr;

// A server with a fake sandbox on a thread of its own, listening on an abstract address.
class ControlTest : public ::testing::Test {
 protected:
  void SetUp() override {
    address_.sun_family = AF_UNIX;
    std::string name = "runsc-control-test-" + std::to_string(getpid());
    memcpy(address_.sun_path + 1, name.data(), name.size());
    length_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    base::UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&address_), length_), 0);
    ASSERT_EQ(listen(listener.get(), 16), 0);
    init_.argv = {"sleep"};
    server_.emplace(fake_, ControlServer::Options{std::move(listener), base::UniqueFd(),
                                                  base::UniqueFd(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC))});
    thread_ = std::thread([this] { status_ = server_->Run(); });
  }

  void TearDown() override {
    if (thread_.joinable()) {
      ControlClient client = Connect();
      (void)client.Start();
      (void)client.Signal(pb::SignalRequest::PROCESS, 1, 9);
      thread_.join();
    }
  }

  base::UniqueFd ConnectSocket() {
    base::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&address_), length_), 0);
    return fd;
  }
  ControlClient Connect() { return ControlClient(ConnectSocket()); }

  ProcessSpec Program(std::vector<std::string> argv) {
    ProcessSpec spec;
    spec.argv = std::move(argv);
    for (auto& fd : spec.stdio) fd.reset(open("/dev/null", O_RDWR | O_CLOEXEC));
    return spec;
  }

  sockaddr_un address_{};
  socklen_t length_ = 0;
  ProcessSpec init_;
  FakeSandbox fake_{&init_};
  std::optional<ControlServer> server_;
  std::thread thread_;
  int status_ = -1;
};

TEST_F(ControlTest, StartsOnceAndReportsTheEndOfInit) {
  ControlClient client = Connect();
  EXPECT_TRUE(client.Start().ok());
  EXPECT_EQ(client.Start().code(), absl::StatusCode::kFailedPrecondition);
  ControlClient waiter = Connect();
  auto wait = waiter.BeginWait(1);
  ASSERT_TRUE(wait.ok());
  EXPECT_TRUE(client.Signal(pb::SignalRequest::PROCESS, 1, 15).ok());
  thread_.join();
  EXPECT_EQ(status_, 15);
  int status = 0;
  auto done = waiter.FinishWait(*wait, status);
  ASSERT_TRUE(done.ok()) << done.status();
  EXPECT_TRUE(*done);
  EXPECT_EQ(status, 15);
}

TEST_F(ControlTest, ExecPassesDescriptorsAndReturnsTheStatus) {
  ControlClient client = Connect();
  int pipe_fds[2];
  ASSERT_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
  ProcessSpec spec = Program({"echo", "one", "two"});
  spec.stdio[1].reset(pipe_fds[1]);
  auto pid = client.Exec(spec, false);
  ASSERT_TRUE(pid.ok()) << pid.status();
  spec.stdio[1].reset();
  char buffer[64];
  ssize_t n = read(pipe_fds[0], buffer, sizeof(buffer));
  EXPECT_EQ(std::string(buffer, n > 0 ? static_cast<size_t>(n) : 0), "one two\n");
  EXPECT_EQ(read(pipe_fds[0], buffer, sizeof(buffer)), 0) << "the server kept the descriptor";
  close(pipe_fds[0]);
  auto status = client.Wait(*pid);
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(*status, 0);

  auto failing = client.Exec(Program({"exit", "7"}), false);
  ASSERT_TRUE(failing.ok());
  EXPECT_EQ(*client.Wait(*failing), 7 << 8);
}

TEST_F(ControlTest, ErrorsKeepTheirCodeAndWords) {
  ControlClient client = Connect();
  auto missing = client.Exec(Program({"missing"}), false);
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("executable file not found"));
  EXPECT_EQ(client.Wait(4711).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(client.Signal(pb::SignalRequest::PROCESS, 4711, 9).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(client.Signal(pb::SignalRequest::PROCESS, 1, 65).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(client.Signal(pb::SignalRequest::PROCESS, -1, 9).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ControlTest, ADependentProcessEndsWithItsConnection) {
  ControlClient watcher = Connect();
  int32_t pid = 0;
  {
    ControlClient client = Connect();
    auto result = client.Exec(Program({"sleep"}), true);
    ASSERT_TRUE(result.ok());
    pid = *result;
  }
  auto status = watcher.Wait(pid);
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_EQ(*status, 9);
}

TEST_F(ControlTest, ListsAndMeasures) {
  ControlClient client = Connect();
  ASSERT_TRUE(client.Start().ok());
  auto list = client.Processes();
  ASSERT_TRUE(list.ok());
  ASSERT_EQ(list->size(), 1u);
  EXPECT_EQ((*list)[0].command, "sleep");
  auto stats = client.GetStats();
  ASSERT_TRUE(stats.ok());
  EXPECT_EQ(stats->pids_current, 1u);
  EXPECT_TRUE(client.Pause().ok());
  EXPECT_TRUE(client.Resume().ok());
  EXPECT_TRUE(client.Resize(1, 25, 80).ok());
}

TEST_F(ControlTest, SurvivesHostileBytes) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    base::UniqueFd fd = ConnectSocket();
    std::string bytes(random() % 64, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    // Every second one has a plausible length, so that the message itself is what is wrong.
    if (round % 2 == 0) bytes = EncodeFrame(bytes);
    (void)send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
  {
    base::UniqueFd fd = ConnectSocket();
    uint32_t huge = 0xffffffff;
    ASSERT_EQ(send(fd.get(), &huge, sizeof(huge), MSG_NOSIGNAL), static_cast<ssize_t>(sizeof(huge)));
    char c;
    EXPECT_LE(recv(fd.get(), &c, 1, 0), 0) << "an oversized frame ends the connection";
  }
  ControlClient client = Connect();
  EXPECT_TRUE(client.GetStats().ok());
}

TEST_F(ControlTest, SurvivesHostileProcesses) {
  base::UniqueFd fd = ConnectSocket();
  auto send_exec = [&](auto&& change, const std::vector<int>& fds) {
    pb::Request request;
    request.set_id(9);
    pb::Process* process = request.mutable_exec()->mutable_process();
    process->add_argv("true");
    process->set_cwd("/");
    change(*process);
    ASSERT_TRUE(SendFrame(fd.get(), EncodeFrame(request.SerializeAsString()), fds).ok());
    FrameReader reader;
    Frame frame;
    while (!reader.Next(frame)) {
      auto state = reader.Receive(fd.get(), 0);
      ASSERT_NE(state, FrameReader::State::kClosed);
      ASSERT_NE(state, FrameReader::State::kBroken);
    }
    pb::Reply reply;
    ASSERT_TRUE(reply.ParseFromString(frame.payload));
    EXPECT_EQ(reply.code(), static_cast<int>(absl::StatusCode::kInvalidArgument)) << reply.error();
  };
  send_exec([](pb::Process& p) { p.clear_argv(); }, {});
  send_exec([](pb::Process& p) { p.set_cwd("x"); }, {});
  send_exec([](pb::Process& p) { p.set_stdio_count(3); }, {});
  send_exec([](pb::Process& p) { p.set_stdio_count(0xffffffff); }, {0});
  send_exec([](pb::Process& p) { p.add_passed_fds(-1); }, {0});
  send_exec([](pb::Process& p) { p.add_rlimits()->set_resource(99); }, {});
}

TEST(ControlClient, DoesNotTrustTheSandbox) {
  for (const std::string& bytes : {std::string("\xff\xff\xff\xff", 4), EncodeFrame("\xff\xff"), std::string()}) {
    int fds[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    ControlClient client{base::UniqueFd(fds[0])};
    ASSERT_EQ(send(fds[1], bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
    shutdown(fds[1], SHUT_WR);
    EXPECT_FALSE(client.GetStats().ok());
    close(fds[1]);
  }
}

TEST(Framing, PutsPiecesTogether) {
  int fds[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  std::string bytes = EncodeFrame("first") + EncodeFrame("") + EncodeFrame(std::string(100000, 'x'));
  std::thread writer([&] {
    for (size_t i = 0; i < bytes.size();) {
      size_t n = std::min<size_t>(bytes.size() - i, i < 20 ? 1 : 30000);
      ASSERT_EQ(send(fds[1], bytes.data() + i, n, 0), static_cast<ssize_t>(n));
      i += n;
    }
    close(fds[1]);
  });
  FrameReader reader;
  std::vector<size_t> sizes;
  for (;;) {
    FrameReader::State state = reader.Receive(fds[0], 0);
    Frame frame;
    while (reader.Next(frame)) sizes.push_back(frame.payload.size());
    if (state == FrameReader::State::kClosed) break;
    ASSERT_NE(state, FrameReader::State::kBroken);
  }
  writer.join();
  close(fds[0]);
  EXPECT_THAT(sizes, ::testing::ElementsAre(5, 0, 100000));
}

TEST(Ready, TellsSuccessFromFailureFromDeath) {
  auto report = [](const absl::Status* status) {
    int fds[2];
    EXPECT_EQ(pipe2(fds, O_CLOEXEC), 0);
    base::UniqueFd reader(fds[0]), writer(fds[1]);
    if (status != nullptr) ReportReady(std::move(writer), *status);
    writer.reset();
    return AwaitReady(reader.get(), "the sandbox");
  };
  absl::Status ok, bad = absl::NotFoundError(std::string(10000, 'x'));
  EXPECT_TRUE(report(&ok).ok());
  EXPECT_EQ(report(&bad).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(report(nullptr).code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace sentry::control

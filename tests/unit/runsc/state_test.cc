#include "runsc/container/state.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runsc/host/process.h"

namespace runsc::container {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class StateTest : public ::testing::Test {
 protected:
  StateTest() {
    char name[] = "/tmp/state-test-XXXXXX";
    root_ = mkdtemp(name);
  }
  ~StateTest() override { std::filesystem::remove_all(root_); }
  std::string root_;
};

HostProcess Self() { return {getpid(), host::GetProcessStatus(getpid()).start_time}; }

State Example() {
  State state;
  state.id = "x";
  state.bundle = "/b";
  state.status = Status::kRunning;
  state.sandbox = Self();
  state.annotations = {{"a", "\"quoted\""}};
  state.cgroup_directories = {{"cpu", "/c"}};
  state.cgroup_created = {"/c"};
  state.created_unix_ns = 1234567890123456789;
  return state;
}

TEST(Ids, OnlyPlainNames) {
  for (const char* good : {"a", "A-b_c.d+9", "0"}) EXPECT_TRUE(ValidateId(good).ok()) << good;
  EXPECT_TRUE(ValidateId(std::string(255, 'x')).ok());
  for (const char* bad : {"", ".", "..", "a/b", "../x", "a b", "a\nb", "ü", "a:b"})
    EXPECT_FALSE(ValidateId(bad).ok()) << bad;
  EXPECT_FALSE(ValidateId(std::string(256, 'x')).ok());
}

TEST(StateJson, RoundTrip) {
  State state = Example();
  auto copy = StateFromJson(StateToJson(state), "state.json");
  ASSERT_TRUE(copy.ok()) << copy.status();
  EXPECT_EQ(StateToJson(*copy), StateToJson(state));
  EXPECT_EQ(copy->status, Status::kRunning);
}

TEST(StateJson, BrokenFilesAreErrorsNotCrashes) {
  for (const char* text :
       {"", "{", "[]", "{\"sandbox\": 5}", "{\"annotations\": [1]}", "{\"created\": \"x\"}", "null"}) {
    EXPECT_FALSE(StateFromJson(text, "state.json").ok()) << text;
  }
}

TEST(OciState, HasTheShapeCallersKnow) {
  State state = Example();
  auto json = nlohmann::json::parse(OciStateJson(state, Status::kRunning, true));
  EXPECT_EQ(json["ociVersion"], "1.1.0");
  EXPECT_EQ(json["id"], "x");
  EXPECT_EQ(json["status"], "running");
  EXPECT_EQ(json["pid"], getpid());
  EXPECT_EQ(json["bundle"], "/b");
  EXPECT_EQ(json["annotations"]["a"], "\"quoted\"");
  json = nlohmann::json::parse(OciStateJson(state, Status::kStopped, false));
  EXPECT_FALSE(json.contains("pid"));
  state.annotations.clear();
  EXPECT_FALSE(nlohmann::json::parse(OciStateJson(state, Status::kStopped, false)).contains("annotations"));
}

TEST(CurrentStatus, ADeadSandboxIsStopped) {
  State state = Example();
  EXPECT_EQ(CurrentStatus(state), Status::kRunning);
  state.sandbox.start_time += 1;
  EXPECT_EQ(CurrentStatus(state), Status::kStopped) << "the pid is somebody else's now";
  pid_t child = fork();
  if (child == 0) _exit(0);
  siginfo_t info;
  waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT);
  state.sandbox = {child, host::GetProcessStatus(child).start_time};
  EXPECT_EQ(CurrentStatus(state), Status::kStopped) << "a zombie";
  waitpid(child, nullptr, 0);
  EXPECT_EQ(CurrentStatus(state), Status::kStopped);
}

TEST(CurrentStatus, CreatingAsLongAsTheCreatorLives) {
  State state;
  EXPECT_EQ(CurrentStatus(state), Status::kStopped);
  state.creator = Self();
  EXPECT_EQ(CurrentStatus(state), Status::kCreating);
}

TEST_F(StateTest, AnIdIsTakenOnce) {
  auto first = StateDirectory::Create(root_ + "/deep/er", "c");
  ASSERT_TRUE(first.ok()) << first.status();
  auto second = StateDirectory::Create(root_ + "/deep/er", "c");
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("container with id \"c\" already exists"));
  struct stat st;
  ASSERT_EQ(stat((root_ + "/deep/er/c").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0700u);
}

TEST_F(StateTest, SavesListsAndRemoves) {
  auto directory = StateDirectory::Create(root_, "c");
  ASSERT_TRUE(directory.ok());
  EXPECT_EQ(CurrentStatus(*directory->Load()), Status::kCreating)
      << "somebody holds the lock and has written nothing yet";
  ASSERT_TRUE(directory->Save(Example()).ok());
  EXPECT_EQ(directory->Load()->bundle, "/b");
  ASSERT_TRUE(StateDirectory::Create(root_, "b").ok());
  EXPECT_THAT(*ListIds(root_), ElementsAre("b", "c"));
  auto other = StateDirectory::Open(root_, "c");
  ASSERT_TRUE(other.ok());
  ASSERT_TRUE(directory->Remove().ok());
  directory = absl::NotFoundError("");  // lets go of the lock
  EXPECT_EQ(other->Lock().code(), absl::StatusCode::kNotFound) << "deleted while we waited";
  EXPECT_EQ(other->Load().status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(StateDirectory::Open(root_, "c").status().message(), "container \"c\" does not exist");
  EXPECT_TRUE(ListIds(root_ + "/nowhere")->empty());
}

TEST_F(StateTest, AnAbandonedDirectoryIsStopped) {
  ASSERT_EQ(mkdir((root_ + "/c").c_str(), 0700), 0);
  auto directory = StateDirectory::Open(root_, "c");
  ASSERT_TRUE(directory.ok());
  EXPECT_EQ(CurrentStatus(*directory->Load()), Status::kStopped);
}

}  // namespace
}  // namespace runsc::container

// Cgroups against a fake tree: what is made, which files get which values, what is removed.
#include "runsc/cgroup/cgroup.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace runsc::cgroup {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class CgroupTest : public ::testing::Test {
 protected:
  CgroupTest() {
    char name[] = "/tmp/cgroup-test-XXXXXX";
    root_ = mkdtemp(name);
  }
  ~CgroupTest() override { fs::remove_all(root_); }

  void Write(const std::string& path, const std::string& text = "") { std::ofstream(root_ + "/" + path) << text; }
  std::string Read(const std::string& path) {
    std::ifstream file(root_ + "/" + path);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }
  // Version 1 with the given controllers, each its own mount.
  Layout Version1(std::vector<std::string> controllers) {
    Layout layout;
    for (const std::string& c : controllers) {
      fs::create_directories(root_ + "/" + c);
      layout.controllers[c] = root_ + "/" + c;
      layout.own[c] = "/";
    }
    return layout;
  }
  Layout Version2() {
    Layout layout;
    layout.unified = root_;
    layout.own[""] = "/";
    Write("cgroup.controllers", "cpu memory");
    Write("cgroup.subtree_control");
    return layout;
  }
  std::string root_;
};

TEST_F(CgroupTest, ReadsAHybridHost) {
  Layout layout = Layout::Parse(
      "30 29 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
      "31 29 0:27 / /sys/fs/cgroup/mem\\040ory rw - cgroup cgroup rw,memory\n"
      "32 29 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
      "33 29 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
      "garbage\n",
      "4:cpu,cpuacct:/user\n3:memory:/m\n1:name=systemd:/s\n0::/u\n");
  EXPECT_FALSE(layout.version2());
  EXPECT_EQ(layout.controllers["cpu"], "/sys/fs/cgroup/cpu,cpuacct");
  EXPECT_EQ(layout.controllers["cpuacct"], "/sys/fs/cgroup/cpu,cpuacct");
  EXPECT_EQ(layout.controllers["memory"], "/sys/fs/cgroup/mem ory");
  EXPECT_EQ(layout.own["cpuacct"], "/user");
  EXPECT_EQ(layout.own[""], "/u");
}

TEST_F(CgroupTest, SystemdAloneIsVersion2) {
  Layout layout = Layout::Parse(
      "32 29 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n33 29 0:29 / /sys/fs/cgroup/unified rw "
      "- cgroup2 cgroup2 rw\n",
      "0::/\n");
  EXPECT_TRUE(layout.version2());
}

TEST_F(CgroupTest, ResolvesPaths) {
  EXPECT_EQ(*ResolvePath("/a/../b", false, "/own"), "/b");
  EXPECT_EQ(*ResolvePath("a/b", false, "/own"), "/own/a/b");
  EXPECT_EQ(*ResolvePath("../../../etc", false, "/own"), "/etc");
  EXPECT_EQ(*ResolvePath("user-1000.slice:docker:abc", true, "/"), "/user.slice/user-1000.slice/docker-abc.scope");
  EXPECT_EQ(*ResolvePath("::abc", true, "/"), "/system.slice/abc.scope");
  EXPECT_FALSE(ResolvePath("/plain", true, "/").ok());
  EXPECT_FALSE(ResolvePath("noslice:x:y", true, "/").ok());
  EXPECT_FALSE(ResolvePath("a--b.slice:x:y", true, "/").ok());
}

TEST_F(CgroupTest, Version1SetsLimitsJoinsAndRemovesWhatItMade) {
  Layout layout = Version1({"cpu", "memory", "cpuset", "pids"});
  fs::create_directories(root_ + "/memory/pod");
  Write("cpuset/cpuset.cpus", "0-3\n");
  Write("cpuset/cpuset.mems", "0\n");
  for (const char* group : {"cpuset/pod", "cpuset/pod/c"}) {
    fs::create_directories(root_ + "/" + group);
    Write(std::string(group) + "/cpuset.cpus");
    Write(std::string(group) + "/cpuset.mems");
  }
  auto cgroup = Cgroup::Create(layout, "/pod/c", false);
  ASSERT_TRUE(cgroup.ok()) << cgroup.status();
  EXPECT_EQ(Read("cpuset/pod/c/cpuset.cpus"), "0-3") << "inherited from the root";

  for (const char* file :
       {"memory/pod/c/memory.limit_in_bytes", "memory/pod/c/memory.memsw.limit_in_bytes", "cpu/pod/c/cpu.cfs_period_us",
        "cpu/pod/c/cpu.cfs_quota_us", "cpu/pod/c/cpu.shares", "cpu/pod/c/cgroup.procs", "memory/pod/c/cgroup.procs",
        "cpuset/pod/c/cgroup.procs", "pids/pod/c/cgroup.procs", "pids/pod/c/pids.max"}) {
    Write(file);
  }
  oci::Resources r;
  r.memory_limit = 1 << 20;
  r.memory_swap = 2 << 20;
  r.cpu_quota = 50000;
  r.cpu_period = 100000;
  r.cpu_shares = 512;
  r.pids_limit = 5;
  ASSERT_TRUE(cgroup->Apply(r).ok()) << cgroup->Apply(r);
  ASSERT_TRUE(cgroup->Join(4711).ok());
  EXPECT_EQ(Read("memory/pod/c/memory.limit_in_bytes"), "1048576");
  EXPECT_EQ(Read("memory/pod/c/memory.memsw.limit_in_bytes"), "2097152");
  EXPECT_EQ(Read("cpu/pod/c/cpu.cfs_quota_us"), "50000");
  EXPECT_EQ(Read("cpu/pod/c/cpu.shares"), "512");
  EXPECT_EQ(Read("pids/pod/c/pids.max"), "") << "the sentry counts guest tasks itself";
  EXPECT_EQ(Read("pids/pod/c/cgroup.procs"), "4711");

  // In a real hierarchy rmdir succeeds although there are files.
  for (const char* c : {"cpu", "memory", "pids"}) {
    for (const auto& entry : fs::directory_iterator(root_ + "/" + c + "/pod/c")) fs::remove(entry);
  }
  Cgroup::Restore(cgroup->directories(), cgroup->created()).Remove();
  EXPECT_FALSE(fs::exists(root_ + "/cpu/pod"));
  EXPECT_FALSE(fs::exists(root_ + "/memory/pod/c"));
  EXPECT_TRUE(fs::exists(root_ + "/memory/pod")) << "it was there before";
}

TEST_F(CgroupTest, TheLeastQuotaOnTheWayUpIsTheCpuLimit) {
  const auto write = [&](const std::string& path, const std::string& text) {
    fs::create_directories(fs::path(root_ + path).parent_path());
    Write(path, text);
  };
  Layout layout;
  layout.unified = root_ + "/two";
  layout.own[""] = "/a/b";
  EXPECT_EQ(CpuLimit(layout), 0);
  write("/two/a/cpu.max", "150000 100000\n");
  write("/two/a/b/cpu.max", "max 100000\n");
  EXPECT_EQ(CpuLimit(layout), 1.5);
  write("/two/a/b/cpu.max", "20000 100000\n");
  EXPECT_EQ(CpuLimit(layout), 0.2);
  layout.controllers["cpu"] = root_ + "/one";
  layout.own["cpu"] = "/";
  write("/one/cpu.cfs_quota_us", "-1\n");
  write("/one/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(CpuLimit(layout), 0);
  write("/one/cpu.cfs_quota_us", "250000\n");
  EXPECT_EQ(CpuLimit(layout), 2.5);
}

TEST_F(CgroupTest, ALimitThatCannotBeSetIsAnError) {
  auto cgroup = Cgroup::Create(Version1({"cpu"}), "/c", false);
  ASSERT_TRUE(cgroup.ok());
  oci::Resources r;
  r.memory_limit = 1;
  EXPECT_THAT(std::string(cgroup->Apply(r).message()), HasSubstr("this host has no memory cgroup"));
  oci::Resources none;
  EXPECT_TRUE(cgroup->Apply(none).ok());
}

TEST_F(CgroupTest, Version2ConvertsValues) {
  auto cgroup = Cgroup::Create(Version2(), "/a/b", false);
  ASSERT_TRUE(cgroup.ok()) << cgroup.status();
  EXPECT_EQ(Read("cgroup.subtree_control"), "+memory") << "the last of the controllers, one at a time";
  for (const char* file :
       {"memory.max", "memory.swap.max", "memory.low", "cpu.weight", "cpu.max", "memory.high", "cgroup.procs"}) {
    Write(std::string("a/b/") + file);
  }
  oci::Resources r;
  r.memory_limit = 100 << 20;
  r.memory_swap = 150 << 20;
  r.memory_reservation = -1;
  r.cpu_shares = 1024;
  r.cpu_quota = -1;
  r.cpu_period = 50000;
  r.unified = {{"memory.high", "90"}};
  absl::Status status = cgroup->Apply(r);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(Read("a/b/memory.max"), "104857600");
  EXPECT_EQ(Read("a/b/memory.swap.max"), "52428800");
  EXPECT_EQ(Read("a/b/memory.low"), "max");
  EXPECT_EQ(Read("a/b/cpu.weight"), "39");
  EXPECT_EQ(Read("a/b/cpu.max"), "max 50000");
  EXPECT_EQ(Read("a/b/memory.high"), "90");
  ASSERT_TRUE(cgroup->Join(5).ok());
  EXPECT_EQ(Read("a/b/cgroup.procs"), "5");

  r.memory_swap = 50 << 20;
  EXPECT_FALSE(cgroup->Apply(r).ok()) << "memory and swap together below memory";
}

TEST(Weights, EndsOfTheRanges) {
  EXPECT_EQ(WeightFromShares(2), 1u);
  EXPECT_EQ(WeightFromShares(262144), 10000u);
  EXPECT_EQ(WeightFromShares(0), 0u);
  EXPECT_EQ(IoWeightFromBlkioWeight(10), 1u);
  EXPECT_EQ(IoWeightFromBlkioWeight(1000), 10000u);
}

}  // namespace
}  // namespace runsc::cgroup

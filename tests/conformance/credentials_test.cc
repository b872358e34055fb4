// User and group ids, capabilities, supplementary groups, and that credentials belong to a thread.
#include <grp.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>

#include <atomic>
#include <thread>
#include <vector>

#include "support/support.h"

namespace conformance {
namespace {

class Credentials : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
  }
};

struct Ids {
  uid_t r, e, s;
  bool operator==(const Ids&) const = default;
};
Ids Uids() {
  Ids ids;
  getresuid(&ids.r, &ids.e, &ids.s);
  return ids;
}
Ids Gids() {
  Ids ids;
  getresgid(&ids.r, &ids.e, &ids.s);
  return ids;
}

struct Caps {
  uint64_t effective, permitted, inheritable;
};
Caps GetCaps() {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  EXPECT_OK(syscall(SYS_capget, &header, data));
  return {data[0].effective | uint64_t{data[1].effective} << 32, data[0].permitted | uint64_t{data[1].permitted} << 32,
          data[0].inheritable | uint64_t{data[1].inheritable} << 32};
}
long SetCaps(Caps caps) {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {
      {static_cast<uint32_t>(caps.effective), static_cast<uint32_t>(caps.permitted),
       static_cast<uint32_t>(caps.inheritable)},
      {static_cast<uint32_t>(caps.effective >> 32), static_cast<uint32_t>(caps.permitted >> 32),
       static_cast<uint32_t>(caps.inheritable >> 32)}};
  return syscall(SYS_capset, &header, data);
}

// Runs a body of CHILD_CHECKs in a child, as root.
#define IN_CHILD(...) EXPECT_EXITED(RunInChild([&] __VA_ARGS__), 0)

TEST_F(Credentials, SetresuidSetsAllThreeAndLosesRoot) {
  IN_CHILD({
    CHILD_CHECK(setresuid(1, 2, 3) == 0);
    CHILD_CHECK((Uids() == Ids{1, 2, 3}));
    CHILD_CHECK(setresuid(0, -1, -1) == -1 && errno == EPERM);
    CHILD_CHECK(setresuid(3, 1, 2) == 0);  // Any order of what one has.
    CHILD_CHECK((Uids() == Ids{3, 1, 2}));
    CHILD_CHECK(setresuid(-1, -1, -1) == 0);
  });
}

TEST_F(Credentials, SetuidDependsOnPrivilege) {
  IN_CHILD({
    CHILD_CHECK(setuid(5) == 0);
    CHILD_CHECK((Uids() == Ids{5, 5, 5}));
    CHILD_CHECK(setuid(0) == -1 && errno == EPERM);
    CHILD_CHECK(setuid(5) == 0);
    CHILD_CHECK(setuid(-1) == -1 && errno == EINVAL);
  });
  IN_CHILD({
    CHILD_CHECK(setresuid(5, 6, 7) == 0);
    CHILD_CHECK(setuid(7) == 0);  // Unprivileged: only the effective one, to the real or saved one.
    CHILD_CHECK((Uids() == Ids{5, 7, 7}));
  });
}

TEST_F(Credentials, SeteuidComesBackThroughTheSavedId) {
  IN_CHILD({
    CHILD_CHECK(seteuid(1000) == 0);
    CHILD_CHECK((Uids() == Ids{0, 1000, 0}));
    CHILD_CHECK(GetCaps().effective == 0);
    CHILD_CHECK(seteuid(0) == 0);
    CHILD_CHECK(GetCaps().effective != 0);
  });
}

TEST_F(Credentials, SetreuidSetsTheSavedId) {
  IN_CHILD({
    CHILD_CHECK(setreuid(10, 20) == 0);
    CHILD_CHECK((Uids() == Ids{10, 20, 20}));
    CHILD_CHECK(setreuid(20, 10) == 0);
    CHILD_CHECK((Uids() == Ids{20, 10, 10}));
    CHILD_CHECK(setreuid(99, -1) == -1 && errno == EPERM);
  });
}

TEST_F(Credentials, GroupIdsFollowTheSameRules) {
  IN_CHILD({
    CHILD_CHECK(setresgid(1, 2, 3) == 0);
    CHILD_CHECK((Gids() == Ids{1, 2, 3}));
    CHILD_CHECK(setregid(4, 5) == 0);
    CHILD_CHECK((Gids() == Ids{4, 5, 5}));
    CHILD_CHECK(setgid(6) == 0);
    CHILD_CHECK((Gids() == Ids{6, 6, 6}));
    CHILD_CHECK(setresuid(1, 1, 1) == 0);
    CHILD_CHECK(setgid(7) == -1 && errno == EPERM);
    CHILD_CHECK(setgroups(0, nullptr) == -1 && errno == EPERM);
  });
}

TEST_F(Credentials, SupplementaryGroupsGrantAccess) {
  TempDir dir;
  ASSERT_OK(chmod(dir.path().c_str(), 0755));
  ASSERT_TRUE(WriteFile(dir / "f", "x", 0640));
  ASSERT_OK(chown((dir / "f").c_str(), 0, 5555));
  IN_CHILD({
    gid_t groups[] = {10, 5555, 20};
    CHILD_CHECK(setgroups(3, groups) == 0);
    gid_t got[10];
    CHILD_CHECK(getgroups(0, nullptr) == 3);
    CHILD_CHECK(getgroups(10, got) == 3);
    CHILD_CHECK(getgroups(2, got) == -1 && errno == EINVAL);
    CHILD_CHECK(syscall(SYS_getgroups, 10, BadPointer()) == -1 && errno == EFAULT);
    CHILD_CHECK(syscall(SYS_setgroups, 1, BadPointer()) == -1 && errno == EFAULT);
    CHILD_CHECK(syscall(SYS_setgroups, 65537, got) == -1 && errno == EINVAL);
    CHILD_CHECK(setresgid(1, 1, 1) == 0);
    CHILD_CHECK(setresuid(1, 1, 1) == 0);
    CHILD_CHECK(open((dir / "f").c_str(), O_RDONLY) >= 0);
    CHILD_CHECK(open((dir / "f").c_str(), O_WRONLY) == -1 && errno == EACCES);
  });
}

TEST_F(Credentials, FsuidDecidesAboutFiles) {
  TempDir dir;
  ASSERT_OK(chmod(dir.path().c_str(), 0777));
  IN_CHILD({
    CHILD_CHECK(setfsuid(1234) == 0);
    CHILD_CHECK(setfsuid(-1) == 1234);
    CHILD_CHECK(WriteFile(dir / "f", "x"));
    struct stat st;
    CHILD_CHECK(stat((dir / "f").c_str(), &st) == 0);
    CHILD_CHECK(st.st_uid == 1234);
    CHILD_CHECK(geteuid() == 0);
  });
}

TEST_F(Credentials, CreatedFilesBelongToTheEffectiveIds) {
  TempDir dir;
  ASSERT_OK(chmod(dir.path().c_str(), 0777));
  IN_CHILD({
    CHILD_CHECK(setresgid(0, 77, 0) == 0);
    CHILD_CHECK(setresuid(0, 66, 0) == 0);
    CHILD_CHECK(WriteFile(dir / "f", "x"));
    struct stat st;
    CHILD_CHECK(stat((dir / "f").c_str(), &st) == 0);
    CHILD_CHECK(st.st_uid == 66 && st.st_gid == 77);
  });
}

TEST_F(Credentials, ARawSetresuidChangesOneThreadOnly) {
  IN_CHILD({
    static std::atomic<int> phase;
    static Ids other;
    static bool blocked;
    phase = 0;
    TempDir dir;
    chmod(dir.path().c_str(), 0755);
    CHILD_CHECK(WriteFile(dir / "secret", "x", 0600));
    static std::string secret;
    secret = dir / "secret";
    std::thread t([] {
      // The C library would change every thread; the system call changes the caller.
      if (syscall(SYS_setresuid, 1111, 1111, 1111) != 0) return;
      other = Uids();
      blocked = open(secret.c_str(), O_RDONLY) == -1 && errno == EACCES;
      phase = 1;
      while (phase != 2) SleepMs(1);
    });
    CHILD_CHECK(Eventually([] { return phase == 1; }));
    CHILD_CHECK((other == Ids{1111, 1111, 1111}));
    CHILD_CHECK(blocked);
    CHILD_CHECK((Uids() == Ids{0, 0, 0}));
    CHILD_CHECK(open(secret.c_str(), O_RDONLY) >= 0);
    std::string status = ReadFile("/proc/self/status");
    CHILD_CHECK(status.find("Uid:\t0\t0\t0\t0") != std::string::npos);
    phase = 2;
    t.join();
  });
}

TEST_F(Credentials, TheLibrarysSetuidChangesEveryThread) {
  IN_CHILD({
    static std::atomic<int> phase;
    static Ids other;
    phase = 0;
    std::thread t([] {
      while (phase != 1) SleepMs(1);
      other = Uids();
      phase = 2;
    });
    CHILD_CHECK(setuid(2222) == 0);
    phase = 1;
    t.join();
    CHILD_CHECK((other == Ids{2222, 2222, 2222}));
  });
}

TEST_F(Credentials, LeavingRootClearsCapabilitiesUnlessKept) {
  IN_CHILD({
    CHILD_CHECK(GetCaps().permitted != 0);
    CHILD_CHECK(setresuid(1, 1, 1) == 0);
    CHILD_CHECK(GetCaps().permitted == 0 && GetCaps().effective == 0);
  });
  IN_CHILD({
    CHILD_CHECK(prctl(PR_SET_KEEPCAPS, 1) == 0);
    CHILD_CHECK(prctl(PR_GET_KEEPCAPS) == 1);
    const uint64_t before = GetCaps().permitted;
    CHILD_CHECK(setresuid(1, 1, 1) == 0);
    CHILD_CHECK(GetCaps().permitted == before);
    CHILD_CHECK(GetCaps().effective == 0);
  });
}

TEST_F(Credentials, CapsetTakesOnlyWhatIsPermitted) {
  IN_CHILD({
    const Caps all = GetCaps();
    const uint64_t chown = 1ull << CAP_CHOWN, kill_bit = 1ull << CAP_KILL;
    CHILD_CHECK(SetCaps({chown, chown | kill_bit, 0}) == 0);
    CHILD_CHECK(GetCaps().effective == chown);
    CHILD_CHECK(SetCaps({chown | kill_bit, chown | kill_bit, 0}) == 0);
    CHILD_CHECK(SetCaps(all) == -1 && errno == EPERM);
    CHILD_CHECK(SetCaps({kill_bit, chown, 0}) == -1 && errno == EPERM);  // Effective beyond permitted.
    CHILD_CHECK(setuid(5) == -1 && errno == EPERM);                      // No CAP_SETUID any more.
  });
}

TEST_F(Credentials, CapgetAndCapsetCheckTheirArguments) {
  __user_cap_header_struct header = {0x12345678, 0};
  __user_cap_data_struct data[2] = {};
  EXPECT_ERRNO(syscall(SYS_capget, &header, data), EINVAL);
  EXPECT_EQ(header.version, static_cast<uint32_t>(_LINUX_CAPABILITY_VERSION_3)) << "it tells the version it wants";
  EXPECT_ERRNO(syscall(SYS_capget, BadPointer(), data), EFAULT);
  EXPECT_ERRNO(syscall(SYS_capget, &header, BadPointer()), EFAULT);
  header = {_LINUX_CAPABILITY_VERSION_3, -1};
  EXPECT_ERRNO(syscall(SYS_capget, &header, data), EINVAL);
  pid_t gone = ForkChild([] {});
  WaitFor(gone);
  header = {_LINUX_CAPABILITY_VERSION_3, gone};
  EXPECT_ERRNO(syscall(SYS_capget, &header, data), ESRCH);
}

TEST_F(Credentials, TheBoundingSetOnlyShrinks) {
  IN_CHILD({
    CHILD_CHECK(prctl(PR_CAPBSET_READ, CAP_CHOWN) == 1);
    CHILD_CHECK(prctl(PR_CAPBSET_DROP, CAP_CHOWN) == 0);
    CHILD_CHECK(prctl(PR_CAPBSET_READ, CAP_CHOWN) == 0);
    CHILD_CHECK(prctl(PR_CAPBSET_READ, 63) == -1 && errno == EINVAL);
    CHILD_CHECK(SetCaps({0, 0, 0}) == 0);
    CHILD_CHECK(prctl(PR_CAPBSET_DROP, CAP_KILL) == -1 && errno == EPERM);
  });
}

TEST_F(Credentials, AmbientCapabilitiesNeedPermittedAndInheritable) {
  IN_CHILD({
    const uint64_t bit = 1ull << CAP_NET_BIND_SERVICE;
    CHILD_CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0) == -1 && errno == EPERM);
    Caps caps = GetCaps();
    caps.inheritable |= bit;
    CHILD_CHECK(SetCaps(caps) == 0);
    CHILD_CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0) == 0);
    CHILD_CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_NET_BIND_SERVICE, 0, 0) == 1);
    CHILD_CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == 0);
    CHILD_CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_NET_BIND_SERVICE, 0, 0) == 0);
  });
}

TEST_F(Credentials, NoNewPrivsIsOneWayAndInherited) {
  IN_CHILD({
    CHILD_CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0);
    CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) == -1 && errno == EINVAL);
    CHILD_CHECK(RunInChild([] { CHILD_CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1); }) == 0);
  });
}

TEST_F(Credentials, DacOverrideIsWhatLetsRootRead) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", "x", 0));
  IN_CHILD({
    CHILD_CHECK(open((dir / "f").c_str(), O_RDWR) >= 0);
    Caps caps = GetCaps();
    caps.effective &= ~(1ull << CAP_DAC_OVERRIDE | 1ull << CAP_DAC_READ_SEARCH);
    CHILD_CHECK(SetCaps(caps) == 0);
    CHILD_CHECK(open((dir / "f").c_str(), O_RDONLY) == -1 && errno == EACCES);
  });
}

TEST_F(Credentials, GetCallsFaultOnBadPointers) {
  uid_t id;
  EXPECT_ERRNO(syscall(SYS_getresuid, BadPointer(), &id, &id), EFAULT);
  EXPECT_ERRNO(syscall(SYS_getresuid, &id, &id, ReadOnlyPage()), EFAULT);
  EXPECT_ERRNO(syscall(SYS_getresgid, &id, BadPointer(), &id), EFAULT);
}

}  // namespace
}  // namespace conformance

// Ways into another process without stopping it: process_vm_readv and process_vm_writev, pidfd_getfd, kcmp.
#include <linux/kcmp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/uio.h>

#include "support/support.h"

#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

namespace conformance {
namespace {

// A child that waits until the pipe is closed, after `before`.
struct Waiting {
  Pipe gate = MakePipe(), ready = MakePipe();
  pid_t pid;
  explicit Waiting(const std::function<void()>& before = [] {}) {
    pid = ForkChild([&] {
      gate.write_end.Close();
      before();
      CHILD_CHECK(write(ready.write_end.get(), "r", 1) == 1);
      char c;
      (void)!read(gate.read_end.get(), &c, 1);
    });
    char c;
    EXPECT_EQ(read(ready.read_end.get(), &c, 1), 1);
  }
};

void BecomeUser() { CHILD_CHECK(setresgid(1000, 1000, 1000) == 0 && setresuid(1000, 1000, 1000) == 0); }

char g_text[32] = "parent";

// --- process_vm_readv ----------------------------------------------------------------------------------------------

TEST(ProcessVm, MovesBytesBothWays) {
  Waiting w([] { strcpy(g_text, "child"); });
  ChildGuard child(w.pid);
  char here[32] = {};
  iovec local{here, sizeof(here)}, remote{g_text, sizeof(g_text)};
  EXPECT_EQ(process_vm_readv(w.pid, &local, 1, &remote, 1, 0), 32);
  EXPECT_STREQ(here, "child");
  strcpy(here, "changed");
  EXPECT_EQ(process_vm_writev(w.pid, &local, 1, &remote, 1, 0), 32);
  memset(here, 0, sizeof(here));
  EXPECT_EQ(process_vm_readv(w.pid, &local, 1, &remote, 1, 0), 32);
  EXPECT_STREQ(here, "changed");
  EXPECT_STREQ(g_text, "parent");
}

TEST(ProcessVm, DoesNotOverrideProtection) {
  Waiting w;
  ChildGuard child(w.pid);
  char c = 'x';
  iovec local{&c, 1}, remote{ReadOnlyPage(), 1};
  Waiting after;  // forked after the page was made
  ChildGuard second(after.pid);
  EXPECT_ERRNO(process_vm_writev(after.pid, &local, 1, &remote, 1, 0), EFAULT);
  EXPECT_EQ(process_vm_readv(after.pid, &local, 1, &remote, 1, 0), 1);
}

TEST(ProcessVm, FailsAsDocumented) {
  Waiting w;
  ChildGuard child(w.pid);
  char c;
  iovec local{&c, 1}, remote{&c, 1};
  EXPECT_ERRNO(process_vm_readv(w.pid, &local, 1, &remote, 1, 1), EINVAL);
  EXPECT_ERRNO(process_vm_readv(w.pid, &local, 1025, &remote, 1, 0), EINVAL);
  EXPECT_ERRNO(process_vm_readv(0x3fffff, &local, 1, &remote, 1, 0), ESRCH);
  int status = RunInChild([&] {
    BecomeUser();
    CHILD_CHECK(process_vm_readv(w.pid, &local, 1, &remote, 1, 0) == -1 && errno == EPERM);
  });
  EXPECT_EXITED(status, 0);
}

// --- pidfd_getfd ---------------------------------------------------------------------------------------------------

TEST(PidfdGetfd, DuplicatesADescriptorOfAnother) {
  Pipe pipe = MakePipe();
  Waiting w([&] {
    CHILD_CHECK(dup2(pipe.write_end.get(), 200) == 200);
    pipe.write_end.Close();
  });
  ChildGuard child(w.pid);
  Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, w.pid, 0)));
  ASSERT_FD(pidfd);
  Fd got(static_cast<int>(syscall(SYS_pidfd_getfd, pidfd.get(), 200, 0)));
  ASSERT_FD(got);
  EXPECT_EQ(fcntl(got.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(write(got.get(), "hi", 2), 2);
  char buffer[2];
  EXPECT_EQ(read(pipe.read_end.get(), buffer, 2), 2);
  // The same open file, not a copy.
  EXPECT_EQ(syscall(SYS_kcmp, getpid(), w.pid, KCMP_FILE, got.get(), 200), 0);
}

TEST(PidfdGetfd, FailsAsDocumented) {
  Waiting w;
  ChildGuard child(w.pid);
  Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, w.pid, 0)));
  ASSERT_FD(pidfd);
  EXPECT_ERRNO(syscall(SYS_pidfd_getfd, pidfd.get(), 0, 1), EINVAL);
  EXPECT_ERRNO(syscall(SYS_pidfd_getfd, pidfd.get(), 250, 0), EBADF);
  EXPECT_ERRNO(syscall(SYS_pidfd_getfd, pidfd.get(), -1, 0), EBADF);
  EXPECT_ERRNO(syscall(SYS_pidfd_getfd, -1, 0, 0), EBADF);
  Pipe pipe = MakePipe();
  EXPECT_ERRNO(syscall(SYS_pidfd_getfd, pipe.read_end.get(), 0, 0), EBADF);
  int status = RunInChild([&] {
    BecomeUser();
    CHILD_CHECK(syscall(SYS_pidfd_getfd, pidfd.get(), 0, 0) == -1 && errno == EPERM);
  });
  EXPECT_EXITED(status, 0);
  w.gate.write_end.Close();
  EXPECT_EXITED(child.Wait(), 0);
  EXPECT_ERRNO(syscall(SYS_pidfd_getfd, pidfd.get(), 0, 0), ESRCH);
}

// --- kcmp ----------------------------------------------------------------------------------------------------------

TEST(Kcmp, TellsOpenFilesApart) {
  Pipe pipe = MakePipe();
  Fd copy(dup(pipe.read_end.get()));
  const pid_t me = getpid();
  EXPECT_EQ(syscall(SYS_kcmp, me, me, KCMP_FILE, pipe.read_end.get(), copy.get()), 0);
  long order = syscall(SYS_kcmp, me, me, KCMP_FILE, pipe.read_end.get(), pipe.write_end.get());
  EXPECT_TRUE(order == 1 || order == 2) << order;
  // It is an order.
  EXPECT_EQ(syscall(SYS_kcmp, me, me, KCMP_FILE, pipe.write_end.get(), pipe.read_end.get()), 3 - order);
  EXPECT_ERRNO(syscall(SYS_kcmp, me, me, KCMP_FILE, pipe.read_end.get(), 999), EBADF);
}

TEST(Kcmp, KnowsWhatForkCopies) {
  Waiting w;
  ChildGuard child(w.pid);
  for (int type : {KCMP_VM, KCMP_FILES, KCMP_FS, KCMP_SIGHAND}) {
    EXPECT_EQ(syscall(SYS_kcmp, w.pid, w.pid, type, 0, 0), 0) << type;
    EXPECT_GT(syscall(SYS_kcmp, getpid(), w.pid, type, 0, 0), 0) << type;
  }
}

TEST(Kcmp, KnowsWhatThreadsShare) {
  static Pipe gate = MakePipe(), ready = MakePipe();
  pthread_t thread;
  ASSERT_EQ(pthread_create(
                &thread, nullptr,
                [](void*) -> void* {
                  pid_t tid = static_cast<pid_t>(syscall(SYS_gettid));
                  (void)!write(ready.write_end.get(), &tid, sizeof(tid));
                  char c;
                  (void)!read(gate.read_end.get(), &c, 1);
                  return nullptr;
                },
                nullptr),
            0);
  pid_t tid;
  ASSERT_EQ(read(ready.read_end.get(), &tid, sizeof(tid)), static_cast<ssize_t>(sizeof(tid)));
  for (int type : {KCMP_VM, KCMP_FILES, KCMP_FS, KCMP_SIGHAND}) {
    EXPECT_EQ(syscall(SYS_kcmp, getpid(), tid, type, 0, 0), 0) << type;
  }
  EXPECT_EQ(write(gate.write_end.get(), "x", 1), 1);
  pthread_join(thread, nullptr);
}

TEST(Kcmp, FailsAsDocumented) {
  Waiting w;
  ChildGuard child(w.pid);
  EXPECT_ERRNO(syscall(SYS_kcmp, getpid(), 0x3fffff, KCMP_VM, 0, 0), ESRCH);
  EXPECT_ERRNO(syscall(SYS_kcmp, getpid(), getpid(), 99, 0, 0), EINVAL);
  int status = RunInChild([&] {
    BecomeUser();
    CHILD_CHECK(syscall(SYS_kcmp, getpid(), w.pid, KCMP_VM, 0, 0) == -1 && errno == EPERM);
  });
  EXPECT_EXITED(status, 0);
}

}  // namespace
}  // namespace conformance

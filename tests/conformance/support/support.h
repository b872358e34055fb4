// What every conformance program needs: descriptors and directories that clean up after themselves, bad pointers of
// every kind, children, and a way to know that a thread is blocked.
//
// Nothing here, and nothing in a test, asks which kernel serves the calls.
#ifndef TESTS_CONFORMANCE_SUPPORT_SUPPORT_H_
#define TESTS_CONFORMANCE_SUPPORT_SUPPORT_H_

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <utility>

namespace conformance {

// Owns a descriptor.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(other.Release()) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      Close();
      fd_ = other.Release();
    }
    return *this;
  }
  ~Fd() { Close(); }
  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }
  int Release() { return std::exchange(fd_, -1); }
  void Close() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }

 private:
  int fd_ = -1;
};

// Both ends of a pipe.
struct Pipe {
  Fd read_end;
  Fd write_end;
};
Pipe MakePipe(int flags = 0);

// Two connected UNIX sockets.
struct SocketPair {
  Fd a;
  Fd b;
};
SocketPair MakeSocketPair(int type = SOCK_STREAM);

// A fresh directory under $TEST_TMPDIR or /tmp, removed with everything in it. Its path has no symbolic link in it,
// wherever the machine keeps its temporary files: cases count links and compare paths.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// Creates (or truncates) a file with `content` and exactly `mode`; returns false with errno on failure.
bool WriteFile(const std::string& path, const std::string& content, mode_t mode = 0644);
// The whole content, or "" with errno.
std::string ReadFile(const std::string& path);

// --- Results -------------------------------------------------------------------------------------------------------

::testing::AssertionResult FailsWith(const char* text, int want, long result, int error);
::testing::AssertionResult Succeeds(const char* text, long result, int error);

// The call returns -1 and sets errno to `want`.
#define EXPECT_ERRNO(call, want) EXPECT_TRUE(CONFORMANCE_FAILS_(call, want))
#define ASSERT_ERRNO(call, want) ASSERT_TRUE(CONFORMANCE_FAILS_(call, want))
// The call does not return -1.
#define EXPECT_OK(call) EXPECT_TRUE(CONFORMANCE_SUCCEEDS_(call))
#define ASSERT_OK(call) ASSERT_TRUE(CONFORMANCE_SUCCEEDS_(call))
#define ASSERT_FD(fd) ASSERT_TRUE(::conformance::Succeeds(#fd, (fd).get(), errno))

#define CONFORMANCE_FAILS_(call, want)                            \
  [&] {                                                           \
    errno = 0;                                                    \
    long result_ = (long)(call);                                  \
    return ::conformance::FailsWith(#call, want, result_, errno); \
  }()
#define CONFORMANCE_SUCCEEDS_(call)                        \
  [&] {                                                    \
    errno = 0;                                             \
    long result_ = (long)(call);                           \
    return ::conformance::Succeeds(#call, result_, errno); \
  }()

// --- Memory --------------------------------------------------------------------------------------------------------

inline constexpr size_t kPage = 4096;

// One mapping, unmapped at the end of its life.
class Mapping {
 public:
  Mapping() = default;
  Mapping(size_t size, int prot, int flags = MAP_PRIVATE | MAP_ANONYMOUS, int fd = -1, off_t offset = 0);
  Mapping(Mapping&& other) noexcept : base_(std::exchange(other.base_, nullptr)), size_(other.size_) {}
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();
  bool ok() const { return base_ != nullptr; }
  char* get() const { return base_; }
  size_t size() const { return size_; }
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(base_);
  }
  char* Release() { return std::exchange(base_, nullptr); }

 private:
  char* base_ = nullptr;
  size_t size_ = 0;
};

// An address at which nothing is mapped (inside a PROT_NONE page, so that nothing can be mapped there later).
char* BadPointer();
// A page that can be read and not written.
char* ReadOnlyPage();
// `size` writable bytes that end exactly where unmapped memory begins: the last good byte is at result[size - 1].
char* EndOfMemory(size_t size = kPage);
// An address in the kernel's half.
inline char* KernelPointer() { return reinterpret_cast<char*>(0xffff800000000000ull); }

// --- Processes -----------------------------------------------------------------------------------------------------

// Inside a child: gtest's assertions would be lost there, so complain on stderr and exit with 99.
#define CHILD_CHECK(condition)                                                    \
  do {                                                                            \
    if (!(condition)) ::conformance::ChildFailed(__FILE__, __LINE__, #condition); \
  } while (0)
[[noreturn]] void ChildFailed(const char* file, int line, const char* text);

// Runs `body` in a forked child that exits with 0 after it, and returns the wait status (-1 if fork failed).
int RunInChild(const std::function<void()>& body);
// Forks; the child runs `body` and exits with 0.
pid_t ForkChild(const std::function<void()>& body);
// waitpid without EINTR; the status, or -1.
int WaitFor(pid_t pid);
// Kills (SIGKILL) and reaps a child at the end of a scope.
class ChildGuard {
 public:
  explicit ChildGuard(pid_t pid) : pid_(pid) {}
  ~ChildGuard();
  ChildGuard(const ChildGuard&) = delete;
  ChildGuard& operator=(const ChildGuard&) = delete;
  pid_t pid() const { return pid_; }
  // The wait status; the guard does nothing afterwards.
  int Wait();

 private:
  pid_t pid_;
};

::testing::AssertionResult ExitedWith(int status, int code);
::testing::AssertionResult KilledBy(int status, int signo);
#define EXPECT_EXITED(status, code) EXPECT_TRUE(::conformance::ExitedWith(status, code))
#define EXPECT_SIGNALED(status, signo) EXPECT_TRUE(::conformance::KilledBy(status, signo))

// The state letter of a thread in /proc/<tid>/stat, or 0.
char ThreadState(pid_t tid);
// Waits until the thread sleeps (state S in several samples); false after ten seconds, and when it has ended.
bool WaitUntilBlocked(pid_t tid);
// uname(2)'s release: for what Linux did otherwise before. Cases skip themselves on older hosts.
bool KernelIsAtLeast(int major, int minor);
// Waits until `condition` holds; false after ten seconds (or `seconds`).
bool Eventually(const std::function<bool()>& condition, int seconds = 10);

void SleepMs(int ms);
int64_t NowNs();

// --- Signals -------------------------------------------------------------------------------------------------------

// Installs a handler for the length of a scope.
class ScopedHandler {
 public:
  ScopedHandler(int signo, void (*handler)(int), int flags = 0);
  ScopedHandler(int signo, void (*handler)(int, siginfo_t*, void*), int flags = 0);
  ~ScopedHandler();
  ScopedHandler(const ScopedHandler&) = delete;
  ScopedHandler& operator=(const ScopedHandler&) = delete;

 private:
  int signo_;
  struct sigaction old_;
};

// Blocks signals in this thread for the length of a scope.
class ScopedBlock {
 public:
  explicit ScopedBlock(std::initializer_list<int> signals);
  ~ScopedBlock();
  ScopedBlock(const ScopedBlock&) = delete;
  ScopedBlock& operator=(const ScopedBlock&) = delete;

 private:
  sigset_t old_;
};

sigset_t MakeSet(std::initializer_list<int> signals);

}  // namespace conformance

#endif  // TESTS_CONFORMANCE_SUPPORT_SUPPORT_H_

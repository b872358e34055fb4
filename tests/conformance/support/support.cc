#include "support/support.h"

#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <time.h>

namespace conformance {

Pipe MakePipe(int flags) {
  int fds[2];
  if (pipe2(fds, flags) != 0) return {};
  return {Fd(fds[0]), Fd(fds[1])};
}

SocketPair MakeSocketPair(int type) {
  int fds[2];
  if (socketpair(AF_UNIX, type, 0, fds) != 0) return {};
  return {Fd(fds[0]), Fd(fds[1])};
}

TempDir::TempDir() {
  const char* base = getenv("TEST_TMPDIR");
  path_ = std::string(base != nullptr ? base : "/tmp") + "/conformance.XXXXXX";
  if (mkdtemp(path_.data()) == nullptr) ADD_FAILURE() << "mkdtemp " << path_ << ": " << strerror(errno);
  char real[PATH_MAX];
  if (realpath(path_.c_str(), real) != nullptr) path_ = real;
}

TempDir::~TempDir() {
  nftw(
      path_.c_str(),
      [](const char* path, const struct stat*, int type, struct FTW*) {
        remove(path);
        return 0;
      },
      16, FTW_DEPTH | FTW_PHYS);
}

bool WriteFile(const std::string& path, const std::string& content, mode_t mode) {
  Fd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
  return fd.ok() && fchmod(fd.get(), mode) == 0 &&
         write(fd.get(), content.data(), content.size()) == static_cast<ssize_t>(content.size());
}

std::string ReadFile(const std::string& path) {
  std::string result;
  Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.ok()) return result;
  char buffer[16384];
  ssize_t n;
  while ((n = read(fd.get(), buffer, sizeof(buffer))) > 0) result.append(buffer, n);
  return result;
}

namespace {

std::string DescribeStatus(int status) {
  if (status == -1) return "there is no wait status";
  if (WIFEXITED(status)) return "it exited with " + std::to_string(WEXITSTATUS(status));
  if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status)) + " ended it";
  return "its wait status is " + std::to_string(status);
}

std::string Describe(long result, int error) {
  if (result != -1) return "it returned " + std::to_string(result);
  const char* name = strerrorname_np(error);
  return std::string("it failed with ") + (name != nullptr ? name : std::to_string(error));
}

}  // namespace

::testing::AssertionResult FailsWith(const char* text, int want, long result, int error) {
  if (result == -1 && error == want) return ::testing::AssertionSuccess();
  const char* name = strerrorname_np(want);
  return ::testing::AssertionFailure() << text << "\n  should fail with " << (name != nullptr ? name : "?") << ", but "
                                       << Describe(result, error);
}

::testing::AssertionResult Succeeds(const char* text, long result, int error) {
  if (result != -1) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << text << "\n  should succeed, but " << Describe(result, error);
}

::testing::AssertionResult ExitedWith(int status, int code) {
  if (WIFEXITED(status) && WEXITSTATUS(status) == code) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "it should exit with " << code << ", but " << DescribeStatus(status);
}

::testing::AssertionResult KilledBy(int status, int signo) {
  if (WIFSIGNALED(status) && WTERMSIG(status) == signo) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "signal " << signo << " should end it, but " << DescribeStatus(status);
}

Mapping::Mapping(size_t size, int prot, int flags, int fd, off_t offset) : size_(size) {
  void* p = mmap(nullptr, size, prot, flags, fd, offset);
  if (p != MAP_FAILED) base_ = static_cast<char*>(p);
}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  if (this != &other) {
    if (base_ != nullptr) munmap(base_, size_);
    base_ = std::exchange(other.base_, nullptr);
    size_ = other.size_;
  }
  return *this;
}

Mapping::~Mapping() {
  if (base_ != nullptr) munmap(base_, size_);
}

char* BadPointer() {
  static char* const page = static_cast<char*>(mmap(nullptr, kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  char* p = page + 64;
  asm volatile("" : "+r"(p));
  return p;
}

char* ReadOnlyPage() {
  static char* const page = static_cast<char*>(mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  char* p = page;
  asm volatile("" : "+r"(p));
  return p;
}

char* EndOfMemory(size_t size) {
  static char* const base = [] {
    char* p = static_cast<char*>(mmap(nullptr, 17 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(p + 16 * kPage, kPage, PROT_NONE);
    return p;
  }();
  memset(base, 0, 16 * kPage);
  char* p = base + 16 * kPage - size;
  asm volatile("" : "+r"(p));
  return p;
}

void ChildFailed(const char* file, int line, const char* text) {
  const int error = errno;
  char message[512];
  int n = snprintf(message, sizeof(message), "%s:%d: in a child: %s (errno %d %s)\n", file, line, text, error,
                   strerrorname_np(error));
  if (n > static_cast<int>(sizeof(message)) - 1) n = sizeof(message) - 1;
  ssize_t ignored = write(2, message, n);
  (void)ignored;
  _exit(99);
}

pid_t ForkChild(const std::function<void()>& body) {
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    body();
    _exit(0);
  }
  return pid;
}

int WaitFor(pid_t pid) {
  int status = 0;
  for (;;) {
    pid_t result = waitpid(pid, &status, 0);
    if (result == pid) return status;
    if (result < 0 && errno != EINTR) return -1;
  }
}

int RunInChild(const std::function<void()>& body) {
  pid_t pid = ForkChild(body);
  if (pid < 0) return -1;
  return WaitFor(pid);
}

ChildGuard::~ChildGuard() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  kill(pid_, SIGCONT);
  WaitFor(pid_);
}

int ChildGuard::Wait() {
  int status = WaitFor(pid_);
  pid_ = -1;
  return status;
}

char ThreadState(pid_t tid) {
  // After the last ')', because a name may contain anything.
  std::string stat = ReadFile("/proc/" + std::to_string(tid) + "/stat");
  size_t end = stat.rfind(')');
  return end == std::string::npos || end + 2 >= stat.size() ? 0 : stat[end + 2];
}

bool WaitUntilBlocked(pid_t tid) {
  int in_a_row = 0;
  for (int64_t end = NowNs() + 10'000'000'000; NowNs() < end;) {
    const char state = ThreadState(tid);
    if (state == 0 || state == 'Z' || state == 'X') return false;
    in_a_row = state == 'S' ? in_a_row + 1 : 0;
    if (in_a_row == 4) return true;
    SleepMs(2);
  }
  return false;
}

bool Eventually(const std::function<bool()>& condition, int seconds) {
  for (int64_t end = NowNs() + seconds * 1'000'000'000ll; NowNs() < end; SleepMs(1)) {
    if (condition()) return true;
  }
  return condition();
}

void SleepMs(int ms) {
  timespec left{ms / 1000, ms % 1000 * 1'000'000};
  while (nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
}

int64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000ll + now.tv_nsec;
}

ScopedHandler::ScopedHandler(int signo, void (*handler)(int), int flags) : signo_(signo) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  sigaction(signo_, &action, &old_);
}

ScopedHandler::ScopedHandler(int signo, void (*handler)(int, siginfo_t*, void*), int flags) : signo_(signo) {
  struct sigaction action = {};
  action.sa_sigaction = handler;
  action.sa_flags = flags | SA_SIGINFO;
  sigaction(signo_, &action, &old_);
}

ScopedHandler::~ScopedHandler() { sigaction(signo_, &old_, nullptr); }

sigset_t MakeSet(std::initializer_list<int> signals) {
  sigset_t set;
  sigemptyset(&set);
  for (int signo : signals) sigaddset(&set, signo);
  return set;
}

ScopedBlock::ScopedBlock(std::initializer_list<int> signals) {
  sigset_t set = MakeSet(signals);
  pthread_sigmask(SIG_BLOCK, &set, &old_);
}

ScopedBlock::~ScopedBlock() { pthread_sigmask(SIG_SETMASK, &old_, nullptr); }

bool KernelIsAtLeast(int major, int minor) {
  utsname name;
  int its_major = 0, its_minor = 0;
  if (uname(&name) != 0 || sscanf(name.release, "%d.%d", &its_major, &its_minor) != 2) return true;
  return its_major > major || (its_major == major && its_minor >= minor);
}

}  // namespace conformance

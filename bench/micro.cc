// Microbenchmarks of system calls: one static program that runs anywhere and prints one JSON object per row.
//
//   micro [--rows NAME,…] [--ms N] [--dir DIR]     {"row":"getpid","ns":110.2} …: the median over batches
//   micro --count ROW,… --ops N                    runs each row N times between two handshakes on stdin and stdout, so
//                                                  that an observer can count what happens elsewhere meanwhile
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <string>
#include <vector>

namespace {

std::string g_dir = "/tmp";

[[noreturn]] void Die(const char* what) {
  fprintf(stderr, "micro: %s: %s\n", what, strerror(errno));
  _exit(1);
}

long Checked(long result, const char* what) {
  if (result < 0) Die(what);
  return result;
}

int64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000ll + now.tv_nsec;
}

// A row: prepares once, returns a function that performs `n` operations. Where one operation is many of what the row is
// about (pages of a region), `units` says how many, and the result is per unit.
using Batch = std::function<void(long n)>;
struct Row {
  const char* name;
  Batch (*prepare)();
  long units = 1;
};

Batch Repeat(std::function<void()> once) {
  return [once = std::move(once)](long n) {
    for (long i = 0; i < n; ++i) once();
  };
}

int TestFile() {
  std::string path = g_dir + "/micro.data";
  int fd = Checked(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644), "open a file");
  std::vector<char> data(1 << 20, 'x');
  Checked(pwrite(fd, data.data(), data.size(), 0), "fill the file");
  return fd;
}

Batch Getpid() {
  return [](long n) {
    for (long i = 0; i < n; ++i) syscall(SYS_getpid);
  };
}
Batch Umask() {
  return [](long n) {
    for (long i = 0; i < n; ++i) syscall(SYS_umask, 022);
  };
}
Batch WriteNull() {
  int fd = Checked(open("/dev/null", O_WRONLY), "open /dev/null");
  return Repeat([fd] { Checked(write(fd, "x", 1), "write"); });
}
Batch ReadZero() {
  int fd = Checked(open("/dev/zero", O_RDONLY), "open /dev/zero");
  return Repeat([fd] {
    char c;
    Checked(read(fd, &c, 1), "read");
  });
}
Batch Fstat() {
  int fd = TestFile();
  return Repeat([fd] {
    struct stat st;
    Checked(fstat(fd, &st), "fstat");
  });
}
Batch Stat() {
  close(TestFile());
  return Repeat([path = g_dir + "/micro.data"] {
    struct stat st;
    Checked(stat(path.c_str(), &st), "stat");
  });
}
Batch OpenClose() {
  close(TestFile());
  return Repeat([path = g_dir + "/micro.data"] { close(Checked(open(path.c_str(), O_RDONLY), "open")); });
}
template <size_t size>
Batch Pread() {
  int fd = TestFile();
  static char buffer[size];
  return Repeat([fd] { Checked(pread(fd, buffer, size, 0), "pread"); });
}
Batch Pwrite() {
  int fd = TestFile();
  static char buffer[4096];
  return Repeat([fd] { Checked(pwrite(fd, buffer, sizeof(buffer), 0), "pwrite"); });
}
Batch MmapTouchMunmap() {
  return Repeat([] {
    constexpr size_t kSize = 64 << 10;
    char* p = static_cast<char*>(mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (p == MAP_FAILED) Die("mmap");
    for (size_t i = 0; i < kSize; i += 4096) static_cast<volatile char*>(p)[i] = 1;
    munmap(p, kSize);
  });
}
// Maps a region, writes to each page once, unmaps it.
template <long megabytes>
Batch AnonymousFault() {
  return Repeat([] {
    constexpr size_t kSize = static_cast<size_t>(megabytes) << 20;
    char* p = static_cast<char*>(mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (p == MAP_FAILED) Die("mmap");
    madvise(p, kSize, MADV_NOHUGEPAGE);
    for (size_t i = 0; i < kSize; i += 4096) static_cast<volatile char*>(p)[i] = 1;
    munmap(p, kSize);
  });
}
// A child writes to each page of memory that it shares with its parent since the fork.
template <long megabytes>
Batch CopyOnWriteFault() {
  constexpr size_t kSize = static_cast<size_t>(megabytes) << 20;
  char* p = static_cast<char*>(mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (p == MAP_FAILED) Die("mmap");
  madvise(p, kSize, MADV_NOHUGEPAGE);
  memset(p, 1, kSize);
  return Repeat([p] {
    pid_t pid = Checked(fork(), "fork");
    if (pid == 0) {
      for (size_t i = 0; i < kSize; i += 4096) static_cast<volatile char*>(p)[i] = 2;
      _exit(0);
    }
    waitpid(pid, nullptr, 0);
  });
}
Batch SignalSelf() {
  signal(SIGUSR1, [](int) {});
  return Repeat([] { syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1); });
}
// Two processes send each other a signal in turn; each waits for its handler in sigsuspend.
Batch SignalRoundTrip() {
  signal(SIGUSR1, [](int) {});
  sigset_t blocked, waiting;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR1);
  sigprocmask(SIG_BLOCK, &blocked, &waiting);
  sigdelset(&waiting, SIGUSR1);
  const pid_t parent = getpid();
  const pid_t child = Checked(fork(), "fork");
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
      sigsuspend(&waiting);
      Checked(kill(parent, SIGUSR1), "kill");
    }
  }
  return Repeat([child, waiting] {
    Checked(kill(child, SIGUSR1), "kill");
    sigsuspend(&waiting);
  });
}
Batch SchedYield() {
  return Repeat([] { sched_yield(); });
}
Batch ThreadCreateJoin() {
  return Repeat([] {
    pthread_t thread;
    if (pthread_create(
            &thread, nullptr, [](void*) -> void* { return nullptr; }, nullptr) != 0)
      Die("pthread_create");
    pthread_join(thread, nullptr);
  });
}
Batch ForkWait() {
  return Repeat([] {
    pid_t pid = Checked(fork(), "fork");
    if (pid == 0) _exit(0);
    int status;
    waitpid(pid, &status, 0);
  });
}
Batch ForkExecWait() {
  return Repeat([] {
    pid_t pid = Checked(fork(), "fork");
    if (pid == 0) {
      execl("/proc/self/exe", "micro", "--exit", nullptr);
      _exit(1);
    }
    int status;
    waitpid(pid, &status, 0);
    if (status != 0) Die("exec");
  });
}

// A child that answers every byte; it ends when our end is closed, at the latest with us.
Batch RoundTrip(int to, int from, int child_in, int child_out) {
  pid_t pid = Checked(fork(), "fork");
  if (pid == 0) {
    close(to);
    if (from != to) close(from);
    char c;
    while (read(child_in, &c, 1) == 1) Checked(write(child_out, &c, 1), "write");
    _exit(0);
  }
  close(child_in);
  if (child_out != child_in) close(child_out);
  return [to, from](long n) {
    char c = 'x';
    for (long i = 0; i < n; ++i) {
      Checked(write(to, &c, 1), "write");
      if (read(from, &c, 1) != 1) Die("read");
    }
  };
}
Batch PipeRoundTrip() {
  int a[2], b[2];
  Checked(pipe(a), "pipe");
  Checked(pipe(b), "pipe");
  return RoundTrip(a[1], b[0], a[0], b[1]);
}
Batch UnixRoundTrip() {
  int s[2];
  Checked(socketpair(AF_UNIX, SOCK_STREAM, 0, s), "socketpair");
  return RoundTrip(s[0], s[0], s[1], s[1]);
}

bool ReadAll(int fd, char* data, size_t length) {
  for (size_t done = 0; done < length;) {
    const ssize_t n = read(fd, data + done, length - done);
    if (n <= 0) return false;
    done += static_cast<size_t>(n);
  }
  return true;
}

// Like hackbench: every sender writes to every receiver, all of them processes; an operation is a message of 100 bytes
// from each to each. A batch tells every process over its pipe how many are to come; receivers report their last one.
Batch Messaging() {
  constexpr int kSenders = 5, kReceivers = 5;
  constexpr size_t kMessage = 100;
  int done[2], sockets[kReceivers][2];
  std::vector<int> controls;
  Checked(pipe(done), "pipe");
  for (auto& pair : sockets) Checked(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
  for (int child = 0; child < kSenders + kReceivers; ++child) {
    int control[2];
    Checked(pipe(control), "pipe");
    controls.push_back(control[1]);
    if (Checked(fork(), "fork") != 0) {
      close(control[0]);
      continue;
    }
    for (int fd : controls) close(fd);
    char message[kMessage] = {};
    long rounds;
    while (read(control[0], &rounds, sizeof(rounds)) == sizeof(rounds)) {
      if (child >= kSenders) {
        for (long i = 0; i < rounds * kSenders; ++i) {
          if (!ReadAll(sockets[child - kSenders][0], message, kMessage)) Die("read");
        }
        Checked(write(done[1], "x", 1), "write");
        continue;
      }
      for (long i = 0; i < rounds; ++i) {
        for (auto& pair : sockets) Checked(write(pair[1], message, kMessage), "write");
      }
    }
    _exit(0);
  }
  return [controls, done = done[0]](long n) {
    for (int fd : controls) Checked(write(fd, &n, sizeof(n)), "write");
    char c;
    for (int i = 0; i < kReceivers; ++i) {
      if (read(done, &c, 1) != 1) Die("read");
    }
  };
}

void FutexWaitWhile(std::atomic<uint32_t>* word, uint32_t value, int flags) {
  while (word->load() == value) syscall(SYS_futex, word, FUTEX_WAIT | flags, value, nullptr);
}
void FutexSet(std::atomic<uint32_t>* word, uint32_t value, int flags) {
  word->store(value);
  syscall(SYS_futex, word, FUTEX_WAKE | flags, 1);
}
[[noreturn]] void FutexAnswer(std::atomic<uint32_t>* word, int flags) {
  for (;;) {
    FutexWaitWhile(word, 0, flags);
    FutexSet(word, 0, flags);
  }
}
Batch FutexAsk(std::atomic<uint32_t>* word, int flags) {
  return [=](long n) {
    for (long i = 0; i < n; ++i) {
      FutexSet(word, 1, flags);
      FutexWaitWhile(word, 1, flags);
    }
  };
}
Batch FutexThreads() {
  static std::atomic<uint32_t> word;
  pthread_t thread;
  if (pthread_create(
          &thread, nullptr, [](void*) -> void* { FutexAnswer(&word, FUTEX_PRIVATE_FLAG); }, nullptr) != 0) {
    Die("pthread_create");
  }
  return FutexAsk(&word, FUTEX_PRIVATE_FLAG);
}
Batch FutexProcesses() {
  void* shared = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) Die("mmap");
  auto* word = static_cast<std::atomic<uint32_t>*>(shared);
  if (Checked(fork(), "fork") == 0) FutexAnswer(word, 0);
  return FutexAsk(word, 0);
}

const Row kRows[] = {
    {"getpid", Getpid},
    {"umask", Umask},
    {"write_null", WriteNull},
    {"read_zero", ReadZero},
    {"fstat", Fstat},
    {"stat", Stat},
    {"open_close", OpenClose},
    {"pread_4k", Pread<4096>},
    {"pread_64k", Pread<65536>},
    {"pwrite_4k", Pwrite},
    {"mmap_touch_munmap_64k", MmapTouchMunmap},
    {"anonymous_fault_16m", AnonymousFault<16>, 4096},
    {"anonymous_fault_128m", AnonymousFault<128>, 32768},
    {"cow_fault_16m", CopyOnWriteFault<16>, 4096},
    {"signal_self", SignalSelf},
    {"signal_round_trip", SignalRoundTrip},
    {"sched_yield", SchedYield},
    {"thread_create_join", ThreadCreateJoin},
    {"fork_wait", ForkWait},
    {"fork_exec_wait", ForkExecWait},
    {"pipe_round_trip", PipeRoundTrip},
    {"unix_round_trip", UnixRoundTrip},
    {"messaging", Messaging, 25},
    {"futex_threads", FutexThreads},
    {"futex_processes", FutexProcesses},
};

// Median nanoseconds per operation over eleven batches that together take about `ms`.
double Measure(const Batch& batch, int ms) {
  batch(1);
  long n = 1;
  int64_t took;
  for (;;) {
    const int64_t start = NowNs();
    batch(n);
    took = NowNs() - start;
    if (took > 2'000'000 || n > 1'000'000) break;
    n *= 2;
  }
  constexpr int kBatches = 11;
  n = std::max<long>(1, static_cast<long>(static_cast<double>(n) * ms * 1e6 / kBatches / std::max<int64_t>(took, 1)));
  std::vector<double> results;
  for (int i = 0; i < kBatches; ++i) {
    const int64_t start = NowNs();
    batch(n);
    results.push_back(static_cast<double>(NowNs() - start) / n);
  }
  std::sort(results.begin(), results.end());
  return results[kBatches / 2];
}

void Handshake() {
  fflush(stdout);
  char c;
  do {
    if (read(0, &c, 1) != 1) _exit(1);
  } while (c != '\n');
}

// Each row runs in a process of its own, so that what it leaves (threads, children) ends with it.
void InChild(const std::function<void()>& body) {
  fflush(stdout);
  pid_t pid = Checked(fork(), "fork");
  if (pid == 0) {
    Checked(setpgid(0, 0), "setpgid");
    body();
    fflush(stdout);
    signal(SIGTERM, SIG_IGN);
    kill(0, SIGTERM);
    _exit(0);
  }
  int status;
  waitpid(pid, &status, 0);
}

}  // namespace

int main(int argc, char** argv) {
  std::string rows, count;
  int ms = 200;
  long ops = 1000;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--exit") return 0;
    const char* value = i + 1 < argc ? argv[++i] : "";
    if (flag == "--rows") {
      rows = value;
    } else if (flag == "--count") {
      rows = count = value;
    } else if (flag == "--ms") {
      ms = atoi(value);
    } else if (flag == "--ops") {
      ops = atol(value);
    } else if (flag == "--dir") {
      g_dir = value;
    } else {
      fprintf(stderr, "micro: unknown flag %s\n", flag.c_str());
      return 2;
    }
  }
  // A runtime may make the calls of a program cheaper once it has seen some, and leave a file alone that was just
  // written.
  if (count.empty()) InChild([] { (void)Measure(Getpid(), 150); });
  for (const Row& row : kRows) {
    if (!rows.empty() && ("," + rows + ",").find("," + std::string(row.name) + ",") == std::string::npos) continue;
    InChild([&] {
      Batch batch = row.prepare();
      if (count.empty()) {
        printf("{\"row\":\"%s\",\"ns\":%.1f}\n", row.name, Measure(batch, ms) / row.units);
        return;
      }
      const long repeats = std::max(1l, ops / row.units);
      batch(std::min(repeats, 100l));
      printf("{\"row\":\"%s\",\"ready\":true}\n", row.name);
      Handshake();
      batch(repeats);
      printf("{\"row\":\"%s\",\"ops\":%ld}\n", row.name, repeats * row.units);
      Handshake();
    });
  }
}

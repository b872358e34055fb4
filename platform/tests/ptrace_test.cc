// What only the ptrace platform promises: what stubs are made of, and where their threads run.
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <span>
#include <sstream>
#include <thread>

#include "base/syscall_unsafe.h"
#include "platform/ptrace/host_calls.h"
#include "platform/tests/guest.h"

namespace platform {
namespace {

class PtraceTest : public PlatformTest {
 protected:
  static std::vector<std::string> Lines(const std::string& path) {
    std::ifstream in(path);
    std::vector<std::string> lines;
    for (std::string line; std::getline(in, line);) lines.push_back(line);
    return lines;
  }
  static std::string Field(const std::string& status, const std::string& name) {
    for (const std::string& line : Lines(status)) {
      if (line.rfind(name + ":", 0) == 0) return line.substr(line.find_first_not_of(" \t", name.size() + 1));
    }
    return "";
  }
  // The threads of a process without its leader.
  static std::vector<int> Threads(int pid) {
    std::vector<int> tids;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task")) {
      int tid = atoi(entry.path().filename().c_str());
      if (tid != pid) tids.push_back(tid);
    }
    return tids;
  }
};
INSTANTIATE_TEST_SUITE_P(Only, PtraceTest, ::testing::Values(Factories()[0]),
                         [](const auto& info) { return info.param.name; });

TEST_P(PtraceTest, AStubHasNothingOfTheSentry) {
  InFiber([&] {
    Guest g = SystemCallGuest();
    ASSERT_EQ(g.Run().reason, ExitReason::kSystemCall);
    const std::string proc = "/proc/" + std::to_string(ChildProcesses().back());
    std::vector<std::string> ours;
    for (const std::string& line : Lines(proc + "/maps")) {
      if (line.find("memfd:runsc-memory") == std::string::npos && line.find("[vsyscall]") == std::string::npos) {
        ours.push_back(line.substr(0, line.find_last_of(' ') > 30 ? 30 : line.size()));
        const bool text = line.find("r-xp") != std::string::npos && line.find("memfd:runsc-stub") != std::string::npos;
        const bool command =
            line.find("r--s") != std::string::npos && line.find("memfd:runsc-commands") != std::string::npos;
        EXPECT_TRUE(text || command) << line;
      }
    }
    EXPECT_EQ(ours.size(), 2u);
    EXPECT_EQ(Field(proc + "/status", "Seccomp"), "2");
    EXPECT_EQ(Field(proc + "/status", "NoNewPrivs"), "1");
    EXPECT_EQ(Field(proc + "/status", "SigCgt"), "0000000000000000");
    g.as->Release();
  });
}

TEST_P(PtraceTest, TheVsyscallPageMakesSystemCallsOfTheGuest) {
  bool present = false;
  for (const std::string& line : Lines("/proc/self/maps")) present |= line.find("[vsyscall]") != std::string::npos;
  if (!present) GTEST_SKIP() << "the host has no vsyscall page";
  InFiber([&] {
    const uint64_t page = 0xffffffffff600000;
    const struct { uint64_t address, number; } cases[] = {{page, 96}, {page + 1024, 201}, {page + 2048, 309}};
    for (const auto& c : cases) {
      auto as = SpaceWith(BLOB_OF(call));
      auto context = ContextAt(kCodeAddress);
      Registers& r = context->registers();
      r.rbx = c.address;
      r.rsp = kDataAddress + kPageSize;
      ASSERT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
      EXPECT_EQ(r.orig_rax, c.number);
      EXPECT_EQ(r.rip, kCodeAddress + 2);
      EXPECT_EQ(r.rsp, kDataAddress + kPageSize);
      r.rax = 555;
      ASSERT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
      EXPECT_EQ(r.orig_rax, 555u);
      as->Release();
    }
  });
}

TEST_P(PtraceTest, AThreadThatComputesIsSetFreeAndOneThatCallsIsBound) {
  cpu_set_t cpus;
  ASSERT_EQ(sched_getaffinity(0, sizeof(cpus), &cpus), 0);
  if (CPU_COUNT(&cpus) < 2) GTEST_SKIP() << "one CPU";
  StartScheduler(1, true);
  InFiber([&] {
    const std::string cpu = std::to_string(scheduler_->executors()[0]->cpu());
    auto as = SpaceWith(BLOB_OF(compute_and_call));
    auto context = ContextAt(kCodeAddress);
    context->registers().rbx = 1;
    ASSERT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
    const int pid = ChildProcesses().back();
    ASSERT_EQ(Threads(pid).size(), 1u);
    const std::string status = "/proc/" + std::to_string(Threads(pid)[0]) + "/status";
    EXPECT_EQ(Field(status, "Cpus_allowed_list"), cpu);
    context->registers().rbx = uint64_t{1} << 62;
    std::thread other([&] {
      while (Field(status, "Cpus_allowed_list") == cpu) std::this_thread::yield();
      context->Interrupt();
    });
    EXPECT_EQ(RunGuest(*context, *as).reason, ExitReason::kInterrupted);
    other.join();
    context->registers().rcx = 1;
    context->registers().rbx = 1;
    for (int i = 0; i < 100'000 && Field(status, "Cpus_allowed_list") != cpu; ++i) {
      ASSERT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
    }
    EXPECT_EQ(Field(status, "Cpus_allowed_list"), cpu);
    // Guest threads give way to executors; helpers do not.
    EXPECT_GT(getpriority(PRIO_PROCESS, Threads(pid)[0]), getpriority(PRIO_PROCESS, 0));
    EXPECT_EQ(getpriority(PRIO_PROCESS, pid), getpriority(PRIO_PROCESS, 0));
    context.reset();
    as->Release();
  });
}

TEST_P(PtraceTest, AnIdleSandboxDoesNothing) {
  StartScheduler(1, true);
  std::string status;
  Guest g;
  std::vector<std::unique_ptr<Context>> blocked;
  InFiber([&] {
    g = SystemCallGuest();
    for (int i = 0; i < 20; ++i) {
      blocked.push_back(SystemCallContext());
      EXPECT_EQ(RunGuest(*blocked.back(), *g.as).reason, ExitReason::kSystemCall);
    }
    NewSpace()->Release();  // into the pool, which is given up after a second
    status = "/proc/self/task/" + std::to_string(scheduler_->executors()[0]->host_tid()) + "/status";
  });
  auto switches = [&] {
    return Field(status, "voluntary_ctxt_switches") + " " + Field(status, "nonvoluntary_ctxt_switches");
  };
  std::string before;
  do {
    before = switches();
    timespec pause = {0, 300'000'000};
    nanosleep(&pause, nullptr);
  } while (switches() != before || ChildProcesses().size() != 2);  // it comes to rest: the zygote and one stub are left
  InFiber([&] {
    blocked.clear();
    g.context.reset();
    g.as->Release();
  });
}

TEST_P(PtraceTest, SignalsFromOutsideDisturbNothing) {
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(compute_and_call));
    const int pid = ChildProcesses().back();
    auto context = ContextAt(kCodeAddress);
    Registers& r = context->registers();
    r.rbx = 100;
    ASSERT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
    const int tid = Threads(pid)[0];
    std::atomic<bool> stop{false};
    std::thread sender([&] {
      const int signals[] = {SIGTRAP, SIGCHLD, SIGSEGV, SIGSTOP, SIGCONT, SIGTERM, SIGUSR1, SIGSYS, 16, 40};
      for (size_t i = 0; !stop; ++i) {
        (void)base::Host(SYS_tgkill, pid, i & 1 ? tid : pid, signals[(i / 2) % std::size(signals)]);
        timespec pause = {0, 20'000};
        if (i % 4 == 0) nanosleep(&pause, nullptr);
      }
    });
    FileRange page = FileOf("");
    for (uint64_t i = 0; i < 3000; ++i) {
      r.rax = i;
      Exit exit = RunGuest(*context, *as);
      ASSERT_EQ(exit.reason, ExitReason::kSystemCall) << exit.signo;
      ASSERT_EQ(r.orig_rax, i);
      if (i % 10 == 0) {
        MapOp ops[] = {MapOf(*file_, 0x20000000, page, kR | kW), UnmapOf(0x20000000, kPageSize)};
        ASSERT_TRUE(as->Apply(ops).ok());
      }
    }
    stop = true;
    sender.join();
    context.reset();
    as->Release();
  });
}

TEST_P(PtraceTest, NoStubIsLeftAfterTheSentryDied) {
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  const pid_t sentry = fork();
  if (sentry == 0) {
    (void)platform_.release();  // the parent's, and its zygote
    platform_ = GetParam().make();
    InFiber([&] {
      Guest g = SpinGuest();
      std::thread reporter([&] {
        while (platform_->RunningContexts() == 0) std::this_thread::yield();
        int stub = ChildProcesses().back();
        (void)!write(pipe_fds[1], &stub, sizeof(stub));
        kill(getpid(), SIGKILL);
      });
      (void)g.Run();
    });
    _exit(1);
  }
  int stub = 0;
  ASSERT_EQ(read(pipe_fds[0], &stub, sizeof(stub)), static_cast<ssize_t>(sizeof(stub)));
  int status = 0;
  waitpid(sentry, &status, 0);
  // It is init's or our subreaper's zombie, or gone; it does not run any more.
  for (;;) {
    std::string state = Field("/proc/" + std::to_string(stub) + "/status", "State");
    if (state.empty() || state[0] == 'Z' || state[0] == 'X') break;
    std::this_thread::yield();
  }
  close(pipe_fds[0]);
  close(pipe_fds[1]);
}

TEST(PtraceHostCalls, NamesEachOnce) {
  std::vector<int> seen;
  for (std::span<const HostCall> calls :
       {std::span<const HostCall>(kCommonHostCalls), std::span<const HostCall>(ptrace::kHostCalls)}) {
    for (const HostCall& call : calls) {
      EXPECT_EQ(std::count(seen.begin(), seen.end(), call.number), 0) << call.number;
      EXPECT_NE(std::string(call.reason), "");
      seen.push_back(call.number);
    }
  }
}

}  // namespace
}  // namespace platform

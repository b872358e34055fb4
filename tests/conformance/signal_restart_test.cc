// Every call that can block, and what interrupts it: a table of calls times a table of events.
//
// A child makes the call; the parent waits until it sleeps, lets the event happen, and learns whether the call went on
// (it still waits, and ends normally once what it waits for comes) or ended with EINTR.
//
// Sources: man 7 signal, "Interruption of system calls and library functions by signal handlers" and "... by stop
// signals"; kernel/signal.c and arch/x86/kernel/signal.c for the four -ERESTART codes.
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include <atomic>
#include <memory>
#include <vector>

#include "restart/call.h"

namespace conformance {
namespace {

using namespace restart;  // NOLINT: the table's words

enum class Event { kHandlerRestart, kHandler, kIgnored, kBlocked, kStopContinue, kKill };

struct EventRow {
  const char* name;
  Event event;
};
const EventRow kEvents[] = {
    {"handler_with_SA_RESTART", Event::kHandlerRestart},
    {"handler_without_SA_RESTART", Event::kHandler},
    {"ignored_signal", Event::kIgnored},
    {"blocked_signal", Event::kBlocked},
    {"stop_and_continue", Event::kStopContinue},
    {"fatal_signal", Event::kKill},
};

bool Interrupts(Rule rule, Event event) {
  switch (event) {
    case Event::kHandlerRestart:
      return rule == Rule::kRestartNoHand || rule == Rule::kInterrupt || rule == Rule::kCutShort;
    case Event::kHandler:
      return rule != Rule::kRestartAlways;
    case Event::kStopContinue:
      return rule == Rule::kInterrupt || rule == Rule::kCutShort;
    case Event::kIgnored:
    case Event::kBlocked:
    case Event::kKill:
      return false;
  }
  return false;
}

// What the child tells the parent.
struct Report {
  std::atomic<bool> ready, done;
  std::atomic<int> handled;
  std::atomic<long> result;
  std::atomic<int> error;
};
Report* g_report;

class Restart : public ::testing::TestWithParam<std::tuple<CallRow, EventRow>> {};

TEST_P(Restart, Follows) {
  const auto& [call_row, event_row] = GetParam();
  const Event event = event_row.event;
  if (std::string(call_row.name) == "seccomp_notif_recv" && !KernelIsAtLeast(6, 6))
    GTEST_SKIP() << "always EINTR before";
  Mapping memory(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  Report* report = g_report = memory.as<Report>();
  std::unique_ptr<Call> call = call_row.make();
  call->Prepare();
  if (HasFailure()) return;

  ChildGuard child(ForkChild([&] {
    struct sigaction action = {};
    if (event == Event::kHandler || event == Event::kHandlerRestart) {
      action.sa_handler = [](int) { ++g_report->handled; };
      action.sa_flags = event == Event::kHandlerRestart ? SA_RESTART : 0;
      sigaction(SIGUSR1, &action, nullptr);
    }
    if (event == Event::kIgnored) signal(SIGUSR1, SIG_IGN);
    if (event == Event::kBlocked) {
      sigset_t set = MakeSet({SIGUSR1});
      sigprocmask(SIG_BLOCK, &set, nullptr);
    }
    call->PrepareChild();
    report->ready = true;
    errno = 0;
    const long result = call->Block();
    report->error = result == -1 ? errno : 0;
    report->result = result;
    report->done = true;
    _exit(0);
  }));
  const pid_t pid = child.pid();
  // sigsuspend with an empty mask would deliver the blocked signal.
  const bool suspends = std::string(call_row.name) == "sigsuspend";
  if (suspends && event == Event::kBlocked) GTEST_SKIP() << "the call itself unblocks the signal";

  ASSERT_TRUE(Eventually([&] { return report->ready.load(); }));
  ASSERT_TRUE(WaitUntilBlocked(pid)) << "the call does not block; state " << ThreadState(pid);
  ASSERT_FALSE(report->done) << "the call ended by itself with " << report->result << ", errno " << report->error;

  switch (event) {
    case Event::kHandler:
    case Event::kHandlerRestart:
      ASSERT_OK(kill(pid, SIGUSR1));
      ASSERT_TRUE(Eventually([&] { return report->handled == 1; })) << "the handler does not run";
      break;
    case Event::kIgnored:
    case Event::kBlocked:
      ASSERT_OK(kill(pid, SIGUSR1));
      SleepMs(10);
      break;
    case Event::kStopContinue: {
      int status;
      ASSERT_OK(kill(pid, SIGSTOP));
      ASSERT_EQ(waitpid(pid, &status, WUNTRACED), pid);
      ASSERT_TRUE(WIFSTOPPED(status));
      ASSERT_OK(kill(pid, SIGCONT));
      ASSERT_EQ(waitpid(pid, &status, WCONTINUED), pid);
      break;
    }
    case Event::kKill:
      ASSERT_OK(kill(pid, SIGTERM));
      EXPECT_SIGNALED(child.Wait(), SIGTERM);
      return;
  }

  if (Interrupts(call_row.rule, event)) {
    EXPECT_TRUE(Eventually([&] { return report->done.load(); }, 5)) << "the call goes on, but its end was due";
    if (call_row.rule == Rule::kCutShort) {
      EXPECT_EQ(report->result, 0) << strerrorname_np(report->error);
      return;
    }
    EXPECT_EQ(report->result, -1);
    EXPECT_EQ(report->error, EINTR) << strerrorname_np(report->error);
    return;
  }
  // It goes on waiting (a sleep may have ended by now, which is success too).
  if (!call->EndsByItself()) {
    ASSERT_TRUE(Eventually([&] { return report->done || ThreadState(pid) == 'S'; }));
    SleepMs(5);
    ASSERT_FALSE(report->done) << "the call ended with " << report->result << ", errno "
                               << strerrorname_np(report->error) << ", but it had to go on";
  }
  call->Release(pid);
  ASSERT_TRUE(Eventually([&] { return report->done.load(); })) << "the call does not end";
  if (call->OnlyASignalEndsIt()) {
    EXPECT_EQ(report->error, EINTR);
  } else {
    EXPECT_GE(report->result, 0) << "the call ended with errno " << strerrorname_np(report->error);
  }
}

std::vector<CallRow> AllCalls() {
  std::vector<CallRow> all = FileCalls();
  for (const auto& more : {SocketCalls(), ProcessCalls()}) all.insert(all.end(), more.begin(), more.end());
  return all;
}

INSTANTIATE_TEST_SUITE_P(Matrix, Restart,
                         ::testing::Combine(::testing::ValuesIn(AllCalls()), ::testing::ValuesIn(kEvents)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param).name) + "__" + std::get<1>(info.param).name;
                         });

// --- What the matrix does not cover --------------------------------------------------------------------------------

volatile int g_handled;
void Count(int) { g_handled = g_handled + 1; }

TEST(Partial, AReadThatHasSomethingReturnsIt) {
  // recv with MSG_WAITALL returns what it has when a handler runs.
  SocketPair s = MakeSocketPair();
  Mapping memory(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  auto* result = memory.as<std::atomic<long>>();
  *result = -100;
  ASSERT_EQ(write(s.b.get(), "abc", 3), 3);
  pid_t pid = ForkChild([&] {
    ScopedHandler handler(SIGUSR1, Count, SA_RESTART);
    char buffer[10];
    *result = recv(s.a.get(), buffer, 10, MSG_WAITALL);
  });
  ASSERT_TRUE(WaitUntilBlocked(pid));
  kill(pid, SIGUSR1);
  EXPECT_EXITED(WaitFor(pid), 0);
  EXPECT_EQ(*result, 3);
}

TEST(Partial, AWriteThatHasWrittenReturnsHowMuch) {
  Pipe p = MakePipe();
  Mapping memory(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  auto* result = memory.as<std::atomic<long>>();
  pid_t pid = ForkChild([&] {
    ScopedHandler handler(SIGUSR1, Count, SA_RESTART);
    std::vector<char> data(200'000, 'x');
    *result = write(p.write_end.get(), data.data(), data.size());
  });
  ASSERT_TRUE(WaitUntilBlocked(pid));
  kill(pid, SIGUSR1);
  EXPECT_EXITED(WaitFor(pid), 0);
  EXPECT_EQ(*result, 65536);
}

TEST(Sleep, AnInterruptedSleepTellsWhatIsLeft) {
  timespec left = {};
  Mapping memory(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  auto* seconds = memory.as<std::atomic<long>>();
  pid_t pid = ForkChild([&] {
    ScopedHandler handler(SIGUSR1, Count);
    timespec time = {100, 0};
    CHILD_CHECK(nanosleep(&time, &left) == -1 && errno == EINTR);
    *seconds = left.tv_sec;
  });
  ASSERT_TRUE(WaitUntilBlocked(pid));
  kill(pid, SIGUSR1);
  EXPECT_EXITED(WaitFor(pid), 0);
  EXPECT_GE(*seconds, 80);
  EXPECT_LE(*seconds, 99);
}

TEST(Sleep, ARestartedSleepKeepsItsDeadline) {
  // Stopped and continued half way: the sleep ends when it would have ended anyway.
  pid_t pid = ForkChild([] {
    const int64_t start = NowNs();
    timespec time = {0, 300'000'000};
    CHILD_CHECK(nanosleep(&time, nullptr) == 0);
    const int64_t took = NowNs() - start;
    CHILD_CHECK(took >= 300'000'000);
  });
  ASSERT_TRUE(WaitUntilBlocked(pid));
  kill(pid, SIGSTOP);
  int status;
  ASSERT_EQ(waitpid(pid, &status, WUNTRACED), pid);
  kill(pid, SIGCONT);
  EXPECT_EXITED(WaitFor(pid), 0);
}

TEST(Handler, RunsOnceForEachOfManyInterruptions) {
  Mapping memory(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  Report* report = g_report = memory.as<Report>();
  Pipe p = MakePipe();
  ChildGuard child(ForkChild([&] {
    ScopedHandler handler(
        SIGUSR1, +[](int) { ++g_report->handled; }, SA_RESTART);
    char c;
    report->ready = true;
    CHILD_CHECK(read(p.read_end.get(), &c, 1) == 1 && c == 'x');
  }));
  ASSERT_TRUE(Eventually([&] { return report->ready.load(); }));
  for (int i = 1; i <= 200; ++i) {
    kill(child.pid(), SIGUSR1);
    ASSERT_TRUE(Eventually([&] { return report->handled == i; })) << i;
  }
  ASSERT_EQ(write(p.write_end.get(), "x", 1), 1);
  EXPECT_EXITED(child.Wait(), 0);
}

TEST(Handler, ThatMakesItsOwnCallDoesNotDisturbTheRestart) {
  Mapping memory(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  Report* report = g_report = memory.as<Report>();
  Pipe p = MakePipe();
  ChildGuard child(ForkChild([&] {
    ScopedHandler handler(
        SIGUSR1,
        +[](int) {
          timespec time = {0, 1'000'000};
          nanosleep(&time, nullptr);  // Leaves its own restart block behind.
          ++g_report->handled;
        },
        SA_RESTART);
    char c;
    report->ready = true;
    CHILD_CHECK(read(p.read_end.get(), &c, 1) == 1);
  }));
  ASSERT_TRUE(Eventually([&] { return report->ready.load(); }));
  ASSERT_TRUE(WaitUntilBlocked(child.pid()));
  kill(child.pid(), SIGUSR1);
  ASSERT_TRUE(Eventually([&] { return report->handled == 1; }));
  kill(child.pid(), SIGSTOP);
  int status;
  ASSERT_EQ(waitpid(child.pid(), &status, WUNTRACED), child.pid());
  kill(child.pid(), SIGCONT);
  ASSERT_EQ(write(p.write_end.get(), "x", 1), 1);
  EXPECT_EXITED(child.Wait(), 0);
}

}  // namespace
// What a call waits for, when it is there, comes before the signal that came with it (wait_event_interruptible and
// do_wait look at the condition last).
TEST(BeforeTheSignal, AChildIsReapedThatSaysSoBySigchld) {
  ScopedHandler handler(
      SIGCHLD, +[](int) {});
  for (int i = 0; i < 200; ++i) {
    pid_t pid = ForkChild([] {});
    ASSERT_EQ(waitpid(pid, nullptr, 0), pid) << strerror(errno) << " at " << i;
  }
}

TEST(BeforeTheSignal, BytesOfAPipeAreReadThatCameFirst) {
  ScopedHandler handler(
      SIGUSR1, +[](int) {});
  Pipe p = MakePipe();
  const pid_t parent = getpid();
  for (int i = 0; i < 100; ++i) {
    pid_t pid = ForkChild([&] {
      CHILD_CHECK(WaitUntilBlocked(parent));
      CHILD_CHECK(write(p.write_end.get(), "x", 1) == 1);
      CHILD_CHECK(kill(parent, SIGUSR1) == 0);
    });
    char byte;
    ASSERT_EQ(read(p.read_end.get(), &byte, 1), 1) << strerror(errno) << " at " << i;
    int status = -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    EXPECT_EXITED(status, 0);
  }
}

}  // namespace conformance

// The entry for patched call sites, one instruction at a time: a process runs the stub's text under a tracer, and at
// every instruction the sentry has to know what the guest's registers are.
#include "platform/systrap/entry.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <climits>
#include <cstring>
#include <functional>
#include <string>

#include "platform/systrap/signal_frame.h"

namespace platform::systrap {
namespace {

constexpr uint32_t kNumber = 3;  // of the slot
constexpr uint64_t kArithmetic = 0x8d5;
constexpr uint64_t kTrapFlag = 0x100;

struct Arguments {
  uint64_t rdi = 0x4233445566778899, rsi = 0x3233445566778899, rdx = 0x2233445566778899, r10 = 0x8233445566778899,
           r9 = 0x7233445566778899;
};

// Sets all registers, makes the call `number` by the entry, and stops behind it. Never returns.
extern "C" [[noreturn]] void entry_test_guest(uint64_t number, uint64_t flags, uint64_t entry, const Arguments* args);
extern "C" const char entry_test_after[];
asm(R"(
  .text
  .type entry_test_guest, @function
entry_test_guest:
  mov %rdi, %rax
  mov %rdx, %r11
  push %rsi
  mov $0x11, %ebx
  mov (%rcx), %rdi
  mov 8(%rcx), %rsi
  mov 16(%rcx), %rdx
  mov 24(%rcx), %r10
  mov 32(%rcx), %r9
  movabs $0x5233445566778899, %rbp
  movabs $0x6233445566778899, %r8
  movabs $0x9233445566778899, %r12
  movabs $0xa233445566778899, %r13
  movabs $0xb233445566778899, %r14
  movabs $0xc233445566778899, %r15
  popfq
  lea entry_test_after(%rip), %rcx
  jmp *%r11
  syscall
entry_test_after:
  hlt
)");

class EntryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!HostHasEntry()) GTEST_SKIP() << "the host does not support the entry";
    text_ = Map(kStubText, kStubPage);
    slots_ = Map(kSlotWindow, kBlockBytes);
    states_ = Map(kStateWindow, kStateBlockBytes);
    clock_ = Map(kStubClock, kStubPage);
    if (!text_ || !slots_ || !states_ || !clock_)
      GTEST_SKIP() << "this process has its stack where stubs have their pages";
    memcpy(text_, runsc_systrap_text_begin, kStubPage);
    ASSERT_EQ(mprotect(text_, kStubPage, PROT_READ | PROT_EXEC), 0);
    const uint64_t address = kSlotWindow + kNumber * kSlotBytes;
    const FrameLayout layout(address);
    state().xstate = address + layout.call_fpstate;
    state().features = XStateFeatures();
    state().descriptor = {.limit = kNumber};
    state().polled = 1;  // nobody rings
    Answers& answers = state().answers;
    answers.tid = 101, answers.pid = 102, answers.ppid = 103;
    answers.uid = 104, answers.euid = 105, answers.gid = 106, answers.egid = 0xfffffffe;
    answers.valid = 1;
    LongAnswers& more = state().long_answers;
    more.pgid = 107, more.sid = 108;
    more.affinity = 0xb00b, more.affinity_bytes = 8;
    for (uint64_t i = 0; i < std::size(more.limits); ++i) more.limits[i] = {1000 + i, ~uint64_t{0} - i};
    for (size_t i = 0; i < sizeof(more.uname); ++i) more.uname[i] = static_cast<char>('a' + i % 23);
    runsc_vdso_page& page = clock();
    page.cpus = 1024;
    page.tsc_base = 0;
    page.tsc_limit = ~uint64_t{0};
    page.mult = 0;  // time stands still
    page.monotonic_ns = 5'000'000'003;
    page.realtime_offset_ns = 1'600'000'000'123'456'000;
    page.boottime_offset_ns = 7'000'000'000;
    page.tai_offset_ns = 37'000'000'000;
  }
  void TearDown() override {
    if (text_) munmap(text_, kStubPage);
    if (slots_) munmap(slots_, kBlockBytes);
    if (states_) munmap(states_, kStateBlockBytes);
    if (clock_) munmap(clock_, kStubPage);
  }
  static void* Map(uint64_t address, size_t bytes) {
    void* at = mmap(reinterpret_cast<void*>(address), bytes, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    return at == MAP_FAILED ? nullptr : at;
  }
  runsc_vdso_page& clock() { return *static_cast<runsc_vdso_page*>(clock_); }
  ThreadState& state() { return static_cast<ThreadState*>(states_)[kNumber]; }
  Slot& first() { return static_cast<Slot*>(slots_)[0]; }
  Slot& slot() { return static_cast<Slot*>(slots_)[kNumber]; }

  // A traced child that is about to make the call; stopped at the first instruction of the entry.
  void StartGuest(uint64_t number, uint64_t flags) {
    pid_ = fork();
    if (pid_ == 0) {
      auto* low = static_cast<SlotDescriptor*>(
          mmap(nullptr, kStubPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0));
      *low = state().descriptor;
      long result = 243;  // set_thread_area of i386
      asm volatile("int $0x80" : "+a"(result) : "b"(low) : "memory", "r8", "r9", "r10", "r11");
      if (result != 0) _exit(1);
      ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
      raise(SIGSTOP);
      entry_test_guest(number, flags, StubAddress(runsc_systrap_entry), &args_);
    }
    int status = 0;
    ASSERT_EQ(waitpid(pid_, &status, __WALL), pid_);
    ASSERT_TRUE(WIFSTOPPED(status));
    ptrace(PTRACE_SETOPTIONS, pid_, nullptr, PTRACE_O_EXITKILL);
    for (int i = 0; i < 10'000; ++i) {
      ASSERT_NO_FATAL_FAILURE(Step());
      before_ = Get();
      if (before_.rip == StubAddress(runsc_systrap_entry)) return;
    }
    FAIL() << "the guest does not come to the entry";
  }
  void Step() {
    ASSERT_EQ(ptrace(PTRACE_SINGLESTEP, pid_, nullptr, nullptr), 0);
    int status = 0;
    ASSERT_EQ(waitpid(pid_, &status, __WALL), pid_);
    ASSERT_TRUE(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP) << status;
  }
  Registers Get() {
    user_regs_struct regs = {};
    ptrace(PTRACE_GETREGS, pid_, nullptr, &regs);
    Registers r;
    static_assert(sizeof(r) == sizeof(regs));
    memcpy(&r, &regs, sizeof(r));
    r.rflags &= ~kTrapFlag;
    return r;
  }
  void EndGuest() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, __WALL);
  }
  // All but rax, orig_rax, r11 and rip, about which the caller says what they have to be.
  void ExpectSame(const Registers& r, const std::string& where) {
    constexpr uint64_t Registers::*kFields[] = {&Registers::rbx, &Registers::rcx, &Registers::rdx,   &Registers::rsi,
                                                &Registers::rdi, &Registers::rbp, &Registers::rsp,   &Registers::r8,
                                                &Registers::r9,  &Registers::r10, &Registers::r12,   &Registers::r13,
                                                &Registers::r14, &Registers::r15, &Registers::rflags};
    for (size_t i = 0; i < std::size(kFields); ++i) {
      EXPECT_EQ(r.*kFields[i], before_.*kFields[i]) << "register " << i << " of kFields " << where;
    }
  }

  // The call from its first instruction to the one behind it or, if it is served, to its commitment; its instructions.
  int RunCall(uint64_t number, uint64_t flags, bool answered, uint64_t answer) {
    StartGuest(number, flags);
    if (HasFatalFailure()) return 0;
    int steps = 0;
    for (Registers r = before_; steps < 600; ++steps, Step(), r = Get()) {
      const std::string where = "at entry+" + std::to_string(r.rip - StubAddress(runsc_systrap_entry)) + ", call " +
                                std::to_string(number) + ", flags " + std::to_string(flags);
      if (r.rip == before_.rcx || r.rip == StubAddress(runsc_systrap_entry_committed)) break;
      switch (PlaceInStub(r.rip)) {
        case StubPlace::kBefore:
          RollBack(slot().call, r);
          ExpectSame(r, where);
          EXPECT_EQ(r.rax, number) << where;
          EXPECT_EQ(r.rip, before_.rcx - 2) << where;
          break;
        case StubPlace::kAnswered:
          FinishAnswer(slot().call, r);
          ExpectSame(r, where);
          EXPECT_EQ(r.rax, answer) << where;
          EXPECT_EQ(r.rip, before_.rcx) << where;
          EXPECT_TRUE(answered || late_) << where;
          break;
        case StubPlace::kAsked:
          EXPECT_EQ(FinishHostCall(slot().call, r), answered) << where;
          ExpectSame(r, where);
          EXPECT_EQ(answered ? r.rax : r.orig_rax, answered ? answer : number) << where;
          EXPECT_EQ(r.rip, before_.rcx) << where;
          break;
        case StubPlace::kBehind:
        case StubPlace::kElsewhere:
          ADD_FAILURE() << where;
          break;
      }
      EXPECT_EQ(first().waiters[FutexHash(args_.rdi)].load(), waiters_ + (CountsAsWaiter(Get().rip) ? 1 : 0)) << where;
      // A call that has not been made has not changed the mask.
      if (PlaceInStub(Get().rip) == StubPlace::kBefore) {
        EXPECT_EQ(slot().mask.load(), mask_) << where;
      }
      if (Get().rip == at_) {
        if (on_step_) on_step_();
        ++hits_;
      }
      if (HasFailure()) break;
    }
    Registers r = Get();
    if (answered) {
      EXPECT_EQ(r.rip, before_.rcx);
      EXPECT_EQ(r.rax, answer);
      ExpectSame(r, "behind the call");
    } else {
      EXPECT_EQ(r.rip, StubAddress(runsc_systrap_entry_committed)) << number;
      EXPECT_EQ(slot().signal, SLOT_SIGNAL_CALL);
      EXPECT_EQ(slot().state.load(), static_cast<uint32_t>(SLOT_IS_EVENT));
      FromCall(slot().call, r);
      r.rflags &= ~kTrapFlag;
      ExpectSame(r, "after the call");
      EXPECT_EQ(r.orig_rax, number);
      EXPECT_EQ(r.rip, before_.rcx);
      EXPECT_EQ(slot().fs_base, before_.fs_base);
      // And back, with a result.
      slot().call.rax = 0x123456789abcdef0;
      slot().call.rflags = before_.rflags;
      slot().state = SLOT_IS_RETURNED;
      for (int i = 0; i < 100 && r.rip != StubAddress(runsc_systrap_entry_end); ++i) {
        if (HasFailure()) break;
        Step();
        const Registers now = Get();
        if (now.rip == before_.rcx) break;
        EXPECT_EQ(PlaceInStub(now.rip), StubPlace::kBehind);
      }
      r = Get();
      EXPECT_EQ(r.rip, before_.rcx);
      EXPECT_EQ(r.rax, 0x123456789abcdef0u);
      EXPECT_EQ(r.r11, before_.rflags);
      ExpectSame(r, "back from the call");
    }
    EndGuest();
    return steps;
  }

  void* text_ = nullptr;
  void* slots_ = nullptr;
  void* states_ = nullptr;
  void* clock_ = nullptr;
  pid_t pid_ = -1;
  uint64_t mask_ = 0;  // before the call
  // Where the call is to be seen passing by, how often it did, and what to do then.
  uint64_t at_ = 0;
  int hits_ = 0;
  std::function<void()> on_step_;
  uint32_t waiters_ = 0;  // besides this thread
  bool late_ = false;     // it counts as answered for a while, and is not
  Registers before_{};
  Arguments args_;
};

constexpr uint64_t kFlags[] = {0x202, 0x202 | kArithmetic, 0x202 | 0x801, 0x202 | 0x400 | 0x44};

TEST_F(EntryTest, EveryInstructionOfAServedCallCanBeInterrupted) {
  for (uint64_t flags : kFlags) {
    for (uint64_t number : {uint64_t{SYS_umask}, uint64_t{0}, ~uint64_t{0}, uint64_t{1} << 40}) {
      EXPECT_GT(RunCall(number, flags, false, 0), 20);
      if (HasFailure()) return;
    }
  }
}

TEST_F(EntryTest, EveryInstructionOfAnAnsweredCallCanBeInterrupted) {
  const std::pair<uint64_t, uint64_t> calls[] = {{SYS_gettid, 101},         {SYS_getpid, 102},    {SYS_getppid, 103},
                                                 {SYS_getuid, 104},         {SYS_geteuid, 105},   {SYS_getgid, 106},
                                                 {SYS_getegid, 0xfffffffe}, {SYS_sched_yield, 0}, {SYS_getpgrp, 107},
                                                 {SYS_getpgid, 107},        {SYS_getsid, 108}};
  args_.rdi = uint64_t{1} << 40;  // of which the kernel takes an int
  for (uint64_t flags : kFlags) {
    for (auto [number, answer] : calls) {
      EXPECT_GT(RunCall(number, flags, true, answer), 10);
      if (HasFailure()) return;
    }
  }
}

// Behind a call signals may come. The host takes one that finds rsp in the alternate stack for one that came during
// another, and puts its frame below, where there is no room.
TEST_F(EntryTest, NoWayBackFromACallIsOnTheAlternateStack) {
  const uint64_t address = kSlotWindow + kNumber * kSlotBytes;
  const FrameLayout layout(address);
  state().frame = address + layout.frame;
  state().call_frame = address + layout.call_frame;
  ASSERT_NO_FATAL_FAILURE(StartGuest(SYS_umask, 0x202));
  int steps = 0;
  for (; steps < 600 && Get().rip != StubAddress(runsc_systrap_entry_committed); ++steps) Step();
  slot().state = SLOT_IS_RELOADED;
  for (; steps < 600 && Get().rip != StubAddress(runsc_systrap_sigreturn); ++steps) {
    const uint64_t rsp = Get().rsp;
    EXPECT_FALSE(rsp >= address + layout.stack && rsp <= address + kSlotBytes) << Get().rip;
    Step();
  }
  EXPECT_EQ(Get().rip, StubAddress(runsc_systrap_sigreturn));
  EXPECT_EQ(Get().rsp, state().call_frame + 8);
  EndGuest();
}

class FutexTest : public EntryTest {
 protected:
  void SetUp() override {
    EntryTest::SetUp();
    if (IsSkipped()) return;
    // The traced process shares it with this one.
    word_ = static_cast<uint32_t*>(mmap(nullptr, kStubPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    args_.rdi = reinterpret_cast<uint64_t>(word_);
    args_.rdx = uint64_t{1} << 40 | 7;  // of which the kernel takes 32 bits
    args_.r10 = 0;
    args_.r9 = FUTEX_BITSET_MATCH_ANY;
  }
  void TearDown() override {
    if (word_) munmap(word_, kStubPage);
    EntryTest::TearDown();
  }
  FutexMeter& meter() { return slot().meter; }
  // A wait for the word to be other than 7, which becomes so when the thread comes to `label`.
  void WaitUntilItComesTo(const char* label, uint64_t flags, uint64_t operation) {
    *word_ = 7;
    at_ = StubAddress(label);
    hits_ = 0;
    on_step_ = [this] { *word_ = 8; };
    args_.rsi = operation | uint64_t{1} << 40;
    EXPECT_GT(RunCall(SYS_futex, flags, true, static_cast<uint64_t>(-EAGAIN)), 30);
    EXPECT_EQ(hits_, 1);
  }

  uint32_t* word_ = nullptr;
};

constexpr uint64_t kWaits[] = {FUTEX_WAIT_PRIVATE, FUTEX_WAIT_BITSET_PRIVATE};

TEST_F(FutexTest, EveryInstructionOfAWaitOnTheHostCanBeInterrupted) {
  for (uint64_t flags : kFlags) {
    for (uint64_t operation : kWaits) {
      // Not timed, and timed.
      for (uint32_t look : {0, 1'000'000'000}) {
        state().look = look;
        meter() = {};
        WaitUntilItComesTo(runsc_systrap_entry_wait_counted, flags, operation);
        EXPECT_EQ(meter().shorts, look == 0 ? 0u : 1u);
        EXPECT_EQ(meter().pause, 0u);
        if (HasFailure()) return;
      }
    }
  }
  // A long one.
  state().look = 1;
  meter() = {};
  WaitUntilItComesTo(runsc_systrap_entry_wait_counted, kFlags[0], FUTEX_WAIT_PRIVATE);
  EXPECT_EQ(meter().shorts, 0u);
  // The host says what it thinks of such an address.
  args_.rdi += 2;
  args_.rsi = FUTEX_WAIT_PRIVATE;
  EXPECT_GT(RunCall(SYS_futex, kFlags[1], true, static_cast<uint64_t>(-EINVAL)), 30);
}

TEST_F(FutexTest, AWordThatHasChangedAlreadyNeedsNoCall) {
  *word_ = 8;
  at_ = StubAddress(runsc_systrap_futex_wait);
  for (uint64_t flags : kFlags) {
    for (uint64_t operation : kWaits) {
      args_.rsi = operation;
      EXPECT_GT(RunCall(SYS_futex, flags, true, static_cast<uint64_t>(-EAGAIN)), 20);
      if (HasFailure()) return;
    }
  }
  EXPECT_EQ(hits_, 0);
}

TEST_F(FutexTest, EveryInstructionOfALookThatSeesAChangeCanBeInterrupted) {
  state().look = 1'000'000'000;
  for (uint64_t flags : kFlags) {
    for (FutexMeter before : {FutexMeter{1}, FutexMeter{.shorts = 20, .pause = 15, .score = FUTEX_METER_GOOD - 1},
                              FutexMeter{.shorts = 1, .score = FUTEX_METER_MOST}}) {
      meter() = before;
      WaitUntilItComesTo(runsc_systrap_entry_look, flags, FUTEX_WAIT_PRIVATE);
      before.Hit(1, state().look);
      EXPECT_EQ(meter().shorts, before.shorts);
      EXPECT_EQ(meter().pause, before.pause);
      EXPECT_EQ(meter().score, before.score);
      if (HasFailure()) return;
    }
  }
  // It did not run for a while.
  state().look = 1;
  FutexMeter before{.shorts = 20, .pause = 15, .score = 3};
  meter() = before;
  WaitUntilItComesTo(runsc_systrap_entry_look, kFlags[0], FUTEX_WAIT_PRIVATE);
  before.Hit(1 << FUTEX_METER_GAP_SHIFT, 1);
  EXPECT_EQ(meter().pause, before.pause);
  EXPECT_EQ(meter().score, 0);
}

// How long a look takes under a tracer nobody knows: a window, or far longer.
TEST_F(FutexTest, EveryInstructionOfALookInVainCanBeInterrupted) {
  state().look = 50'000;
  for (uint64_t flags : kFlags) {
    for (FutexMeter before :
         {FutexMeter{1}, FutexMeter{.shorts = 20, .pause = 15}, FutexMeter{.shorts = 5000, .pause = 4000},
          FutexMeter{.shorts = ~0u, .pause = ~0u - 1}, FutexMeter{.shorts = 1, .score = FUTEX_METER_MOST},
          FutexMeter{.shorts = 1, .score = INT_MIN}}) {
      meter() = before;
      WaitUntilItComesTo(runsc_systrap_entry_wait_counted, flags, FUTEX_WAIT_PRIVATE);
      FutexMeter miss = before, crowded = before;
      // Memory that the guest can write: the arithmetic of the processor.
      if (before.score != INT_MIN) miss.Miss(state().look, state().look);
      crowded.Miss(uint64_t{state().look} << FUTEX_METER_GAP_SHIFT, state().look);
      if (meter().pause == crowded.pause) {
        EXPECT_EQ(meter().shorts, crowded.shorts);
      } else if (before.score != INT_MIN) {
        EXPECT_EQ(meter().pause, miss.pause);
        EXPECT_EQ(meter().shorts, miss.shorts);
        EXPECT_EQ(meter().score, miss.score);
      }
      if (HasFailure()) return;
    }
  }
}

TEST_F(FutexTest, EveryInstructionOfAWakeCanBeInterrupted) {
  at_ = StubAddress(runsc_systrap_futex_wake);
  args_.rsi = FUTEX_WAKE_PRIVATE;
  args_.rdx = 1;
  for (uint64_t flags : kFlags) {
    EXPECT_GT(RunCall(SYS_futex, flags, true, 0), 30);
    // Nobody waits.
    EXPECT_EQ(hits_, 0);
    if (HasFailure()) return;
  }
  for (uint64_t flags : kFlags) {
    hits_ = 0;
    waiters_ = 1;
    first().waiters[FutexHash(args_.rdi)] = waiters_;
    EXPECT_GT(RunCall(SYS_futex, flags, true, 0), 30);
    EXPECT_EQ(hits_, 1);
    if (HasFailure()) return;
  }
  first().waiters[FutexHash(args_.rdi)] = waiters_ = 0;
  // The host says what it thinks of such an address.
  hits_ = 0;
  args_.rdi += 2;
  EXPECT_GT(RunCall(SYS_futex, kFlags[1], true, static_cast<uint64_t>(-EINVAL)), 30);
  EXPECT_EQ(hits_, 1);
}

TEST_F(EntryTest, OtherFutexCallsAreTheSentrys) {
  alignas(4) static uint32_t word = 7;
  args_.rdi = reinterpret_cast<uint64_t>(&word);
  args_.rdx = 8;
  auto served = [&](uint64_t operation, uint64_t timeout, uint64_t bitset) {
    args_.rsi = operation;
    args_.r10 = timeout;
    args_.r9 = bitset;
    RunCall(SYS_futex, 0x202, false, 0);
  };
  served(FUTEX_WAIT_PRIVATE, 0x1000, 0);
  served(FUTEX_WAIT, 0, 0);
  served(FUTEX_WAKE, 0, 0);
  served(FUTEX_WAIT_BITSET_PRIVATE, 0, 1);
  served(FUTEX_LOCK_PI_PRIVATE, 0, 0);
  served(FUTEX_CMP_REQUEUE_PRIVATE, 0, 0);
  // It has waiters with the same hash.
  static_cast<ThreadState*>(states_)[0].futexes = uint64_t{1} << FutexHash(args_.rdi);
  served(FUTEX_WAKE_PRIVATE, 0, 0);
  // What the host finds faulty.
  static_cast<ThreadState*>(states_)[0].futexes = 0;
  args_.rdi = uint64_t{1} << 47;
  served(FUTEX_WAIT_PRIVATE, 0, 0);
}

// What the calls below write, which the traced process shares with this one.
class WritingTest : public EntryTest {
 protected:
  void SetUp() override {
    EntryTest::SetUp();
    if (IsSkipped()) return;
    out_ =
        static_cast<uint64_t*>(mmap(nullptr, 2 * kStubPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    // A result that is longer than it has to be faults.
    ASSERT_EQ(mprotect(out_ + kStubPage / 8, kStubPage, PROT_NONE), 0);
  }
  void TearDown() override {
    if (out_) munmap(out_, 2 * kStubPage);
    EntryTest::TearDown();
  }
  // The last `bytes` of the page, with a pattern in front of and in them.
  uint64_t Buffer(size_t bytes) {
    memset(out_, 0x5a, kStubPage);
    return reinterpret_cast<uint64_t>(out_) + kStubPage - bytes;
  }
  std::string Written(size_t bytes) {
    const char* end = reinterpret_cast<const char*>(out_) + kStubPage;
    EXPECT_EQ(end[-1 - static_cast<ptrdiff_t>(bytes)], 0x5a);
    return {end - bytes, end};
  }
  template <typename... T>
  std::string Bytes(T... values) {
    std::string all;
    (all.append(reinterpret_cast<const char*>(&values), sizeof(values)), ...);
    return all;
  }
  // The call writes what `expected` is to the place that `argument` has, with all flags.
  void Expect(uint64_t number, const std::string& expected, uint64_t Arguments::*argument, uint64_t result = 0) {
    for (uint64_t flags : kFlags) {
      args_.*argument = Buffer(expected.size());
      EXPECT_GT(RunCall(number, flags, true, result), 20);
      EXPECT_EQ(Written(expected.size()), expected) << "call " << number;
      if (HasFailure()) return;
    }
  }
  // It is the sentry's, and nothing was written.
  void ExpectServed(uint64_t number) {
    memset(out_, 0x5a, kStubPage);
    RunCall(number, kFlags[1], false, 0);
    EXPECT_EQ(Written(1024), std::string(1024, 0x5a));
  }

  uint64_t* out_ = nullptr;
};

TEST_F(WritingTest, EveryInstructionOfACallThatWritesItsResultCanBeInterrupted) {
  const LongAnswers& more = state().long_answers;
  Expect(SYS_uname, std::string(more.uname, sizeof(more.uname)), &Arguments::rdi);
  for (uint64_t resource : {0, 7, 15}) {
    args_.rdi = resource | uint64_t{1} << 40;  // of which the kernel takes an int
    Expect(SYS_getrlimit, Bytes(more.limits[resource]), &Arguments::rsi);
    args_.rdi = 0, args_.rsi = resource, args_.rdx = 0;
    Expect(SYS_prlimit64, Bytes(more.limits[resource]), &Arguments::r10);
  }
  for (uint64_t thread : {0, 101}) {
    args_.rdi = thread, args_.rsi = 128;
    Expect(SYS_sched_getaffinity, Bytes(more.affinity), &Arguments::rdx, 8);
  }
}

TEST_F(WritingTest, EveryInstructionOfACallForTheTimeCanBeInterrupted) {
  const int64_t real = clock().monotonic_ns + clock().realtime_offset_ns;
  auto timespec = [this](int64_t ns) { return Bytes(ns / 1'000'000'000, ns % 1'000'000'000); };
  const std::pair<uint64_t, int64_t> clocks[] = {{CLOCK_REALTIME, real},
                                                 {CLOCK_REALTIME_COARSE, real},
                                                 {CLOCK_MONOTONIC, clock().monotonic_ns},
                                                 {CLOCK_MONOTONIC_COARSE, clock().monotonic_ns},
                                                 {CLOCK_BOOTTIME, clock().monotonic_ns + clock().boottime_offset_ns},
                                                 {CLOCK_TAI, clock().monotonic_ns + clock().tai_offset_ns}};
  for (auto [id, ns] : clocks) {
    args_.rdi = id | uint64_t{1} << 40;
    Expect(SYS_clock_gettime, timespec(ns), &Arguments::rsi);
  }
  args_.rsi = 0;
  Expect(SYS_gettimeofday, Bytes(real / 1'000'000'000, real % 1'000'000'000 / 1000), &Arguments::rdi);
  args_.rdi = 0;
  Expect(SYS_gettimeofday, Bytes(uint64_t{0}), &Arguments::rsi);
  args_.rsi = 0x3233445566778899;
  Expect(SYS_time, Bytes(real / 1'000'000'000), &Arguments::rdi, real / 1'000'000'000);
  args_.rdi = args_.rsi = 0;
  for (uint64_t flags : kFlags) {
    RunCall(SYS_time, flags, true, real / 1'000'000'000);
    RunCall(SYS_gettimeofday, flags, true, 0);
  }
  // The other clocks, while the page is being written, when it is too old, and if time is negative.
  args_.rsi = Buffer(16);
  for (uint64_t id : {2, 3, 4, 8, 9, 10, 12, 16, INT_MAX, INT_MIN, -1}) {
    args_.rdi = id;
    ExpectServed(SYS_clock_gettime);
  }
  args_.rdi = CLOCK_REALTIME;
  auto served = [this] {
    args_.rdi = CLOCK_REALTIME, args_.rsi = Buffer(16);
    ExpectServed(SYS_clock_gettime);
    args_.rdi = Buffer(16), args_.rsi = 0;
    ExpectServed(SYS_gettimeofday);
    ExpectServed(SYS_time);
  };
  clock().sequence = 1;
  served();
  clock().sequence = 0;
  clock().tsc_limit = 0;
  served();
  clock().tsc_limit = ~uint64_t{0};
  clock().realtime_offset_ns = -clock().monotonic_ns - 1;
  served();
}

TEST_F(WritingTest, TimeGoesOnAsTheParametersSay) {
  // A CPU whose counter is a little behind: the base's time.
  clock().tsc_base = ~uint64_t{0} - 1;
  clock().mult = uint64_t{1} << 32;
  args_.rdi = CLOCK_MONOTONIC;
  Expect(SYS_clock_gettime, Bytes(int64_t{5}, int64_t{3}), &Arguments::rsi);
  // 2^16 ns a cycle.
  const uint64_t before = __builtin_ia32_rdtsc();
  clock().tsc_base = before - (uint64_t{1} << 40);
  clock().mult = uint64_t{1} << 48;
  args_.rsi = Buffer(16);
  RunCall(SYS_clock_gettime, 0x202, true, 0);
  const uint64_t after = __builtin_ia32_rdtsc();
  int64_t got[2];
  memcpy(got, Written(16).data(), 16);
  const int64_t ns = got[0] * 1'000'000'000 + got[1] - clock().monotonic_ns;
  EXPECT_GE(ns, int64_t{1} << 56);
  EXPECT_LE(ns, (int64_t{1} << 56) + static_cast<int64_t>((after - before) << 16));
}

TEST_F(WritingTest, EveryInstructionOfGetcpuCanBeInterrupted) {
  state().long_answers.affinity = ~uint64_t{0};
  clock().cpus = 1;  // as many as the guest sees
  args_.rsi = 0;
  Expect(SYS_getcpu, Bytes(uint32_t{0}), &Arguments::rdi);
  args_.rdi = 0;
  Expect(SYS_getcpu, Bytes(uint32_t{0}), &Arguments::rsi);
  args_.rdi = args_.rsi = 0;
  for (uint64_t flags : kFlags) RunCall(SYS_getcpu, flags, true, 0);
  // Not on a CPU that it may use; how many there are is not known.
  state().long_answers.affinity = ~uint64_t{1};
  args_.rdi = Buffer(4);
  ExpectServed(SYS_getcpu);
  clock().cpus = 0;
  ExpectServed(SYS_getcpu);
}

TEST_F(WritingTest, WhatIsNotForTheStubIsTheSentrys) {
  const uint64_t buffer = Buffer(400);
  args_.rsi = buffer;
  for (uint64_t resource : {uint64_t{16}, uint64_t{0xffffffff}}) {
    args_.rdi = resource;
    ExpectServed(SYS_getrlimit);
  }
  args_.rdi = 0, args_.rsi = 16, args_.rdx = 0, args_.r10 = buffer;
  ExpectServed(SYS_prlimit64);
  args_.rsi = 1, args_.rdx = buffer;  // sets one
  ExpectServed(SYS_prlimit64);
  args_.rdi = 102, args_.rdx = 0;
  ExpectServed(SYS_prlimit64);
  args_.rdi = 0, args_.rdx = buffer;
  for (uint64_t size : {0, 4, 12, 8192, -8}) {
    args_.rsi = size;
    ExpectServed(SYS_sched_getaffinity);
  }
  args_.rsi = 8, args_.rdi = 102;
  ExpectServed(SYS_sched_getaffinity);
  for (uint64_t pid : {1, 107, -1}) {
    args_.rdi = pid;
    ExpectServed(SYS_getpgid);
    ExpectServed(SYS_getsid);
  }
  // Pointers to where the stub's own pages are, or that end there.
  for (uint64_t pointer : {kSlotWindow - 4096, kSlotWindow - 1, kSlotWindow, kStateWindow, kStubText, kStubClock,
                           uint64_t{1} << 47, ~uint64_t{0}}) {
    args_ = {pointer, pointer, 0, pointer, 0};
    for (uint64_t number : {SYS_uname, SYS_gettimeofday, SYS_time, SYS_getcpu}) ExpectServed(number);
    args_.rdi = 0;
    for (uint64_t number : {SYS_clock_gettime, SYS_getrlimit}) ExpectServed(number);
    args_.rsi = 1;
    ExpectServed(SYS_prlimit64);
    args_.rsi = 8, args_.rdx = pointer;
    ExpectServed(SYS_sched_getaffinity);
  }
}

struct MaskCall {
  int how;
  uint64_t before, set, after;
};
constexpr uint64_t kKillAndStop = uint64_t{1} << 8 | uint64_t{1} << 18;
constexpr MaskCall kMaskCalls[] = {
    {SIG_BLOCK, 0x0f, 0xf0f0, 0xf0ff},
    {SIG_BLOCK, 0x0f, 0, 0x0f},
    {SIG_UNBLOCK, uint64_t{1} << 63 | 0x0f, 0xf3, uint64_t{1} << 63 | 0x0c},
    {SIG_SETMASK, 0x0f, 0xff00 & ~kKillAndStop, 0xff00 & ~kKillAndStop},
    {SIG_SETMASK, 0x0f, 0x0f, 0x0f},
    {SIG_SETMASK, 0, ~uint64_t{0}, ~kKillAndStop},
    {SIG_BLOCK, 0, kKillAndStop, 0},
};

TEST_F(WritingTest, EveryInstructionOfAChangeOfTheMaskCanBeInterrupted) {
  state().long_answers.mask_changes = 1;
  args_.r10 = 8;
  // With the old mask in the place of the new one, somewhere else, and nowhere.
  for (const MaskCall& call : kMaskCalls) {
    for (uint64_t flags : kFlags) {
      for (int old : {0, 1, 2}) {
        const uint64_t buffer = Buffer(16);
        out_[511] = call.set;
        args_.rdi = static_cast<uint64_t>(call.how) | uint64_t{1} << 40;  // of which the kernel takes an int
        args_.rsi = buffer + 8;
        args_.rdx = old == 0 ? 0 : old == 1 ? buffer : buffer + 8;
        slot().mask = mask_ = call.before;
        EXPECT_GT(RunCall(SYS_rt_sigprocmask, flags, true, 0), 20);
        EXPECT_EQ(slot().mask.load(), call.after);
        EXPECT_EQ(Written(16), old == 0   ? Bytes(uint64_t{0x5a5a5a5a5a5a5a5a}, call.set)
                               : old == 1 ? Bytes(call.before, call.set)
                                          : Bytes(uint64_t{0x5a5a5a5a5a5a5a5a}, call.before));
        if (HasFailure()) return;
      }
    }
  }
  // One that only asks; how does not matter then.
  slot().mask = mask_ = 0x1234;
  args_.rsi = 0;
  args_.rdi = 77;
  Expect(SYS_rt_sigprocmask, Bytes(uint64_t{0x1234}), &Arguments::rdx);
  args_.rdx = 0;
  RunCall(SYS_rt_sigprocmask, kFlags[1], true, 0);
}

// The sentry has said in the middle of it that masks are not to be changed any more.
TEST_F(WritingTest, AChangeOfTheMaskThatComesTooLateIsTakenBack) {
  at_ = StubAddress(runsc_systrap_entry_masked);
  on_step_ = [this] {
    EXPECT_EQ(slot().mask.load(), 0xffu);
    state().long_answers.mask_changes = 0;
  };
  for (uint64_t flags : kFlags) {
    state().long_answers.mask_changes = 1;
    hits_ = 0;
    const uint64_t buffer = Buffer(16);
    out_[511] = 0xf0;
    args_ = {SIG_BLOCK, buffer + 8, buffer, 8, 0};
    slot().mask = mask_ = 0x0f;
    // Until it is taken back the call counts as made.
    late_ = true;
    RunCall(SYS_rt_sigprocmask, flags, false, 0);
    EXPECT_EQ(hits_, 1);
    EXPECT_EQ(slot().mask.load(), 0x0fu);
    if (HasFailure()) return;
  }
}

TEST_F(WritingTest, OtherChangesOfTheMaskAreTheSentrys) {
  slot().mask = mask_ = 0x0f;
  auto served = [this](uint64_t how, uint64_t set, uint64_t old, uint64_t size) {
    memset(out_, 0x5a, kStubPage);
    args_ = {how, set, old, size, 0};
    RunCall(SYS_rt_sigprocmask, kFlags[1], false, 0);
    EXPECT_EQ(slot().mask.load(), 0x0fu);
    EXPECT_EQ(Written(64), std::string(64, 0x5a));
  };
  const uint64_t buffer = Buffer(16);
  served(SIG_BLOCK, buffer, buffer + 8, 8);
  served(SIG_BLOCK, 0, buffer + 8, 8);
  state().long_answers.mask_changes = 1;
  served(3, buffer, buffer + 8, 8);
  served(~uint64_t{0}, buffer, buffer + 8, 8);
  served(SIG_BLOCK, buffer, buffer + 8, 4);
  served(SIG_BLOCK, buffer, buffer + 8, 16);
  served(SIG_BLOCK, buffer, buffer + 8, uint64_t{1} << 32 | 8);
  served(SIG_BLOCK, kSlotWindow, buffer + 8, 8);
  served(SIG_BLOCK, buffer, kSlotWindow + SLOT_MASK, 8);
  served(SIG_BLOCK, 0, kStateWindow, 8);
}

// Stopped by a signal for a store that nobody may make.
TEST_F(WritingTest, AFaultGoesBackToBeforeTheCall) {
  const uint64_t bad[] = {0, 8, reinterpret_cast<uint64_t>(out_) + kStubPage,
                          reinterpret_cast<uint64_t>(out_) + kStubPage - 4};
  auto faults = [&](uint64_t number) {
    ASSERT_NO_FATAL_FAILURE(StartGuest(number, kFlags[1]));
    int status = 0, steps = 0;
    do {
      ASSERT_LT(++steps, 600);
      ASSERT_EQ(ptrace(PTRACE_SINGLESTEP, pid_, nullptr, nullptr), 0);
      ASSERT_EQ(waitpid(pid_, &status, __WALL), pid_);
      ASSERT_TRUE(WIFSTOPPED(status)) << number << " " << status;
    } while (WSTOPSIG(status) == SIGTRAP);
    ASSERT_EQ(WSTOPSIG(status), SIGSEGV) << number;
    Registers r = Get();
    EXPECT_EQ(PlaceInStub(r.rip), StubPlace::kBefore);
    RollBack(slot().call, r);
    ExpectSame(r, "at the fault of call " + std::to_string(number));
    EXPECT_EQ(r.rax, number);
    EXPECT_EQ(r.rip, before_.rcx - 2);
    EndGuest();
  };
  for (uint64_t pointer : bad) {
    args_ = {pointer, pointer, 0, pointer, 0};
    if (pointer != 0) {
      for (uint64_t number : {SYS_gettimeofday, SYS_time}) faults(number);
    }
    faults(SYS_uname);
    if (pointer != bad[3]) {  // the word of a futex can be there
      args_.rsi = FUTEX_WAIT_PRIVATE, args_.r10 = 0;
      faults(SYS_futex);
      args_.rsi = args_.r10 = pointer;
    }
    args_.rdi = 0;
    for (uint64_t number : {SYS_clock_gettime, SYS_getrlimit}) faults(number);
    args_.rsi = 1;
    faults(SYS_prlimit64);
    args_.rsi = 8, args_.rdx = pointer;
    faults(SYS_sched_getaffinity);
    state().long_answers.mask_changes = 1;
    slot().mask = 0x0f;
    const uint64_t good = Buffer(16);
    if (pointer != 0) {
      args_ = {SIG_SETMASK, pointer, good, 8, 0};
      faults(SYS_rt_sigprocmask);
      args_ = {SIG_SETMASK, good, pointer, 8, 0};
      faults(SYS_rt_sigprocmask);
      args_.rsi = 0;
      faults(SYS_rt_sigprocmask);
      EXPECT_EQ(slot().mask.load(), 0x0fu);
    }
    if (HasFailure()) return;
  }
}

TEST_F(EntryTest, NothingIsAnsweredUnlessTheSentrySaysSo) {
  state().answers.valid = 0;
  args_.rdi = 0;
  for (uint64_t number : {SYS_getpid, SYS_sched_yield, SYS_time, SYS_getpgrp, SYS_getsid, SYS_getcpu}) {
    RunCall(number, 0x202, false, 0);
  }
}

}  // namespace
}  // namespace platform::systrap

// Calls that need no exit where a platform answers them: those that only ask, and private futexes.
#include <linux/futex.h>
#include <signal.h>
#include <sys/syscall.h>

#include <atomic>
#include <random>
#include <thread>

#include "base/time.h"
#include "platform/tests/guest.h"
#include "platform/vdso_page.h"

namespace platform {
namespace {

class EntryTest : public PlatformTest {
 protected:
  static constexpr uint64_t kWord = kDataAddress + 64, kOther = kDataAddress + 128;

  // A thread that makes calls by the jump: what one returns is the number of the next.
  std::unique_ptr<Context> Thread() {
    auto context = ContextAt(kCodeAddress);
    context->registers().rbx = GetParam().entry;
    CallAnswers answers;
    answers.valid = true;
    context->SetAnswers(answers);
    return context;
  }
  static void SetCall(Context& context, uint64_t number, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0) {
    Registers& r = context.registers();
    r.rax = number, r.rdi = a, r.rsi = b, r.rdx = c, r.r10 = 0;
  }
  struct Waiter {
    std::unique_ptr<Context> context;
    std::atomic<bool> done{false};
    Exit exit;
    base::RefPtr<base::Fiber> fiber;
  };
  void StartWaiter(Waiter& w, AddressSpace& as) {
    w.context = Thread();
    SetCall(*w.context, SYS_futex, kWord, FUTEX_WAIT_PRIVATE, 0);
    w.fiber = base::Fiber::Spawn(*scheduler_, {}, [&] {
      w.exit = RunGuest(*w.context, as);
      w.done = true;
    });
  }
  // Until `wake` says that it has woken so many.
  void WakeUntil(int count, const std::function<int()>& wake) {
    for (int woken = 0; woken < count; (void)base::Fiber::ParkUntil(base::MonotonicNow() + 200'000)) woken += wake();
  }
};
INSTANTIATE_TEST_SUITE_P(All, EntryTest, ::testing::ValuesIn(Factories()),
                         [](const auto& info) { return info.param.name; });

#define REQUIRE_ENTRY() \
  if (GetParam().entry == 0) GTEST_SKIP() << "the platform has no entry for patched call sites"

TEST_P(EntryTest, AThreadWakesAnotherWithoutAnExit) {
  REQUIRE_ENTRY();
  StartScheduler(2);
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(jump_loop));
    auto waker = Thread();
    for (int i = 0; i < 50; ++i) {
      Waiter w;
      StartWaiter(w, *as);
      WakeUntil(1, [&] {
        SetCall(*waker, SYS_futex, kWord, FUTEX_WAKE_PRIVATE, 1);
        Exit exit = RunGuest(*waker, *as);
        EXPECT_EQ(exit.reason, ExitReason::kSystemCall);
        EXPECT_LE(waker->registers().orig_rax, 1u);  // what the wake returned
        return static_cast<int>(waker->registers().orig_rax);
      });
      w.fiber->Join();
      EXPECT_EQ(w.exit.reason, ExitReason::kSystemCall);
      EXPECT_EQ(w.context->registers().orig_rax, 0u);
      EXPECT_TRUE(w.exit.slept);
      EXPECT_EQ(w.context->registers().rsi, static_cast<uint64_t>(FUTEX_WAIT_PRIVATE));
    }
    waker.reset();
    as->Release();
  });
}

TEST_P(EntryTest, CallsWithoutArgumentsAreNoExits) {
  REQUIRE_ENTRY();
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(jump_loop));
    auto context = Thread();
    CallAnswers answers;
    answers.valid = true;
    answers.pid = 7001, answers.tid = 7002, answers.ppid = 7003, answers.uid = 7004, answers.euid = 7005;
    answers.gid = 7006, answers.egid = 7007, answers.pgid = 7008, answers.sid = 7009;
    context->SetAnswers(answers);
    const std::pair<uint64_t, uint64_t> calls[] = {{SYS_getpid, 7001},  {SYS_gettid, 7002},   {SYS_getppid, 7003},
                                                   {SYS_getuid, 7004},  {SYS_geteuid, 7005},  {SYS_getgid, 7006},
                                                   {SYS_getegid, 7007}, {SYS_sched_yield, 0}, {SYS_getpgrp, 7008},
                                                   {SYS_getpgid, 7008}, {SYS_getsid, 7009}};
    for (auto [number, answer] : calls) {
      SetCall(*context, number);
      // What it returns is the number of the next call.
      EXPECT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
      EXPECT_EQ(context->registers().orig_rax, answer) << number;
    }
    context->SetAnswers({});
    for (auto [number, answer] : calls) {
      SetCall(*context, number);
      EXPECT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
      EXPECT_EQ(context->registers().orig_rax, number);
    }
    context.reset();
    as->Release();
  });
}

// What a call has written, from the start of the page of data.
struct Expected {
  uint64_t number, a, b, c;
  std::string bytes;
  uint64_t result = 0;
};

template <typename... T>
std::string Bytes(T... values) {
  std::string all;
  (all.append(reinterpret_cast<const char*>(&values), sizeof(values)), ...);
  return all;
}

TEST_P(EntryTest, CallsThatOnlyAskAreNoExits) {
  REQUIRE_ENTRY();
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(jump_loop));
    auto context = Thread();
    CallAnswers answers;
    answers.valid = true;
    answers.tid = 7002;
    answers.affinity = 0xf00f, answers.affinity_bytes = 8;
    for (uint64_t i = 0; i < CallAnswers::kLimits; ++i) answers.limits[i] = {8000 + i, ~i};
    for (size_t i = 0; i < CallAnswers::kUtsname; ++i) answers.uname[i] = static_cast<char>('a' + i % 19);
    context->SetAnswers(answers);
    auto* page = reinterpret_cast<runsc_vdso_page*>(platform_->clock_page());
    ASSERT_NE(page, nullptr);
    EXPECT_EQ(page->tsc_limit, 0u);
    page->monotonic_ns = 12'000'000'345;
    page->tsc_limit = ~uint64_t{0};
    const uint64_t at = kDataAddress;
    const Expected calls[] = {
        {SYS_uname, at, 0, 0, std::string(answers.uname.data(), answers.uname.size())},
        {SYS_getrlimit, 15, at, 0, Bytes(answers.limits[15])},
        {SYS_sched_getaffinity, 0, 8, at, Bytes(answers.affinity), 8},
        {SYS_sched_getaffinity, 7002, 8, at, Bytes(answers.affinity), 8},
        {SYS_clock_gettime, 1, at, 0, Bytes(uint64_t{12}, uint64_t{345})},
        {SYS_gettimeofday, at, 0, 0, Bytes(uint64_t{12}, uint64_t{0})},
        {SYS_time, at, 0, 0, Bytes(uint64_t{12}), 12},
    };
    auto make = [&](const Expected& call) {
      SetCall(*context, call.number, call.a, call.b, call.c);
      EXPECT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
      return context->registers().orig_rax;
    };
    for (const Expected& call : calls) {
      for (uint64_t i = 0; i < 512; i += 8) WriteWord(data_.start + i, 0);
      // What it returns is the number of the next call.
      EXPECT_EQ(make(call), call.result) << call.number;
      std::string bytes(call.bytes.size() + 1, 'x');
      EXPECT_TRUE(file_->Read(data_.start, std::as_writable_bytes(std::span(bytes))).ok());
      EXPECT_EQ(bytes, call.bytes + '\0') << call.number;
    }
    // A place that it cannot write, and what is the platform's own: the owner's call, as it was made.
    for (uint64_t bad : {uint64_t{0}, kCodeAddress, kDataAddress + (uint64_t{1} << 32), ~uint64_t{0} - 4096}) {
      for (Expected call : calls) {
        (call.a == at ? call.a : call.b == at ? call.b : call.c) = bad;
        if (bad == 0 && call.number != SYS_uname && call.number != SYS_clock_gettime) continue;
        EXPECT_EQ(make(call), call.number) << bad;
        const Registers& r = context->registers();
        EXPECT_EQ(r.rdi, call.a);
        EXPECT_EQ(r.rsi, call.b);
        EXPECT_EQ(r.rdx, call.c);
        EXPECT_EQ(r.rbx, GetParam().entry);
        context->registers().rip = kCodeAddress;
      }
    }
    // Nothing is answered any more once this has returned.
    context->WithdrawAnswers();
    for (const Expected& call : calls) EXPECT_EQ(make(call), call.number);
    page->tsc_limit = 0;
    context->SetAnswers(answers);
    EXPECT_EQ(make(calls[4]), static_cast<uint64_t>(SYS_clock_gettime));
    context.reset();
    as->Release();
  });
}

TEST_P(EntryTest, TheMaskOfSignalsIsChangedWithoutAnExitWhereThatIsAllowed) {
  REQUIRE_ENTRY();
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(jump_loop));
    auto context = Thread();
    ASSERT_TRUE(context->KeepsSignalMask());
    const uint64_t set = kDataAddress, old = kDataAddress + 8;
    // What the call returns is the number of the next: read(2), with the same arguments.
    auto make = [&](uint64_t how, uint64_t bits) {
      WriteWord(data_.start, bits);
      SetCall(*context, SYS_rt_sigprocmask, how, set, old);
      context->registers().r10 = 8;
      const Exit exit = RunGuest(*context, *as);
      EXPECT_EQ(exit.reason, ExitReason::kSystemCall);
      EXPECT_EQ(context->SignalMask(), exit.signal_mask);
      return exit.signal_mask;
    };
    context->SetSignalMask(0x0f);
    EXPECT_EQ(make(SIG_BLOCK, 0xf0), 0x0fu);
    EXPECT_EQ(context->registers().orig_rax, static_cast<uint64_t>(SYS_rt_sigprocmask));
    context->AllowMaskChanges(true);
    EXPECT_EQ(make(SIG_BLOCK, 0xf0), 0xffu);
    EXPECT_EQ(context->registers().orig_rax, 0u);
    EXPECT_EQ(ReadWord(data_.start + 8), 0x0fu);
    // What the owner says before the next run counts.
    context->SetSignalMask(0x1f);
    EXPECT_EQ(make(SIG_UNBLOCK, 0x0c), 0x13u);
    EXPECT_EQ(ReadWord(data_.start + 8), 0x1fu);
    // In another address space, too.
    auto other = SpaceWith(BLOB_OF(jump_loop));
    std::swap(as, other);
    context->SetSignalMask(0x77);
    EXPECT_EQ(context->SignalMask(), 0x77u);
    EXPECT_EQ(make(SIG_UNBLOCK, 0x70), 0x07u);
    context->AllowMaskChanges(false);
    EXPECT_EQ(make(SIG_BLOCK, 0xf00), 0x07u);
    EXPECT_EQ(context->registers().orig_rax, static_cast<uint64_t>(SYS_rt_sigprocmask));
    context.reset();
    as->Release();
    other->Release();
  });
}

// Somebody who sends a signal takes the right to change the mask, and looks at it; the guest changes it all the time.
// What was seen is what it is from then on.
TEST_P(EntryTest, TheMaskOfSignalsDoesNotChangeAfterItWasTaken) {
  REQUIRE_ENTRY();
  StartScheduler(2);
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(mask_loop));
    WriteWord(data_.start, 0xf0);
    int before = 0, after = 0;
    for (int round = 0; round < 2000; ++round) {
      auto context = Thread();
      context->registers().rdi = SIG_BLOCK;
      context->registers().rsi = kDataAddress;
      context->registers().r10 = 8;
      context->SetSignalMask(0x0f);
      context->AllowMaskChanges(true);
      Exit exit;
      auto fiber = base::Fiber::Spawn(*scheduler_, {}, [&] { exit = RunGuest(*context, *as); });
      (void)base::Fiber::ParkUntil(base::MonotonicNow() + round % 50 * 1'000);
      context->AllowMaskChanges(false);
      const uint64_t seen = context->SignalMask();
      fiber->Join();
      // The guest has come to a change that it may not make: from the mask that was there.
      EXPECT_EQ(exit.reason, ExitReason::kSystemCall);
      EXPECT_EQ(context->registers().orig_rax, static_cast<uint64_t>(SYS_rt_sigprocmask));
      EXPECT_TRUE(seen == exit.signal_mask || context->registers().rdi == (seen == 0xff ? SIG_BLOCK : SIG_UNBLOCK))
          << seen << " " << exit.signal_mask;
      (exit.signal_mask == 0x0f ? before : after)++;
      context.reset();
      if (HasFailure()) break;
    }
    RecordProperty("unblocked", before);
    RecordProperty("blocked", after);
    as->Release();
  });
}

// Another thread of the host withdraws them while the guest runs.
TEST_P(EntryTest, AnswersThatAreWithdrawnAreNotGivenAnyMore) {
  REQUIRE_ENTRY();
  StartScheduler(2);
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(jump_loop));
    for (int round = 0; round < 200; ++round) {
      auto context = Thread();
      CallAnswers answers;
      answers.valid = true;
      answers.pid = SYS_getpid;  // what it returns is the number of the next call: it goes on for ever
      context->SetAnswers(answers);
      SetCall(*context, SYS_getpid);
      Exit exit;
      auto fiber = base::Fiber::Spawn(*scheduler_, {}, [&] { exit = RunGuest(*context, *as); });
      (void)base::Fiber::ParkUntil(base::MonotonicNow() + round * 1'000);
      context->WithdrawAnswers();
      fiber->Join();
      EXPECT_EQ(exit.reason, ExitReason::kSystemCall);
      EXPECT_EQ(context->registers().orig_rax, static_cast<uint64_t>(SYS_getpid));
      context.reset();
    }
    as->Release();
  });
}

TEST_P(EntryTest, TheOwnerOfTheAddressSpaceWakesAndMovesThem) {
  REQUIRE_ENTRY();
  StartScheduler(2);
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(jump_loop));
    EXPECT_EQ(*as->WakeFutex(kWord, 1), 0);
    Waiter w[3];
    for (Waiter& one : w) StartWaiter(one, *as);
    WakeUntil(1, [&] { return *as->WakeFutex(kWord, 1); });
    WakeUntil(2, [&] { return *as->RequeueFutex(kWord, kOther, 0, 2); });
    WakeUntil(2, [&] { return *as->WakeFutex(kOther, 2); });
    for (Waiter& one : w) {
      one.fiber->Join();
      EXPECT_EQ(one.context->registers().orig_rax, 0u);
      one.context.reset();
    }
    as->Release();
  });
}

TEST_P(EntryTest, AnInterruptMakesItTheOwnersCall) {
  REQUIRE_ENTRY();
  StartScheduler(2);
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(jump_loop));
    for (int i = 0; i < 200; ++i) {
      Waiter w;
      StartWaiter(w, *as);
      // Before it waits, on the way, and while it waits.
      (void)base::Fiber::ParkUntil(base::MonotonicNow() + i * 1'000);
      w.context->Interrupt();
      w.fiber->Join();
      const Registers& r = w.context->registers();
      EXPECT_EQ(r.rdi, kWord);
      EXPECT_EQ(r.rsi, static_cast<uint64_t>(FUTEX_WAIT_PRIVATE));
      if (w.exit.reason == ExitReason::kSystemCall) {
        EXPECT_EQ(r.orig_rax, static_cast<uint64_t>(SYS_futex));
      } else {
        EXPECT_EQ(w.exit.reason, ExitReason::kInterrupted);
        EXPECT_EQ(r.rax, static_cast<uint64_t>(SYS_futex));
      }
    }
    // None of them is counted any more.
    EXPECT_EQ(*as->WakeFutex(kWord, 100), 0);
    as->Release();
  });
}

TEST_P(EntryTest, AnInterruptOnTheWayBackIsNotLost) {
  REQUIRE_ENTRY();
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(jump_spin));
    auto context = ContextAt(kCodeAddress);
    std::atomic<int> round{0};
    std::thread other([&] {
      std::mt19937 random(3);
      for (int seen = 0;;) {
        const int now = round.load();
        if (now < 0) return;
        if (now == seen) continue;
        seen = now;
        for (uint32_t n = random() % 64; n > 0; --n) __builtin_ia32_pause();
        context->Interrupt();
      }
    });
    for (int i = 1; i <= 20'000; ++i) {
      Registers& r = context->registers();
      r.rip = kCodeAddress;
      r.rbx = GetParam().entry;
      r.rax = 500;
      if (RunGuest(*context, *as).reason != ExitReason::kSystemCall) {
        ADD_FAILURE() << "round " << i;
        break;
      }
      round = i;
      // One that nobody interrupts any more is killed after a while.
      const Exit exit = RunGuest(*context, *as);
      EXPECT_EQ(exit.reason, ExitReason::kInterrupted) << "round " << i;
      if (exit.reason == ExitReason::kDead) break;
    }
    round = -1;
    other.join();
    context.reset();
    as->Release();
  });
}

TEST_P(EntryTest, OneThatSleepsForLongBecomesTheOwnersCall) {
  REQUIRE_ENTRY();
  StartScheduler(2);
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(jump_loop));
    Waiter w;
    StartWaiter(w, *as);
    w.fiber->Join();
    EXPECT_EQ(w.exit.reason, ExitReason::kSystemCall);
    EXPECT_EQ(w.context->registers().orig_rax, static_cast<uint64_t>(SYS_futex));
    EXPECT_TRUE(w.exit.slept);
    w.context.reset();
    as->Release();
  });
}

TEST_P(EntryTest, AWakeWhereTheOwnerHasWaitersIsItsCall) {
  REQUIRE_ENTRY();
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(jump_loop));
    auto waker = Thread();
    auto wake = [&] {
      SetCall(*waker, SYS_futex, kWord, FUTEX_WAKE_PRIVATE, 1);
      EXPECT_EQ(RunGuest(*waker, *as).reason, ExitReason::kSystemCall);
      return waker->registers().orig_rax;
    };
    EXPECT_EQ(wake(), 0u);
    as->AddFutexWaiters(kWord, 1);
    as->AddFutexWaiters(kWord, 1);
    EXPECT_EQ(wake(), static_cast<uint64_t>(SYS_futex));
    as->AddFutexWaiters(kWord, -1);
    EXPECT_EQ(wake(), static_cast<uint64_t>(SYS_futex));
    as->AddFutexWaiters(kWord, -1);
    EXPECT_EQ(wake(), 0u);
    waker.reset();
    as->Release();
  });
}

}  // namespace
}  // namespace platform

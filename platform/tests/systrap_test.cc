// Hostile guests of the systrap platform (docs/security.md): code that uses the stub's own text and memory against it.
// What happens to the guest is its own affair; the sentry goes on, another guest's memory is untouched, and nothing
// hangs.
#include <linux/futex.h>
#include <signal.h>
#include <sys/syscall.h>

#include <algorithm>
#include <random>

#include "base/time.h"
#include "platform/systrap/signal_frame.h"
#include "platform/systrap/stub_layout.h"
#include "platform/tests/guest.h"
#include "platform/vdso_page.h"

namespace platform {
namespace {

Factory SystrapFactory() {
  for (Factory& factory : Factories()) {
    if (factory.name == "systrap") return factory;
  }
  ADD_FAILURE() << "no systrap";
  return {};
}

class SystrapTest : public PlatformTest {
 protected:
  // Another process of the sandbox: a page with a pattern, and calls that have to go on being served.
  void StartWitness() {
    witness_ = SystemCallGuest();
    std::mt19937_64 random(7);
    for (uint64_t i = 0; i < kPageSize; i += 8) WriteWord(data_.start + i, random());
    pattern_ = data_.start;
  }
  void CheckWitness() {
    Registers& r = witness_.context->registers();
    for (uint64_t n = 100; n < 104; ++n) {
      r.rax = n;
      ASSERT_EQ(witness_.Run().reason, ExitReason::kSystemCall);
      ASSERT_EQ(r.orig_rax, n);
    }
    std::mt19937_64 random(7);
    for (uint64_t i = 0; i < kPageSize; i += 8) ASSERT_EQ(ReadWord(pattern_ + i), random());
  }
  void EndWitness() {
    witness_.context.reset();
    witness_.as->Release();
  }

  // Runs a hostile context to its next exit. One that neither comes back nor can be interrupted is killed with its
  // address space: that has to work always.
  ExitReason RunHostile(Context& context, AddressSpace& as) {
    std::atomic<bool> done{false};
    auto guard = base::Fiber::Spawn(*scheduler_, {}, [&] {
      const base::MonotonicNs start = base::MonotonicNow();
      bool interrupted = false;
      while (!done) {
        (void)base::Fiber::ParkUntil(base::MonotonicNow() + 500'000);
        const base::MonotonicNs waited = base::MonotonicNow() - start;
        if (!done && !interrupted && waited > 3'000'000) {
          interrupted = true;
          context.Interrupt();
        }
        if (!done && waited > 30'000'000) {
          as.Release();
          return;
        }
      }
    });
    const ExitReason reason = RunGuest(context, as).reason;
    done = true;
    guard->Unpark();
    guard->Join();
    return reason;
  }

  Guest witness_;
  uint64_t pattern_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Only, SystrapTest, ::testing::Values(SystrapFactory()),
                         [](const auto& info) { return info.param.name; });

Registers RandomRegisters(std::mt19937_64& random, uint64_t slot) {
  Registers r{};
  // Values that mean something to the stub, and noise.
  const uint64_t values[] = {0,
                             1,
                             2,
                             SYS_write,
                             SYS_futex,
                             SYS_mmap,
                             SYS_rt_sigreturn,
                             SYS_clone,
                             slot,
                             slot + 64,
                             slot + systrap::kSlotBytes - 512,
                             systrap::kStateWindow,
                             systrap::kStubText,
                             systrap::kStubParams,
                             systrap::kStubCommand,
                             systrap::kStubClock,
                             kCodeAddress,
                             kDataAddress,
                             kDataAddress + kPageSize,
                             ~uint64_t{0}};
  auto pick = [&]() -> uint64_t {
    const uint64_t n = random();
    return n % 4 == 0 ? random() : values[n % std::size(values)];
  };
  for (uint64_t* reg : {&r.r15, &r.r14, &r.r13, &r.r12, &r.rbp, &r.rbx, &r.r11, &r.r10, &r.r9, &r.r8, &r.rax, &r.rcx,
                        &r.rdx, &r.rsi, &r.rdi, &r.rsp}) {
    *reg = pick();
  }
  r.cs = 0x33;
  r.ss = 0x2b;
  r.rflags = 0x202;
  return r;
}

TEST_P(SystrapTest, AnyHostCallOfGuestCodeIsTheGuestsOwnSystemCall) {
  InFiber([&] {
    Guest g = SystemCallGuest();
    Registers& r = g.context->registers();
    for (uint64_t number = 0; number < 700; ++number) {
      for (uint64_t form : {uint64_t{0}, uint64_t{0x40000000}}) {  // amd64 and x32
        // uretprobe and uprobe: no filter sees them (__secure_computing, kernel/seccomp.c). Outside of the host's own
        // trampolines they do nothing but raise SIGILL or fail.
        if (form == 0 && (number == 335 || number == 336)) continue;
        r.rax = number | form;
        r.rdi = r.rsi = r.rdx = r.r10 = r.r8 = r.r9 = 0;
        ASSERT_EQ(g.Run().reason, ExitReason::kSystemCall) << number;
        ASSERT_EQ(r.orig_rax, number | form);
      }
    }
    g.as->Release();
    for (uint64_t number = 0; number < 460; ++number) {  // i386
      auto as = SpaceWith(BLOB_OF(int80));
      auto context = ContextAt(kCodeAddress);
      context->registers().rax = number;
      Exit exit = RunGuest(*context, *as);
      ASSERT_EQ(exit.reason, ExitReason::kException);
      ASSERT_EQ(exit.signo, SIGSEGV);
      as->Release();
      number += number > 20 ? 16 : 0;
    }
  });
}

TEST_P(SystrapTest, JumpsToEveryByteOfTheStubHarmOnlyTheGuest) {
  StartScheduler(2);
  InFiber([&] {
    StartWitness();
    std::mt19937_64 random(1);
    // The rest of the page is zeroes: `add %al, (%rax)`.
    const auto* text = systrap::runsc_systrap_text_begin;
    uint64_t end = systrap::kStubPage;
    while (end > 0 && text[end - 1] == 0) --end;
    int dead = 0;
    for (uint64_t offset = 0; offset < end + 2; ++offset) {
      auto as = SpaceWith(BLOB_OF(syscall_loop));
      auto context = ContextAt(kCodeAddress);
      context->registers() = RandomRegisters(random, systrap::kSlotWindow);
      context->registers().rip = systrap::kStubText + offset;
      for (int i = 0; i < 3; ++i) {
        if (RunHostile(*context, *as) == ExitReason::kDead) {
          ++dead;
          break;
        }
        context->registers().rip = systrap::kStubText + offset;
      }
      context.reset();
      as->Release();
      if (offset % 64 == 0) CheckWitness();
    }
    CheckWitness();
    EndWitness();
    RecordProperty("dead", dead);
  });
}

TEST_P(SystrapTest, WritingAllOfTheStubsMemoryHarmsOnlyTheGuest) {
  StartScheduler(2);
  InFiber([&] {
    StartWitness();
    std::mt19937_64 random(2);
    for (int round = 0; round < 60; ++round) {
      // store: writes to what rdi says, then makes a system call. Aimed at every word of its slot and its neighbours'.
      auto as = SpaceWith(BLOB_OF(store));
      auto victim = ContextAt(kCodeAddress);
      auto context = ContextAt(kCodeAddress);
      bool lost = false;
      for (int i = 0; i < 40 && !lost; ++i) {
        Registers& r = context->registers();
        r.rip = kCodeAddress;
        const uint64_t span = systrap::kSlotBytes * (round % 3 == 0 ? 1 : 3);
        r.rdi = systrap::kSlotWindow + (i < 8 ? static_cast<uint64_t>(i) * 4 : random() % span & ~uint64_t{7});
        lost = RunHostile(*context, *as) == ExitReason::kDead;
        if (!lost && i % 4 == 0) {
          victim->registers().rip = kCodeAddress;
          victim->registers().rdi = kDataAddress;
          lost = RunHostile(*victim, *as) == ExitReason::kDead;
        }
      }
      context.reset();
      victim.reset();
      as->Release();
      CheckWitness();
    }
    EndWitness();
  });
}

TEST_P(SystrapTest, WhatAGuestCannotWriteFaults) {
  InFiber([&] {
    for (uint64_t address : {systrap::kStateWindow, systrap::kStateWindow + systrap::kStateBlockBytes - 8,
                             systrap::kStubText, systrap::kStubParams, systrap::kStubCommand, systrap::kStubClock}) {
      auto as = SpaceWith(BLOB_OF(store));
      auto context = ContextAt(kCodeAddress);
      context->registers().rdi = address;
      Exit exit = RunGuest(*context, *as);
      ASSERT_EQ(exit.reason, ExitReason::kFault);
      EXPECT_EQ(exit.address, address);
      EXPECT_EQ(exit.access, AccessType::kWrite);
      as->Release();
    }
  });
}

TEST_P(SystrapTest, FalseRingsAtEveryBellDisturbNobody) {
  StartScheduler(2);
  InFiber([&] {
    StartWitness();
    std::mt19937_64 random(3);
    for (int i = 0; i < 400; ++i) {
      auto as = SpaceWith(BLOB_OF(syscall_loop));
      auto context = ContextAt(systrap::StubAddress(systrap::runsc_systrap_write));
      Registers& r = context->registers();
      r.rax = SYS_write;
      r.rdi = random() % 64;
      r.rsi = random() % 2 ? kDataAddress : systrap::kStubParams + random() % 1024;
      r.rdx = 4;
      r.r12 = systrap::kSlotWindow;
      r.r13 = systrap::kStateWindow;
      (void)RunHostile(*context, *as);
      context.reset();
      as->Release();
      if (i % 50 == 0) CheckWitness();
    }
    CheckWitness();
    EndWitness();
  });
}

TEST_P(SystrapTest, ForgedSignalFramesHarmOnlyTheGuest) {
  StartScheduler(2);
  InFiber([&] {
    StartWitness();
    std::mt19937_64 random(4);
    for (int i = 0; i < 200; ++i) {
      auto as = SpaceWith(BLOB_OF(syscall_loop));
      // A frame of noise in the guest's own memory, with a stack, a mask and selectors of its choice.
      for (uint64_t at = 0; at < kPageSize; at += 8) {
        const uint64_t n = random();
        WriteWord(data_.start + at, n % 3 == 0 ? n : n % 3 == 1 ? kCodeAddress : n & 0xff);
      }
      auto context = ContextAt(systrap::StubAddress(systrap::runsc_systrap_sigreturn));
      context->registers().rax = SYS_rt_sigreturn;
      context->registers().rsp = kDataAddress + 8 + random() % 1024 / 8 * 8;
      (void)RunHostile(*context, *as);
      context.reset();
      as->Release();
      if (i % 50 == 0) CheckWitness();
    }
    CheckWitness();
    EndWitness();
  });
}

TEST_P(SystrapTest, AForgedSignalNumberNeverReachesTheKernel) {
  InFiber([&] {
    for (uint64_t number : {uint64_t{0}, uint64_t{9}, uint64_t{65}, uint64_t{12345}, uint64_t{0xffffffff}}) {
      Guest g = SystemCallGuest();
      // Leaves a frame in the slot; then the guest calls the stub's handler with it.
      ASSERT_EQ(g.Run().reason, ExitReason::kSystemCall);
      Registers& r = g.context->registers();
      r.rip = systrap::StubAddress(systrap::runsc_systrap_handler);
      r.rdi = number;
      r.rsp = systrap::kSlotWindow + systrap::FrameLayout(systrap::kSlotWindow).frame;
      Exit exit = g.Run();
      ASSERT_EQ(exit.reason, ExitReason::kException);
      EXPECT_EQ(exit.signo, SIGSEGV) << number;
      g.context.reset();
      g.as->Release();
    }
  });
}

// Where a guest thread of the platform may run that is not where its executor is: on the CPU that the other one lends.
bool AnyChildIsBoundTo(int cpu) {
  for (int pid : ChildProcesses()) {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(pid, sizeof(set), &set) == 0 && CPU_COUNT(&set) == 1 && CPU_ISSET(cpu, &set)) return true;
  }
  return false;
}

class SpinningTest : public SystrapTest {
 protected:
  void SetUp() override {
    SystrapTest::SetUp();
    StartScheduler(2, true);
    if (scheduler_->executors()[1]->cpu() < 0 ||
        scheduler_->executors()[0]->cpu() == scheduler_->executors()[1]->cpu()) {
      GTEST_SKIP() << "one CPU";
    }
  }
  // On executor 0, so that the CPU of executor 1 is the one to lend.
  void OnFirst(std::function<void()> body) {
    base::Fiber::Spawn(*scheduler_, {.executor = scheduler_->executors()[0].get(), .pinned = true}, std::move(body))
        ->Join();
  }
  // Makes calls until the guest thread and its executor spin for each other. On a busy machine they may never.
  bool CallUntilApart(Guest& guest) {
    const int lent = scheduler_->executors()[1]->cpu();
    for (int i = 0; i < 20'000; ++i) {
      Registers& r = guest.context->registers();
      r.rax = 100 + i % 100;
      if (guest.Run().reason != ExitReason::kSystemCall || r.orig_rax != 100u + i % 100) {
        ADD_FAILURE() << "call " << i;
        return false;
      }
      if (i % 256 == 0 && AnyChildIsBoundTo(lent)) return true;
    }
    return false;
  }
};
INSTANTIATE_TEST_SUITE_P(Only, SpinningTest, ::testing::Values(SystrapFactory()),
                         [](const auto& info) { return info.param.name; });

TEST_P(SpinningTest, AThreadThatMakesManyCallsAndThenComputesIsServedAndInterrupted) {
  OnFirst([&] {
    Guest g = SystemCallGuest();
    RecordProperty("apart", CallUntilApart(g));
    for (int i = 0; i < 20; ++i) {
      ASSERT_EQ(g.Run().reason, ExitReason::kSystemCall);
      // Longer than anybody spins.
      (void)base::Fiber::ParkUntil(base::MonotonicNow() + 1'000'000);
    }
    g.context->Interrupt();
    ASSERT_EQ(g.Run().reason, ExitReason::kInterrupted);
    ASSERT_EQ(g.Run().reason, ExitReason::kSystemCall);
    g.context.reset();
    g.as->Release();
  });
}

TEST_P(SpinningTest, AnotherExecutorThatStartsAThreadGetsItsCpuBack) {
  OnFirst([&] {
    Guest g = SystemCallGuest();
    RecordProperty("apart", CallUntilApart(g));
    std::atomic<bool> stop{false};
    auto other = base::Fiber::Spawn(*scheduler_, {.executor = scheduler_->executors()[1].get(), .pinned = true}, [&] {
      Guest own = SystemCallGuest();
      while (!stop) {
        ASSERT_EQ(own.Run().reason, ExitReason::kSystemCall);
        base::Fiber::Yield();
      }
      own.context.reset();
      own.as->Release();
    });
    for (int i = 0; i < 2000; ++i) {
      ASSERT_EQ(g.Run().reason, ExitReason::kSystemCall);
      base::Fiber::Yield();
    }
    stop = true;
    other->Join();
    g.context.reset();
    g.as->Release();
  });
}

TEST_P(SpinningTest, AThreadThatIsKilledWhileItSpinsIsGone) {
  OnFirst([&] {
    for (int i = 0; i < 3; ++i) {
      Guest g = SystemCallGuest();
      (void)CallUntilApart(g);
      g.as->Release();
      EXPECT_EQ(g.Run().reason, ExitReason::kDead);
      g.context.reset();
    }
  });
}

// Another thread writes over the words of the handoff of one that is apart, all the time.
TEST_P(SpinningTest, AGuestThatForgesTheWordsOfTheHandoffHarmsOnlyItself) {
  // 1: event; it waits; resumed; it does not; jmp 1b
  const std::string scribble(
      "\xc7\x07\x00\x00\x00\x00\xc7\x47\x04\x01\x00\x00\x00\xc7\x07\x01\x00\x00\x00\xc7\x47\x04\x00\x00\x00\x00\xeb"
      "\xe4",
      28);
  OnFirst([&] {
    StartWitness();
    for (int round = 0; round < 3; ++round) {
      Guest g = SystemCallGuest();
      RecordProperty("apart", CallUntilApart(g));
      const FileRange code = FileOf(scribble);
      const uint64_t at = kDataAddress + 16 * kPageSize;
      const MapOp map = MapOf(*file_, at, code, kR | kX);
      ASSERT_TRUE(g.as->Apply({&map, 1}).ok());
      auto writer = ContextAt(at);
      writer->registers().rdi = systrap::kSlotWindow;  // the slot of the address space's first thread
      auto writing = base::Fiber::Spawn(*scheduler_, {}, [&] { (void)RunHostile(*writer, *g.as); });
      for (int i = 0; i < 500; ++i) {
        if (RunHostile(*g.context, *g.as) == ExitReason::kDead) break;
        g.context->registers().rip = kCodeAddress;
      }
      g.as->Release();
      writing->Join();
      writer.reset();
      g.context.reset();
      CheckWitness();
    }
    EndWitness();
  });
}

// Calls that the stub answers keep registers in the slot for a while: another thread writes over them all the time,
// with what means something to the stub.
TEST_P(SystrapTest, AGuestThatForgesTheRegistersOfAnAnsweredCallHarmsOnlyItself) {
  if (GetParam().entry == 0) GTEST_SKIP() << "no entry for patched call sites";
  // 1: mov %rax, (%rdi,%rcx,8); inc %ecx; and $0x1f, %ecx; jmp 1b
  const std::string scribble("\x48\x89\x04\xcf\xff\xc1\x83\xe1\x1f\xeb\xf5", 11);
  StartScheduler(2);
  InFiber([&] {
    StartWitness();
    std::mt19937_64 random(5);
    const uint64_t numbers[] = {SYS_rt_sigprocmask, SYS_uname,  SYS_clock_gettime, SYS_gettimeofday,      SYS_time,
                                SYS_getrlimit,      SYS_getcpu, SYS_prlimit64,     SYS_sched_getaffinity, SYS_futex,
                                SYS_sched_yield};
    auto* page = reinterpret_cast<runsc_vdso_page*>(platform_->clock_page());
    page->tsc_limit = ~uint64_t{0};
    page->cpus = 64;
    for (int round = 0; round < 30; ++round) {
      auto as = SpaceWith(BLOB_OF(jump_loop));
      const FileRange code = FileOf(scribble);
      const uint64_t at = kDataAddress + 16 * kPageSize;
      const MapOp map = MapOf(*file_, at, code, kR | kX);
      ASSERT_TRUE(as->Apply({&map, 1}).ok());
      auto caller = ContextAt(kCodeAddress), writer = ContextAt(at);
      CallAnswers answers;
      answers.valid = true;
      answers.affinity = ~uint64_t{0}, answers.affinity_bytes = 8;
      caller->SetAnswers(answers);
      caller->AllowMaskChanges(true);
      const uint64_t values[] = {0,
                                 random(),
                                 kCodeAddress,
                                 systrap::kStubText + random() % systrap::kStubPage,
                                 systrap::kStateWindow,
                                 systrap::kSlotWindow};
      writer->registers().rdi = systrap::kSlotWindow;
      writer->registers().rax = values[round % std::size(values)];
      auto writing = base::Fiber::Spawn(*scheduler_, {}, [&] { (void)RunHostile(*writer, *as); });
      for (int i = 0; i < 200; ++i) {
        Registers& r = caller->registers();
        r.rip = kCodeAddress;
        r.rbx = GetParam().entry;
        r.rax = numbers[random() % std::size(numbers)];
        for (uint64_t* argument : {&r.rdi, &r.rsi, &r.rdx, &r.r10}) {
          const uint64_t places[] = {0,
                                     1,
                                     8,
                                     FUTEX_WAIT_PRIVATE,
                                     FUTEX_WAKE_PRIVATE,
                                     kDataAddress,
                                     systrap::kSlotWindow - 8,
                                     systrap::kSlotWindow + 32};
          *argument = places[random() % std::size(places)];
        }
        if (RunHostile(*caller, *as) == ExitReason::kDead) break;
      }
      as->Release();
      writing->Join();
      writer.reset();
      caller.reset();
      CheckWitness();
    }
    EndWitness();
  });
}

// A thread that looks at the word of a futex before it waits there, and is interrupted before, meanwhile and
// afterwards.
TEST_P(SpinningTest, AnInterruptOfAThreadThatLooksAtAFutexMakesItTheOwnersCall) {
  if (GetParam().entry == 0) GTEST_SKIP() << "no entry for patched call sites";
  InFiber([&] {
    constexpr uint64_t kWord = kDataAddress + 64, kValue = 0xabcdef0100000000;
    auto as = SpaceWith(BLOB_OF(look_loop));
    int changed = 0, before = 0, asleep = 0;
    for (int i = 0; i < 600 && !HasFailure(); ++i) {
      WriteWord(data_.start + 64, 0);
      auto context = ContextAt(kCodeAddress);
      CallAnswers answers;
      answers.valid = true;
      context->SetAnswers(answers);
      Registers& r = context->registers();
      r.rbx = GetParam().entry;
      r.r8 = systrap::kSlotWindow + SLOT_METER;  // the first thread's, which is used again
      r.rax = SYS_futex, r.rdi = kWord, r.rsi = FUTEX_WAIT_PRIVATE, r.rdx = kValue, r.r10 = 0;
      Exit exit;
      std::atomic<bool> done{false};
      auto fiber = base::Fiber::Spawn(*scheduler_, {}, [&] {
        exit = RunGuest(*context, *as);
        done = true;
      });
      (void)base::Fiber::ParkUntil(base::MonotonicNow() + i % 120 * 1'000);
      // Every other time it is the word that ends it, without a wake: one that sleeps already needs the interrupt.
      if (i % 2 == 0) WriteWord(data_.start + 64, 1);
      for (int k = 0; i % 2 == 0 && k < 50 && !done; ++k) {
        (void)base::Fiber::ParkUntil(base::MonotonicNow() + 10'000);
      }
      context->Interrupt();
      fiber->Join();
      EXPECT_EQ(r.rdi, kWord);
      EXPECT_EQ(r.rsi, static_cast<uint64_t>(FUTEX_WAIT_PRIVATE));
      EXPECT_EQ(r.rdx, kValue);
      EXPECT_EQ(r.rbx, GetParam().entry);
      if (exit.reason == ExitReason::kSystemCall && r.orig_rax == static_cast<uint64_t>(-EAGAIN)) {
        ++changed;  // the number of the next call
      } else if (exit.reason == ExitReason::kSystemCall) {
        EXPECT_EQ(r.orig_rax, static_cast<uint64_t>(SYS_futex));
        ++asleep;
      } else {
        EXPECT_EQ(exit.reason, ExitReason::kInterrupted);
        const bool made = r.rax == static_cast<uint64_t>(-EAGAIN);
        EXPECT_TRUE(made || r.rax == static_cast<uint64_t>(SYS_futex)) << r.rax;
        ++before;
      }
      context.reset();
    }
    RecordProperty("changed", changed);
    RecordProperty("before", before);
    RecordProperty("asleep", asleep);
    EXPECT_EQ(*as->WakeFutex(kWord, 100), 0);
    as->Release();
  });
}

// The stub's loop, over a count and a state in the guest's own memory: it never ends.
TEST_P(SpinningTest, AGuestThatNeverStopsSpinningIsInterrupted) {
  OnFirst([&] {
    StartWitness();
    Guest g = SystemCallGuest();
    for (uint64_t offset = 0; offset < kPageSize; offset += 8) WriteWord(data_.start + offset, 0xffffffff00000000);
    (void)CallUntilApart(g);
    Registers& r = g.context->registers();
    r.rip = systrap::StubAddress(systrap::runsc_systrap_wait);
    r.r12 = r.r13 = kDataAddress;
    EXPECT_NE(RunHostile(*g.context, *g.as), ExitReason::kSystemCall);
    g.context.reset();
    g.as->Release();
    EndWitness();
  });
}

// An old program that leaves traps for the one that comes after it: the new one may meet them, nobody else does.
TEST_P(SystrapTest, AProgramThatStaysBehindAnExecHarmsOnlyTheNewOne) {
  StartScheduler(2);
  InFiber([&] {
    StartWitness();
    std::mt19937_64 random(9);
    for (int i = 0; i < 200; ++i) {
      const bool claims = i % 2 == 0;
      auto as = SpaceWith(claims ? BLOB_OF(claim_and_spin) : BLOB_OF(syscall_loop));
      auto context = ContextAt(kCodeAddress);
      if (claims) {
        // It computes on in what is unmapped below it, or in the stub.
        context->registers().rdi = systrap::kSlotWindow;
        (void)RunHostile(*context, *as);
      } else {
        context->registers() = RandomRegisters(random, systrap::kSlotWindow);
        context->registers().rip = systrap::kStubText + random() % 4096;
        (void)RunHostile(*context, *as);
      }
      const FileRange code = FileOf(BLOB_OF(syscall_loop));
      const MapOp map = MapOf(*file_, kCodeAddress + kPageSize, code, kR | kX);
      auto renewed = as->Renew(*context, {&map, 1});
      // One whose thread has died has none to keep.
      if (renewed.ok()) {
        as = *renewed;
        context->registers() = {};
        context->registers().cs = 0x33;
        context->registers().ss = 0x2b;
        context->registers().rflags = 0x202;
        context->registers().rip = map.start;
        for (int call = 0; call < 3; ++call) {
          if (RunHostile(*context, *as) == ExitReason::kDead) break;
        }
      }
      context.reset();
      as->Release();
      if (i % 20 == 0) CheckWitness();
    }
    CheckWitness();
    EndWitness();
  });
}

TEST_P(SystrapTest, NoStubIsLeftBehind) {
  const size_t before = ChildProcesses().size();
  InFiber([&] {
    for (int i = 0; i < 20; ++i) {
      Guest a = SystemCallGuest(), b = SpinGuest();
      EXPECT_EQ(a.Run().reason, ExitReason::kSystemCall);
      b.context->Interrupt();
      EXPECT_EQ(b.Run().reason, ExitReason::kInterrupted);
      a.as->Release();
      b.as->Release();
    }
  });
  scheduler_.reset();
  platform_.reset();
  EXPECT_LT(ChildProcesses().size(), before + 1);
}

}  // namespace
}  // namespace platform

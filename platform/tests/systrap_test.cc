// Hostile guests of the systrap platform (docs/security.md): code that uses the stub's own text and memory against it.
// What happens to the guest is its own affair; the sentry goes on, another guest's memory is untouched, and nothing
// hangs.
#include <signal.h>
#include <sys/syscall.h>

#include <algorithm>
#include <random>

#include "base/time.h"
#include "platform/systrap/signal_frame.h"
#include "platform/systrap/stub_layout.h"
#include "platform/tests/guest.h"

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
    for (uint64_t address : {systrap::kStateWindow, systrap::kStubText, systrap::kStubParams, systrap::kStubCommand}) {
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

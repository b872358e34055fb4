// The KVM platform: system calls that are answered in the guest, by ring 0 or by the gate (platform/kvm/ring0_text.S).
#include <signal.h>
#include <sys/syscall.h>

#include <atomic>
#include <optional>
#include <random>

#include "base/time.h"
#include "platform/kvm/ring0_layout.h"
#include "platform/tests/guest.h"

namespace platform {
namespace {

constexpr uint64_t kTrapFlag = 0x100;
constexpr uint64_t kGate = RING0_START + RING0_GATE_OFFSET;

class KvmAnswersTest : public PlatformTest {
 protected:
  static CallAnswers AnswersFrom(uint32_t n) {
    CallAnswers a;
    a.valid = true;
    a.pid = n + 1, a.tid = n + 2, a.ppid = n + 3, a.uid = n + 4, a.euid = n + 5, a.gid = n + 6, a.egid = n + 7;
    a.pgid = n + 8;
    return a;
  }
  struct Call {
    uint64_t number, answer;
  };
  static std::vector<Call> CallsOf(const CallAnswers& a) {
    return {{SYS_getpid, a.pid},   {SYS_gettid, a.tid}, {SYS_getppid, a.ppid}, {SYS_getuid, a.uid},
            {SYS_geteuid, a.euid}, {SYS_getgid, a.gid}, {SYS_getegid, a.egid}, {SYS_getpgrp, a.pgid}};
  }
  // The block that canary_call finds behind r15.
  void SetBlock(FileRange data, Call call, uint64_t flags) {
    WriteWord(data.start + 8, kDataAddress + kPageSize - 64);
    WriteWord(data.start + 16, flags);
    WriteWord(data.start + 24, flags | 0x202);
    WriteWord(data.start + 80, call.number);
    WriteWord(data.start + 88, call.answer);
  }
};
INSTANTIATE_TEST_SUITE_P(Only, KvmAnswersTest, ::testing::ValuesIn(KvmFactories()),
                         [](const auto& info) { return info.param.name; });

TEST_P(KvmAnswersTest, CallsWithoutArgumentsAreNoExits) {
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(syscall_loop));
    auto context = ContextAt(kCodeAddress);
    const CallAnswers answers = AnswersFrom(7000);
    context->SetAnswers(answers);
    for (Call call : CallsOf(answers)) {
      context->registers().rax = call.number;
      // What it returns is the number of the next call.
      EXPECT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
      EXPECT_EQ(context->registers().orig_rax, call.answer) << call.number;
      // Not a number of Linux, although its lower half is one.
      context->registers().rax = call.number | uint64_t{1} << 40;
      EXPECT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
      EXPECT_EQ(context->registers().orig_rax, call.number | uint64_t{1} << 40);
    }
    context->SetAnswers({});
    for (Call call : CallsOf(answers)) {
      context->registers().rax = call.number;
      EXPECT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
      EXPECT_EQ(context->registers().orig_rax, call.number);
    }
    as->Release();
  });
}

// All registers and flags around calls that are answered, while interrupts come 10,000 times a second: also in the
// middle of the gate, where they make a call of the sentry's of it.
TEST_P(KvmAnswersTest, NothingButTheAnswerChanges) {
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(canary_call));
    const FileRange data = data_;
    auto context = ContextAt(kCodeAddress);
    Registers& r = context->registers();
    r.r15 = kDataAddress;
    const CallAnswers answers = AnswersFrom(0x7fff0000);
    context->SetAnswers(answers);
    const auto calls = CallsOf(answers);
    std::optional<Interruptions> interruptions(std::in_place, *context);
    std::mt19937 random(5);
    uint64_t rounds = 0, exits = 0;
    for (int i = 0; i < 400; ++i) {
      // CF PF AF ZF SF DF OF, all combinations in the end; AC, ID.
      uint64_t flags = 2;
      for (uint64_t bit : {0x1, 0x4, 0x10, 0x40, 0x80, 0x400, 0x800, 0x200000}) flags |= random() % 2 ? bit : 0;
      const Call call = calls[i % calls.size()];
      SetBlock(data, call, flags);
      r.rip = kCodeAddress;
      r.rsp = kDataAddress + kPageSize - 64;
      const uint64_t before = ReadWord(data.start + 56);
      for (int k = 0; k < 5; ++k) {
        Exit exit = RunGuest(*context, *as);
        if (exit.reason != ExitReason::kInterrupted && exit.reason != ExitReason::kSystemCall) {
          ADD_FAILURE() << static_cast<int>(exit.reason) << " rip +" << r.rip - kCodeAddress << " check " << r.rax
                        << " flags " << std::hex << flags;
          i = 400;
          break;
        }
        if (exit.reason == ExitReason::kSystemCall) {
          EXPECT_EQ(r.orig_rax, call.number);
          r.rax = call.answer;
          ++exits;
        }
      }
      rounds += ReadWord(data.start + 56) - before;
    }
    interruptions.reset();
    EXPECT_GT(rounds, exits);
    context.reset();
    as->Release();
  });
}

// Threads of one and of several processes, on two virtual CPUs, of which each has answers of its own.
TEST_P(KvmAnswersTest, EachThreadHasItsOwn) {
  StartScheduler(2);
  InFiber([&] {
    auto shared = SpaceWith(BLOB_OF(syscall_loop));
    std::vector<base::RefPtr<base::Fiber>> fibers;
    std::atomic<int> answered{0};
    for (uint32_t i = 0; i < 6; ++i) {
      base::Fiber::Options options;
      options.executor = scheduler_->executors()[i % 2].get();
      fibers.push_back(base::Fiber::Spawn(*scheduler_, options, [&, i] {
        auto as = i % 3 == 0 ? SpaceWith(BLOB_OF(syscall_loop)) : shared;
        auto context = ContextAt(kCodeAddress);
        for (uint32_t n = 0; n < 300; ++n) {
          const CallAnswers answers = AnswersFrom(1000 + 10'000 * i + 10 * n);
          context->SetAnswers(answers);
          const Call call = CallsOf(answers)[n % 8];
          context->registers().rax = call.number;
          ASSERT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
          // Either the answer, or the call itself, which was interrupted.
          const uint64_t got = context->registers().orig_rax;
          ASSERT_TRUE(got == call.answer || got == call.number) << got << " instead of " << call.answer;
          answered += got == call.answer;
          if (n % 50 == 0) base::Fiber::Yield();
        }
        if (as != shared) as->Release();
      }));
    }
    for (auto& f : fibers) f->Join();
    EXPECT_GT(answered, 6 * 300 / 2);
    shared->Release();
  });
}

// At any moment of a guest that makes one call after the other.
TEST_P(KvmAnswersTest, WithdrawnAnswersAreNotGivenAnyMore) {
  StartScheduler(2);
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(syscall_loop));
    for (int round = 0; round < 200; ++round) {
      auto context = ContextAt(kCodeAddress);
      CallAnswers answers;
      answers.valid = true;
      answers.pid = SYS_getpid;  // what it returns is the number of the next call: it goes on for ever
      context->SetAnswers(answers);
      context->registers().rax = SYS_getpid;
      Exit exit;
      auto fiber = base::Fiber::Spawn(*scheduler_, {}, [&] { exit = RunGuest(*context, *as); });
      (void)base::Fiber::ParkUntil(base::MonotonicNow() + round * 1'000);
      context->WithdrawAnswers();
      fiber->Join();
      EXPECT_EQ(exit.reason, ExitReason::kSystemCall);
      EXPECT_EQ(context->registers().orig_rax, static_cast<uint64_t>(SYS_getpid));
    }
    as->Release();
  });
}

// A thread that is single-stepped, by its tracer or by itself, makes calls that its tracer sees.
TEST_P(KvmAnswersTest, SteppedCallsAreExits) {
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(nops));
    auto context = ContextAt(kCodeAddress);
    context->SetAnswers(AnswersFrom(7000));
    Registers& r = context->registers();
    r.rax = SYS_getpid;
    context->SetSingleStep(true);
    for (int i = 1; i <= 3; ++i) {
      Exit exit = RunGuest(*context, *as);
      ASSERT_EQ(exit.reason, ExitReason::kException);
      ASSERT_EQ(exit.signo, SIGTRAP);
      ASSERT_EQ(r.rip, kCodeAddress + i);
    }
    Exit exit = RunGuest(*context, *as);
    EXPECT_EQ(exit.reason, ExitReason::kSystemCall);
    EXPECT_EQ(r.orig_rax, static_cast<uint64_t>(SYS_getpid));
    EXPECT_EQ(r.rflags & kTrapFlag, 0u);
    EXPECT_EQ(r.r11 & kTrapFlag, 0u);
    context->SetSingleStep(false);
    r.rip = kCodeAddress;
    r.rflags |= kTrapFlag;
    r.rax = SYS_getpid;
    for (int i = 1; i <= 3; ++i) {
      exit = RunGuest(*context, *as);
      ASSERT_EQ(exit.reason, ExitReason::kException);
      ASSERT_EQ(r.rip, kCodeAddress + i);
    }
    exit = RunGuest(*context, *as);
    EXPECT_EQ(exit.reason, ExitReason::kSystemCall);
    EXPECT_EQ(r.rflags & kTrapFlag, kTrapFlag);
    as->Release();
  });
}

// Whoever jumps into the gate makes a call, comes out at an address of its own choice, or faults; with any registers.
TEST_P(KvmAnswersTest, AnyByteOfTheGateMayBeJumpedTo) {
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(jump) + std::string("\x0f\x05", 2));
    Guest witness = SystemCallGuest();
    const CallAnswers answers = AnswersFrom(7000);
    std::mt19937_64 random(11);
    bool gate = false;
    for (uint64_t offset = 0; offset < 0x400; ++offset) {
      for (int round = 0; round < 3; ++round) {
        auto context = ContextAt(kCodeAddress);
        context->SetAnswers(round == 1 ? CallAnswers{} : answers);
        Registers& r = context->registers();
        for (uint64_t* g : {&r.rbx, &r.rdx, &r.rsi, &r.rbp, &r.r8, &r.r9, &r.r10, &r.r11, &r.r12, &r.rsp})
          *g = random();
        r.rax = round == 2 ? random() : CallsOf(answers)[random() % 8].number;
        r.rdi = kGate + offset;
        r.rcx = round == 2 && offset % 2 ? random() : kCodeAddress + 2;
        const uint64_t rbx = r.rbx, rsp = r.rsp;
        if (round == 0) r.rflags |= random() & 0xcd5;
        Exit exit = RunGuest(*context, *as);
        ASSERT_NE(exit.reason, ExitReason::kDead) << offset;
        ASSERT_NE(exit.reason, ExitReason::kInterrupted) << offset;
        ASSERT_EQ(r.cs, 0x33u) << offset;
        // On hosts without a gate, nothing is mapped there.
        if (offset == 0 && round == 0) gate = exit.reason == ExitReason::kSystemCall;
        if (!gate) {
          ASSERT_EQ(exit.reason, ExitReason::kFault);
        }
        // What changes is in memory that it could have written anyway, and its own registers.
        if (exit.reason == ExitReason::kSystemCall && round != 2) {
          EXPECT_EQ(r.rbx, rbx);
          EXPECT_EQ(r.rsp, rsp);
        }
      }
      witness.context->registers().rax = offset + 600;
      ASSERT_EQ(witness.Run().reason, ExitReason::kSystemCall);
      ASSERT_EQ(witness.context->registers().orig_rax, offset + 600);
    }
    witness.as->Release();
    as->Release();
  });
}

TEST_P(KvmAnswersTest, AnswersCannotBeWritten) {
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(store));
    const CallAnswers answers = AnswersFrom(7000);
    for (uint64_t target : {kGate, kGate + RING0_GATE_ANSWERS, kGate + RING0_GATE_ANSWERS + ANSWER_PID,
                            kGate + RING0_GATE_STRIDE, uint64_t{RING0_START + RING0_STATE_OFFSET + STATE_ANSWERS}}) {
      auto context = ContextAt(kCodeAddress);
      context->SetAnswers(answers);
      context->registers().rdi = target;
      Exit exit = RunGuest(*context, *as);
      EXPECT_EQ(exit.reason, ExitReason::kFault);
      EXPECT_EQ(exit.address, target);
      EXPECT_EQ(exit.access, AccessType::kWrite);
    }
    // Its code cannot be found in the block either.
    auto space = SpaceWith(BLOB_OF(jump));
    auto context = ContextAt(kCodeAddress);
    context->registers().rdi = kGate + RING0_GATE_ANSWERS;
    Exit exit = RunGuest(*context, *space);
    EXPECT_EQ(exit.reason, ExitReason::kFault);
    EXPECT_EQ(exit.access, AccessType::kExecute);
    space->Release();
    as->Release();
  });
}

}  // namespace
}  // namespace platform

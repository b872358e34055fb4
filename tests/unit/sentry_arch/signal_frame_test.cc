// The frames are checked against the host's kernel: it returns from ours, and we read its own.
#include "sentry/arch/signal_frame.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/auxv.h>
#include <ucontext.h>

#include <cstring>

#include "base/sanitizers.h"

extern "C" {
uint64_t frame_test_saved_rsp;
uint64_t frame_test_seen[4];  // rbx, r12, rdi, rsp
uint8_t frame_test_xmm7[16];
uint64_t frame_test_constant[2] = {0x1122334455667788, 0x99aabbccddeeff00};
void frame_test_sigreturn(uint64_t rsp);
void frame_test_landing();
}
asm(R"(
  .pushsection .text
  .globl frame_test_sigreturn
frame_test_sigreturn:
  endbr64
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, frame_test_saved_rsp(%rip)
  mov %rdi, %rsp
  mov $15, %eax
  syscall
  ud2
  .globl frame_test_landing
frame_test_landing:
  endbr64
  mov %rbx, frame_test_seen(%rip)
  mov %r12, frame_test_seen+8(%rip)
  mov %rdi, frame_test_seen+16(%rip)
  mov %rsp, frame_test_seen+24(%rip)
  movdqu %xmm7, frame_test_xmm7(%rip)
  mov frame_test_saved_rsp(%rip), %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  ret
  .popsection
)");

namespace sentry::arch {
namespace {

// This process' own memory; addresses outside of `allowed` fault.
class OwnMemory final : public UserMemory {
 public:
  std::vector<std::pair<Addr, Addr>> allowed{{4096, UINT64_MAX}};
  bool Ok(Addr a, size_t n) const {
    for (auto [lo, hi] : allowed) {
      if (a >= lo && a < hi && n <= hi - a) return true;
    }
    return false;
  }
  Result<size_t> CopyIn(std::span<std::byte> dst, Addr src) override {
    if (!Ok(src, dst.size())) return Errno(EFAULT);
    memcpy(dst.data(), reinterpret_cast<void*>(src), dst.size());
    return dst.size();
  }
  Result<size_t> CopyOut(Addr dst, std::span<const std::byte> src) override {
    if (!Ok(dst, src.size())) return Errno(EFAULT);
    memcpy(reinterpret_cast<void*>(dst), src.data(), src.size());
    return src.size();
  }
  Result<size_t> ZeroOut(Addr, size_t) override { return Errno(EFAULT); }
  Result<size_t> ReadFromHost(int, int64_t, std::span<const std::pair<Addr, size_t>>) override { return Errno(EFAULT); }
  Result<size_t> WriteToHost(int, int64_t, std::span<const std::pair<Addr, size_t>>) override { return Errno(EFAULT); }
};

std::vector<std::byte> InitialState() {
  std::vector<std::byte> area(platform::XStateSize());
  platform::InitXState(area.data());
  return area;
}

SignalFrameArgs Args(int signo, uint64_t flags = 0) {
  SignalFrameArgs args;
  args.info.si_signo = signo;
  args.info.si_code = -6;
  args.action.handler = 0x1234;
  args.action.flags = flags | 0x04000000;  // SA_RESTORER
  args.action.restorer = 0x5678;
  args.altstack.ss_flags = SS_DISABLE;
  return args;
}

TEST(SignalFrame, TheHostReturnsFromOurs) {
  OwnMemory memory;
  std::vector<uint8_t> stack(64 << 10);
  auto state = InitialState();
  memcpy(state.data() + 160 + 7 * 16, frame_test_constant, 16);  // xmm7 in the legacy area
  platform::Registers regs{};
  regs.rsp = reinterpret_cast<uint64_t>(stack.data() + stack.size() - 1000);
  regs.rip = reinterpret_cast<uint64_t>(&frame_test_landing);
  regs.rbx = 0xb0b;
  regs.r12 = 0xc0c;
  regs.rdi = 0xd1d1;
  regs.cs = 0x33;
  regs.ss = 0x2b;
  regs.rflags = 0x246;
  sigset_t before;
  sigprocmask(SIG_SETMASK, nullptr, &before);
  SignalFrameArgs args = Args(SIGUSR1, SA_SIGINFO);
  args.mask = 1ull << (SIGUSR2 - 1);
  uint64_t interrupted_rsp = regs.rsp;
  ASSERT_TRUE(PushSignalFrame(memory, regs, state, args).ok());
  EXPECT_EQ(regs.rip, 0x1234u);
  EXPECT_EQ(regs.rdi, static_cast<uint64_t>(SIGUSR1));
  EXPECT_EQ(regs.rsp % 16, 8u);
  EXPECT_EQ(*reinterpret_cast<uint64_t*>(regs.rsp), 0x5678u);
  EXPECT_EQ(reinterpret_cast<siginfo_t*>(regs.rsi)->si_signo, SIGUSR1);

  frame_test_sigreturn(regs.rsp + 8);
  sigset_t during;
  sigprocmask(SIG_SETMASK, &before, &during);
  EXPECT_EQ(frame_test_seen[0], 0xb0bu);
  EXPECT_EQ(frame_test_seen[1], 0xc0cu);
  EXPECT_EQ(frame_test_seen[2], 0xd1d1u);
  EXPECT_EQ(frame_test_seen[3], interrupted_rsp);
  EXPECT_EQ(memcmp(frame_test_xmm7, frame_test_constant, 16), 0);
  EXPECT_TRUE(sigismember(&during, SIGUSR2));
  EXPECT_FALSE(sigismember(&during, SIGUSR1));
}

uint64_t handler_frame;
void Handler(int, siginfo_t*, void* context) { handler_frame = reinterpret_cast<uint64_t>(context) - 8; }

TEST(SignalFrame, WeReadTheHosts) {
#ifdef BASE_TSAN
  GTEST_SKIP() << "allocates in a signal handler, which ThreadSanitizer reports also where the signal is synchronous";
#endif
  struct sigaction action {
  }, old;
  action.sa_sigaction = [](int, siginfo_t*, void* context) {
    auto* uc = static_cast<ucontext_t*>(context);
    OwnMemory memory;
    platform::Registers regs{};
    regs.rsp = reinterpret_cast<uint64_t>(context);  // frame + 8
    auto frame = PopSignalFrame(memory, regs);
    ASSERT_TRUE(frame.ok());
    EXPECT_EQ(frame->registers.rip, static_cast<uint64_t>(uc->uc_mcontext.gregs[REG_RIP]));
    EXPECT_EQ(frame->registers.rsp, static_cast<uint64_t>(uc->uc_mcontext.gregs[REG_RSP]));
    EXPECT_EQ(frame->registers.r15, static_cast<uint64_t>(uc->uc_mcontext.gregs[REG_R15]));
    EXPECT_EQ(frame->registers.cs, 0x33u);
    EXPECT_EQ(frame->xstate.size(), platform::XStateSize());
    EXPECT_EQ(memcmp(frame->xstate.data() + 160, uc->uc_mcontext.fpregs->_xmm, 256), 0);
    Handler(0, nullptr, context);
  };
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGUSR1, &action, &old);
  handler_frame = 0;
  raise(SIGUSR1);
  EXPECT_NE(handler_frame, 0u);
  sigaction(SIGUSR1, &old, nullptr);
}

class FrameTest : public ::testing::Test {
 protected:
  void SetUp() override {
    base_ = (reinterpret_cast<uint64_t>(stack_.data()) + 63) & ~uint64_t{63};
    regs_.rsp = base_ + 60000;
    regs_.rip = 0x400000;
    regs_.rflags = 0x40f46;  // with DF and TF
    regs_.rax = 7;
  }
  std::vector<uint8_t> stack_ = std::vector<uint8_t>(64 << 10);
  uint64_t base_ = 0;
  OwnMemory memory_;
  platform::Registers regs_{};
  std::vector<std::byte> state_ = InitialState();
};

TEST_F(FrameTest, RoundTrip) {
  SignalFrameArgs args = Args(SIGSEGV, SA_SIGINFO);
  args.mask = 0x1234;
  args.fault_address = 0xdead000;
  args.trap_number = 14;
  args.error_code = 6;
  args.altstack = {.ss_sp = 0x1000, .ss_flags = 0, .ss_size = 0x4000};
  platform::Registers before = regs_;
  ASSERT_TRUE(PushSignalFrame(memory_, regs_, state_, args).ok());
  EXPECT_EQ(regs_.rflags & 0x500, 0u);
  auto* uc = reinterpret_cast<ucontext_t*>(regs_.rdx);
  EXPECT_EQ(uc->uc_mcontext.gregs[REG_CR2], 0xdead000);
  EXPECT_EQ(uc->uc_mcontext.gregs[REG_TRAPNO], 14);
  EXPECT_EQ(uc->uc_mcontext.gregs[REG_ERR], 6);
  EXPECT_LT(regs_.rsp, before.rsp - 128);
  regs_.rsp += 8;
  auto frame = PopSignalFrame(memory_, regs_);
  ASSERT_TRUE(frame.ok());
  EXPECT_EQ(frame->mask, 0x1234u);
  EXPECT_EQ(frame->registers.rip, before.rip);
  EXPECT_EQ(frame->registers.rax, 7u);
  EXPECT_EQ(frame->registers.orig_rax, ~uint64_t{0});
  EXPECT_EQ(frame->altstack.ss_sp, 0x1000u);
  // A guest may not give itself privileged flags or selectors.
  uc->uc_mcontext.gregs[REG_EFL] = 0x7fffffff;
  uc->uc_mcontext.gregs[REG_CSGSFS] = 0x10;
  frame = PopSignalFrame(memory_, regs_);
  ASSERT_TRUE(frame.ok());
  EXPECT_EQ(frame->registers.cs, 0x33u);
  EXPECT_EQ(frame->registers.rflags & 0x3000, 0u);  // IOPL
}

TEST_F(FrameTest, StacksAndErrors) {
  platform::Registers before = regs_;
  SignalFrameArgs args = Args(SIGUSR1, SA_ONSTACK);
  args.action.flags &= ~uint64_t{0x04000000};
  EXPECT_TRUE(PushSignalFrame(memory_, regs_, state_, args).failed_with(EFAULT));
  args = Args(SIGUSR1, SA_ONSTACK);
  args.altstack = {.ss_sp = base_, .ss_flags = 0, .ss_size = 16384};
  regs_ = before;
  ASSERT_TRUE(PushSignalFrame(memory_, regs_, state_, args).ok());
  EXPECT_TRUE(OnAltStack(regs_.rsp, args.altstack));
  // Nested: goes on below.
  uint64_t outer = regs_.rsp;
  ASSERT_TRUE(PushSignalFrame(memory_, regs_, state_, args).ok());
  EXPECT_LT(regs_.rsp, outer);
  EXPECT_GT(regs_.rsp, base_);
  // And overflows in the end, instead of running over.
  bool failed = false;
  for (int i = 0; i < 10 && !failed; ++i) failed = !PushSignalFrame(memory_, regs_, state_, args).ok();
  EXPECT_TRUE(failed);
  // Too small from the start.
  regs_ = before;
  args.altstack.ss_size = 512;
  EXPECT_TRUE(PushSignalFrame(memory_, regs_, state_, args).failed_with(EFAULT));
  EXPECT_EQ(memcmp(&regs_, &before, sizeof regs_), 0);
  // No memory there.
  args.altstack.ss_flags = SS_DISABLE;
  regs_.rsp = 300;
  EXPECT_TRUE(PushSignalFrame(memory_, regs_, state_, args).failed_with(EFAULT));
  memory_.allowed = {};
  EXPECT_TRUE(PopSignalFrame(memory_, before).failed_with(EFAULT));
}

TEST_F(FrameTest, HostileFloatingPointState) {
  ASSERT_TRUE(PushSignalFrame(memory_, regs_, state_, Args(SIGUSR1)).ok());
  auto* uc = reinterpret_cast<ucontext_t*>(regs_.rdx);
  regs_.rsp += 8;
  auto* fp = reinterpret_cast<uint8_t*>(uc->uc_mcontext.fpregs);
  auto pop = [&] { return PopSignalFrame(memory_, regs_); };
  // Reserved MXCSR bits, unknown features, a compacted header.
  memset(fp + 24, 0xff, 4);
  memset(fp + 512, 0xff, 8);
  auto frame = pop();
  ASSERT_TRUE(frame.ok());
  uint64_t features;
  memcpy(&features, frame->xstate.data() + 512, 8);
  EXPECT_EQ(features & ~platform::XStateFeatures(), 0u);
  memset(fp + 520, 0xff, 8);
  EXPECT_TRUE(pop().failed_with(EFAULT));
  memset(fp + 520, 0, 8);
  // Sizes that lie fall back to the legacy area.
  uint32_t huge = UINT32_MAX;
  memcpy(fp + 464 + 16, &huge, 4);
  frame = pop();
  ASSERT_TRUE(frame.ok());
  memcpy(&features, frame->xstate.data() + 512, 8);
  EXPECT_EQ(features, 3u);
  // None at all: the initial state. Misaligned: an error.
  uc->uc_mcontext.fpregs = nullptr;
  EXPECT_TRUE(pop().ok());
  uc->uc_mcontext.fpregs = reinterpret_cast<decltype(uc->uc_mcontext.fpregs)>(fp + 1);
  EXPECT_TRUE(pop().failed_with(EFAULT));
}

TEST(SignalFrame, MinimumStackIsAtLeastTheHosts) { EXPECT_GE(MinSignalStackSize() + 64, 2048u); }

}  // namespace
}  // namespace sentry::arch

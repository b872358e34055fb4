// Runs guest_code.S before and after it was patched, whole and instruction by instruction.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "platform/systrap/patch/patch_page.h"

struct Guest {
  const char* name;
  uint64_t start, end;
};
// rax rbx rcx rdx rsi rdi rbp rsp r8 … r15 rflags xmm0
struct State {
  std::array<uint64_t, 16> gpr;
  uint64_t flags;
  uint8_t xmm0[16];
};

extern "C" {
extern const uint8_t patch_guest_page[];
extern const Guest patch_guests_begin[], patch_guests_end[];
extern uint64_t fake_stub_calls;
void RunGuest(uint64_t address, State* state);
void FakeStubEntry();
}

namespace platform::patch {
namespace {

constexpr int kRcx = 2, kRsp = 7, kR11 = 11;
constexpr uint64_t kTrapFlag = 0x100;
constexpr size_t kTrampolines = 65536;

// One instruction that was about to be executed.
struct Step {
  uint64_t rip;
  std::array<uint64_t, 16> gpr;
  uint64_t flags;
};
// The handler's: where to record, and of which addresses.
std::array<Step, 4096> g_steps;
size_t g_step_count;
uint64_t g_first, g_last;

void OnStep(int, siginfo_t*, void* context) {
  const auto& regs = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const uint64_t rip = static_cast<uint64_t>(regs[REG_RIP]);
  if (rip < g_first || rip >= g_last || g_step_count == g_steps.size()) return;
  Step& step = g_steps[g_step_count++];
  step.rip = rip;
  constexpr int kOrder[] = {REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI, REG_RDI, REG_RBP, REG_RSP,
                            REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  for (size_t i = 0; i < 16; ++i) step.gpr[i] = static_cast<uint64_t>(regs[kOrder[i]]);
  step.flags = static_cast<uint64_t>(regs[REG_EFL]);
}

struct Outcome {
  State state;
  std::vector<uint8_t> stack, data;
  uint64_t stub_calls;
  std::vector<Step> steps;
};

// Text, data and trampolines as a process would have them mapped.
class Native : public ::testing::Test {
 protected:
  void SetUp() override {
    void* p = mmap(nullptr, 2 * kPageSize + kTrampolines, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(p, MAP_FAILED);
    base_ = reinterpret_cast<uint64_t>(p);
    file_ = memfd_create("text", MFD_CLOEXEC);
    patched_file_ = memfd_create("patched", MFD_CLOEXEC);
    ASSERT_EQ(pwrite(file_, patch_guest_page, kPageSize, 0), static_cast<ssize_t>(kPageSize));
    Map(file_, 0, base_, kPageSize, PROT_READ | PROT_EXEC);
    ASSERT_EQ(mprotect(reinterpret_cast<void*>(base_ + kPageSize), kPageSize, PROT_READ | PROT_WRITE), 0);
    for (const Guest* g = patch_guests_begin; g != patch_guests_end; ++g) {
      functions_.push_back({base_ + g->start, base_ + g->end});
    }
    stack_.resize(65536);
    alt_stack_.resize(65536);
    stack_t alt{};
    alt.ss_sp = alt_stack_.data();
    alt.ss_size = alt_stack_.size();
    ASSERT_EQ(sigaltstack(&alt, nullptr), 0);
    struct sigaction action {};
    action.sa_sigaction = OnStep;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    ASSERT_EQ(sigaction(SIGTRAP, &action, &old_action_), 0);
  }
  void TearDown() override {
    sigaction(SIGTRAP, &old_action_, nullptr);
    stack_t alt{};
    alt.ss_flags = SS_DISABLE;
    sigaltstack(&alt, nullptr);
    munmap(reinterpret_cast<void*>(base_), 2 * kPageSize + kTrampolines);
    close(file_);
    close(patched_file_);
  }

  void Map(int fd, off_t offset, uint64_t address, size_t size, int protection) {
    ASSERT_EQ(mmap(reinterpret_cast<void*>(address), size, protection, MAP_SHARED | MAP_FIXED, fd, offset),
              reinterpret_cast<void*>(address));
  }

  PatchRequest Request() {
    PatchRequest request;
    request.text = std::span(patch_guest_page, kPageSize);
    request.text_address = base_;
    request.functions = functions_;
    request.page = base_;
    request.trampolines = base_ + 2 * kPageSize;
    request.trampoline_space = kTrampolines;
    request.entry = reinterpret_cast<uint64_t>(&FakeStubEntry);
    return request;
  }

  // As the platform does it: the trampolines first, then another page in the place of the text.
  void Install(const PatchedPage& page) {
    ASSERT_EQ(page.bytes.size(), kPageSize);
    ASSERT_EQ(pwrite(patched_file_, page.bytes.data(), kPageSize, 0), static_cast<ssize_t>(kPageSize));
    ASSERT_EQ(ftruncate(patched_file_, kPageSize + kTrampolines), 0);
    ASSERT_EQ(pwrite(patched_file_, page.trampolines.data(), page.trampolines.size(), kPageSize),
              static_cast<ssize_t>(page.trampolines.size()));
    Map(patched_file_, kPageSize, page.trampoline_address, kTrampolines, PROT_READ | PROT_EXEC);
    Map(patched_file_, 0, base_, kPageSize, PROT_READ | PROT_EXEC);
  }

  Outcome Run(const Guest& guest, uint64_t extra_flags) {
    std::fill(stack_.begin(), stack_.end(), 0x5a);
    auto* data = reinterpret_cast<uint8_t*>(base_ + kPageSize);
    for (size_t i = 0; i < kPageSize; ++i) data[i] = static_cast<uint8_t>(i * 7);
    Outcome outcome{};
    State& s = outcome.state;
    for (size_t i = 0; i < 16; ++i) s.gpr[i] = 0x1111111111111111 * (i + 1);
    s.gpr[kRsp] = reinterpret_cast<uint64_t>(stack_.data() + stack_.size() / 2);
    s.gpr[5] = static_cast<uint64_t>(-1);  // rdi: no descriptor, no address
    s.gpr[0] = 39;
    s.flags = 0x202 | 0x1 | extra_flags;
    for (int i = 0; i < 16; ++i) s.xmm0[i] = static_cast<uint8_t>(i + 100);
    g_step_count = 0;
    g_first = base_;
    g_last = base_ + 2 * kPageSize + kTrampolines;
    const uint64_t calls = fake_stub_calls;
    RunGuest(base_ + guest.start, &s);
    outcome.stub_calls = fake_stub_calls - calls;
    outcome.stack = stack_;
    outcome.data.assign(data, data + kPageSize);
    outcome.steps.assign(g_steps.begin(), g_steps.begin() + static_cast<ptrdiff_t>(g_step_count));
    return outcome;
  }

  const Site* SiteOf(const PatchedPage& page, const Guest& guest) {
    for (const Site& site : page.sites) {
      if (site.address >= base_ + guest.start && site.address < base_ + guest.end) return &site;
    }
    return nullptr;
  }

  uint64_t base_ = 0;
  int file_ = -1, patched_file_ = -1;
  std::vector<CodeRange> functions_;
  std::vector<uint8_t> stack_, alt_stack_;
  struct sigaction old_action_ {};
};

const std::set<std::string> kStay = {"no_padding",        "target_inside", "target_of_another", "call_before",
                                     "first_instruction", "fallen_into",   "hopped_over",       "behind_hops"};

TEST_F(Native, PatchesEveryFormAndLeavesTheRest) {
  const PatchedPage page = PatchPage(Request());
  const std::map<std::string, SiteKind> kinds = {
      {"mov_eax", SiteKind::kImmediate},        {"mov_rax", SiteKind::kImmediate},
      {"loops", SiteKind::kImmediate},          {"mov_r8d", SiteKind::kCopied},
      {"mov_stack", SiteKind::kCopied},         {"lea_rip", SiteKind::kCopied},
      {"store_vector", SiteKind::kCopied},      {"xor_eax", SiteKind::kViaPadding},
      {"mov_r10", SiteKind::kViaPadding},       {"xor_sil", SiteKind::kViaPadding},
      {"falls_through", SiteKind::kViaPadding}, {"nop_inside", SiteKind::kViaPadding},
      {"hops", SiteKind::kViaPadding},
  };
  for (const Guest* g = patch_guests_begin; g != patch_guests_end; ++g) {
    const Site* site = SiteOf(page, *g);
    EXPECT_EQ(site == nullptr, kStay.count(g->name) == 1) << g->name;
    if (site != nullptr) {
      EXPECT_EQ(site->hop_count, std::string(g->name) == "hops" ? 2 : 0) << g->name;
    }
    auto kind = kinds.find(g->name);
    if (site != nullptr && kind != kinds.end()) {
      EXPECT_EQ(site->kind, kind->second) << g->name;
    }
  }
  std::multiset<Refusal> refusals;
  for (const RefusedSite& r : page.refused) refusals.insert(r.reason);
  EXPECT_EQ(refusals, (std::multiset<Refusal>{Refusal::kNoPadding, Refusal::kNotProven, Refusal::kTargetInside,
                                              Refusal::kNotRelocatable, Refusal::kFirst}));
}

TEST_F(Native, PatchedCodeDoesWhatTheOriginalDid) {
  std::map<std::string, Outcome> before;
  for (const Guest* g = patch_guests_begin; g != patch_guests_end; ++g) before[g->name] = Run(*g, 0);
  const PatchedPage page = PatchPage(Request());
  Install(page);
  for (const Guest* g = patch_guests_begin; g != patch_guests_end; ++g) {
    SCOPED_TRACE(g->name);
    const Outcome& native = before[g->name];
    const Outcome patched = Run(*g, 0);
    for (int i = 0; i < 16; ++i) {
      if (i != kRcx && i != kR11) {
        EXPECT_EQ(patched.state.gpr[i], native.state.gpr[i]) << "register " << i;
      }
    }
    EXPECT_EQ(patched.state.flags, native.state.flags);
    EXPECT_EQ(std::memcmp(patched.state.xmm0, native.state.xmm0, 16), 0);
    EXPECT_EQ(patched.stack, native.stack);
    EXPECT_EQ(patched.data, native.data);
    EXPECT_EQ(native.stub_calls, 0u);
    EXPECT_EQ(patched.stub_calls > 0, kStay.count(g->name) == 0);
  }
}

// At every instruction of a patched function, the position that FindOriginal gives and the registers are those of the
// original at the same point.
TEST_F(Native, EveryPositionMapsToTheOriginal) {
  std::map<std::string, Outcome> before;
  for (const Guest* g = patch_guests_begin; g != patch_guests_end; ++g) before[g->name] = Run(*g, kTrapFlag);
  const PatchedPage page = PatchPage(Request());
  Install(page);
  std::set<uint64_t> after;  // the host shows this step only where the call was not made by a `syscall` here
  for (const Site& site : page.sites) after.insert(site.after());
  for (const Guest* g = patch_guests_begin; g != patch_guests_end; ++g) {
    SCOPED_TRACE(g->name);
    auto without_after = [&](std::vector<Step> steps) {
      std::erase_if(steps, [&](const Step& s) { return after.count(s.rip) != 0; });
      return steps;
    };
    const std::vector<Step> native = without_after(before[g->name].steps);
    const std::vector<Step> patched = without_after(Run(*g, kTrapFlag).steps);
    ASSERT_FALSE(native.empty());
    size_t at = 0;
    bool called = false;  // rcx and r11 are the stub's
    uint64_t previous = 0;
    for (size_t i = 0; i < patched.size(); ++i) {
      Step step = patched[i];
      bool rcx_lost = called;
      bool same_as_before = false;
      if (auto original = FindOriginal(page, step.rip)) {
        rcx_lost |= original->rcx_lost;
        step.rip = original->rip;
        same_as_before = original->rip == previous;
        if (original->rcx_lost) called = true;
      } else {
        ASSERT_LT(step.rip, base_ + kPageSize);
        // A no-op that became a jump ends where it ended.
      }
      if (!same_as_before && i != 0) ++at;
      ASSERT_LT(at, native.size());
      EXPECT_EQ(step.rip - base_, native[at].rip - base_) << "step " << i;
      previous = step.rip;
      for (int r = 0; r < 16; ++r) {
        if (r == kRcx && rcx_lost) continue;
        if (r == kR11 && called) continue;
        EXPECT_EQ(step.gpr[r], native[at].gpr[r]) << "step " << i << " register " << r;
      }
      EXPECT_EQ(step.flags, native[at].flags);
    }
    EXPECT_EQ(at + 1, native.size());
  }
}

TEST_F(Native, ReadsCanBeGivenTheOriginalBytes) {
  const PatchedPage page = PatchPage(Request());
  ASSERT_NE(std::memcmp(page.bytes.data(), patch_guest_page, kPageSize), 0);
  std::vector<uint8_t> bytes = page.bytes;
  RestoreOriginal(page, 0, bytes);
  EXPECT_EQ(std::memcmp(bytes.data(), patch_guest_page, kPageSize), 0);
  for (size_t size : {1, 2, 3, 7, 64}) {
    for (size_t at = 0; at + size <= kPageSize; at += size) {
      std::vector<uint8_t> part(page.bytes.begin() + static_cast<ptrdiff_t>(at),
                                page.bytes.begin() + static_cast<ptrdiff_t>(at + size));
      RestoreOriginal(page, at, part);
      ASSERT_EQ(std::memcmp(part.data(), patch_guest_page + at, size), 0) << at;
    }
  }
  std::vector<uint8_t> behind(10, 1);
  RestoreOriginal(page, kPageSize, behind);
  RestoreOriginal(page, UINT64_MAX, behind);
  EXPECT_EQ(behind, std::vector<uint8_t>(10, 1));
}

}  // namespace
}  // namespace platform::patch

// The register canary: a guest that checks all of its registers around every way into the sentry and back, while it is
// interrupted 10,000 times a second.
#include <cpuid.h>
#include <immintrin.h>
#include <signal.h>

#include <cstring>
#include <optional>

#include "platform/tests/guest.h"

namespace platform {
namespace {

// What r15 points at in guest_code.S.
struct CanaryBlock {
  uint64_t fault_page;
  uint64_t rsp;
  uint64_t flags_to_set;
  uint64_t flags_to_find;
  uint64_t scratch0;
  uint16_t fcw;
  uint16_t unused0;
  uint32_t mxcsr;
  uint64_t scratch1;
  uint64_t rounds;
  uint64_t pkru;
  uint64_t has_pkru;
  uint64_t entry;
  uint64_t unused1[5];
  uint64_t scratch2[8];
  uint64_t unused2[8];
  uint64_t vectors[32][8];
  uint64_t masks[8];
};
static_assert(offsetof(CanaryBlock, vectors) == 256 && offsetof(CanaryBlock, masks) == 2304);
static_assert(offsetof(CanaryBlock, mxcsr) == 44 && offsetof(CanaryBlock, rounds) == 56);
static_assert(offsetof(CanaryBlock, entry) == 80);

bool HasPkru() {
  unsigned a, b, c, d;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c & (1u << 4));  // OSPKE
}

enum class Vectors { k128, k256, k512 };

bool HostHas(Vectors v) {
  const uint64_t features = XStateFeatures();
  if (v == Vectors::k256) return features & 4;
  // opmask, the upper halves, the upper sixteen; kmovq needs AVX512BW
  if (v == Vectors::k512) return (features & 0xe0) == 0xe0 && __builtin_cpu_supports("avx512bw");
  return true;
}

constexpr uint64_t kFaultPage = 0x20000000;
constexpr uint64_t kBadNumber = 12345;

class Canary : public PlatformTest {
 protected:
  void RunCanary(const std::string& code, uint64_t want_rounds, int want_interrupts) {
    auto as = SpaceWith(code);
    const FileRange fault_page = FileOf("");
    CanaryBlock block{};
    block.fault_page = kFaultPage;
    block.rsp = kDataAddress + kPageSize - 64;
    // CF PF AF ZF SF DF OF AC, of which the guest may set all
    block.flags_to_set = 0x1 | 0x4 | 0x10 | 0x40 | 0x80 | 0x400 | 0x800;
    block.flags_to_find = block.flags_to_set | 0x202;
    block.fcw = 0x0a7f;    // rounding up, double precision
    block.mxcsr = 0x3f80;  // rounding down
    block.has_pkru = HasPkru();
    block.pkru = 0x55555554;
    block.entry = GetParam().entry;
    for (int i = 0; i < 32; ++i) {
      for (int j = 0; j < 8; ++j) block.vectors[i][j] = 0x9e3779b97f4a7c15 * (i * 8 + j + 1);
    }
    for (int i = 0; i < 8; ++i) block.masks[i] = 0xc2b2ae3d27d4eb4f * (i + 1);
    ASSERT_TRUE(file_->Write(data_.start, std::as_bytes(std::span(&block, 1))).ok());

    auto context = ContextAt(kCodeAddress);
    Registers& r = context->registers();
    r.r15 = kDataAddress;
    r.rsp = block.rsp;

    std::optional<Interruptions> interruptions(std::in_place, *context);

    uint64_t calls = 0;
    int interrupts = 0, faults = 0, exceptions = 0;
    bool good = true;
    while (good && (calls < want_rounds || interrupts < want_interrupts)) {
      Exit exit = RunGuest(*context, *as);
      switch (exit.reason) {
        case ExitReason::kSystemCall:
          good = r.orig_rax == 500 && r.rsp == block.rsp && r.r15 == kDataAddress;
          r.rax = kBadNumber;
          if (++calls % 7 == 0) {
            MapOp op = UnmapOf(kFaultPage, kPageSize);
            good = good && as->Apply({&op, 1}).ok();
          }
          if (calls % 100 == 0) (void)context->XState();
          if (calls % 150 == 0) {
            // There and back through the sentry's copy.
            auto area = context->XState();
            std::vector<std::byte> copy(area.begin(), area.end());
            context->SetXState(copy);
          }
          break;
        case ExitReason::kInterrupted:
          ++interrupts;
          break;
        case ExitReason::kFault: {
          ++faults;
          good = exit.address == kFaultPage && exit.access == AccessType::kWrite;
          MapOp op = MapOf(*file_, kFaultPage, fault_page, kR | kW);
          good = good && as->Apply({&op, 1}).ok();
          break;
        }
        case ExitReason::kException:
          ++exceptions;
          if (exit.signo == SIGILL) {
            r.rip += 2;
          } else {
            good = exit.signo == SIGTRAP;
          }
          break;
        case ExitReason::kDead:
          good = false;
          break;
      }
      if (!good) {
        ADD_FAILURE() << "reason " << static_cast<int>(exit.reason) << " signal " << exit.signo << " rip +"
                      << r.rip - kCodeAddress << " check " << r.rax << " rcx " << std::hex << r.rcx;
      }
    }
    interruptions.reset();
    EXPECT_GE(ReadWord(data_.start + offsetof(CanaryBlock, rounds)), calls - 1);
    EXPECT_GT(faults, 0);
    EXPECT_GT(exceptions, 0);
    context.reset();
    as->Release();
  }
};
INSTANTIATE_TEST_SUITE_P(All, Canary, ::testing::ValuesIn(Factories()),
                         [](const auto& info) { return info.param.name; });

TEST_P(Canary, Sse) {
  REQUIRE_CODE();
  InFiber([&] { RunCanary(BLOB_OF(canary128), 3000, 3000); });
}

TEST_P(Canary, Avx) {
  REQUIRE_CODE();
  if (!HostHas(Vectors::k256)) GTEST_SKIP() << "the host has no AVX";
  InFiber([&] { RunCanary(BLOB_OF(canary256), 3000, 3000); });
}

TEST_P(Canary, Avx512) {
  REQUIRE_CODE();
  if (!HostHas(Vectors::k512)) GTEST_SKIP() << "the host has no AVX-512";
  InFiber([&] { RunCanary(BLOB_OF(canary512), 3000, 3000); });
}

// The same with system calls by a jump.
#define REQUIRE_ENTRY() \
  if (GetParam().entry == 0) GTEST_SKIP() << "the platform has no entry for patched call sites"

TEST_P(Canary, SseByAJump) {
  REQUIRE_ENTRY();
  InFiber([&] { RunCanary(BLOB_OF(canary128_jump), 3000, 3000); });
}

TEST_P(Canary, AvxByAJump) {
  REQUIRE_ENTRY();
  if (!HostHas(Vectors::k256)) GTEST_SKIP() << "the host has no AVX";
  InFiber([&] { RunCanary(BLOB_OF(canary256_jump), 3000, 3000); });
}

TEST_P(Canary, Avx512ByAJump) {
  REQUIRE_ENTRY();
  if (!HostHas(Vectors::k512)) GTEST_SKIP() << "the host has no AVX-512";
  InFiber([&] { RunCanary(BLOB_OF(canary512_jump), 3000, 3000); });
}

// While executor and guest thread, on two CPUs, spin for each other now and then.
TEST_P(Canary, SseOnTwoCpus) {
  REQUIRE_CODE();
  StartScheduler(2, true);
  InFiber([&] { RunCanary(BLOB_OF(canary128), 6000, 2000); });
}

TEST_P(Canary, AvxByAJumpOnTwoCpus) {
  REQUIRE_ENTRY();
  if (!HostHas(Vectors::k256)) GTEST_SKIP() << "the host has no AVX";
  StartScheduler(2, true);
  InFiber([&] { RunCanary(BLOB_OF(canary256_jump), 6000, 2000); });
}

}  // namespace
}  // namespace platform

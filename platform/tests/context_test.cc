// What a Context reports: system calls, faults, exceptions.
#include <signal.h>

#include <cstring>
#include <random>

#include "platform/tests/guest.h"

namespace platform {
namespace {

class ContextTest : public PlatformTest {};
INSTANTIATE_TEST_SUITE_P(All, ContextTest, ::testing::ValuesIn(Factories()),
                         [](const auto& info) { return info.param.name; });

TEST_P(ContextTest, ASystemCallArrivesWithItsArgumentsAndTheResultGoesBack) {
  REQUIRE_CODE();
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(syscall_loop));
    auto context = ContextAt(kCodeAddress);
    Registers& r = context->registers();
    r.rax = 1;
    r.rdi = 2, r.rsi = 3, r.rdx = 4, r.r10 = 5, r.r8 = 6, r.r9 = 7;
    Exit exit = RunGuest(*context, *as);
    ASSERT_EQ(exit.reason, ExitReason::kSystemCall);
    EXPECT_EQ(r.orig_rax, 1u);
    EXPECT_EQ(r.rax, static_cast<uint64_t>(-ENOSYS));
    EXPECT_EQ(r.rip, kCodeAddress + 2);
    EXPECT_EQ(r.rcx, r.rip);
    EXPECT_EQ(r.r11, r.rflags);
    EXPECT_EQ(r.rdi, 2u);
    EXPECT_EQ(r.rsi, 3u);
    EXPECT_EQ(r.rdx, 4u);
    EXPECT_EQ(r.r10, 5u);
    EXPECT_EQ(r.r8, 6u);
    EXPECT_EQ(r.r9, 7u);
    for (uint64_t i = 0; i < 100; ++i) {
      r.rax = i;  // the result of the last call is the number of the next
      exit = RunGuest(*context, *as);
      ASSERT_EQ(exit.reason, ExitReason::kSystemCall);
      ASSERT_EQ(r.orig_rax, i);
    }
    context.reset();
    as->Release();
  });
}

TEST_P(ContextTest, ResultsThatLookLikeTheHostsRestartCodesGoThroughUnchanged) {
  REQUIRE_CODE();
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(syscall_loop));
    auto context = ContextAt(kCodeAddress);
    for (int64_t code = -530; code < -500; ++code) {
      context->registers().rax = static_cast<uint64_t>(code);
      ASSERT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
      EXPECT_EQ(context->registers().orig_rax, static_cast<uint64_t>(code));
      EXPECT_EQ(context->registers().rip, kCodeAddress + 2);
    }
  });
}

TEST_P(ContextTest, FaultsTellAddressAndAccess) {
  REQUIRE_CODE();
  InFiber([&] {
    struct Case {
      std::string code;
      AccessType access;
    };
    const uint64_t target = 0x20000123;
    for (const Case& c : {Case{BLOB_OF(load), AccessType::kRead}, Case{BLOB_OF(store), AccessType::kWrite},
                          Case{BLOB_OF(jump), AccessType::kExecute}}) {
      auto as = SpaceWith(c.code);
      auto context = ContextAt(kCodeAddress);
      context->registers().rdi = target;
      Exit exit = RunGuest(*context, *as);
      ASSERT_EQ(exit.reason, ExitReason::kFault);
      EXPECT_EQ(exit.address, target);
      EXPECT_EQ(exit.access, c.access);
      EXPECT_EQ(exit.trap_number, 14u);
      EXPECT_EQ(context->registers().rip, c.access == AccessType::kExecute ? target : kCodeAddress);
      as->Release();
    }
  });
}

TEST_P(ContextTest, AFaultThatIsServedIsRetried) {
  REQUIRE_CODE();
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(store));
    auto context = ContextAt(kCodeAddress);
    context->registers().rdi = 0x20000008;
    ASSERT_EQ(RunGuest(*context, *as).reason, ExitReason::kFault);
    FileRange page = FileOf("");
    MapOp op = MapOf(*file_, 0x20000000, page, kR | kW);
    ASSERT_TRUE(as->Apply({&op, 1}).ok());
    ASSERT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
    EXPECT_EQ(ReadWord(page.start + 8), 42u);
  });
}

TEST_P(ContextTest, AStoreToAReadOnlyPageIsAWriteAtTheLatestTheSecondTime) {
  REQUIRE_CODE();
  InFiber([&] {
    for (const std::string& code : {BLOB_OF(store), BLOB_OF(odd_store)}) {
      auto as = SpaceWith(code);
      MapOp op = ProtectOf(kDataAddress, kPageSize, kR);
      ASSERT_TRUE(as->Apply({&op, 1}).ok());
      auto context = ContextAt(kCodeAddress);
      context->registers().rdi = kDataAddress;
      Exit exit = RunGuest(*context, *as);
      ASSERT_EQ(exit.reason, ExitReason::kFault);
      if (exit.access == AccessType::kRead) {
        exit = RunGuest(*context, *as);
        ASSERT_EQ(exit.reason, ExitReason::kFault);
      }
      EXPECT_EQ(exit.access, AccessType::kWrite);
      op = ProtectOf(kDataAddress, kPageSize, kR | kW);
      ASSERT_TRUE(as->Apply({&op, 1}).ok());
      ASSERT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
      as->Release();
    }
  });
}

TEST_P(ContextTest, ExceptionsCarryTheSignalThatLinuxSends) {
  REQUIRE_CODE();
  InFiber([&] {
    struct Case {
      const char* name;
      std::string code;
      int signo, si_code;
      uint64_t address, rip;
    };
    const Case cases[] = {
        {"ud2", BLOB_OF(ud2), SIGILL, ILL_ILLOPN, kCodeAddress, kCodeAddress},
        {"div", BLOB_OF(divide), SIGFPE, FPE_INTDIV, kCodeAddress + 4, kCodeAddress + 4},
        {"int3", BLOB_OF(int3), SIGTRAP, SI_KERNEL, 0, kCodeAddress + 1},
        {"hlt", BLOB_OF(hlt), SIGSEGV, SI_KERNEL, 0, kCodeAddress},
        {"int80", BLOB_OF(int80), SIGSEGV, SI_KERNEL, 0, kCodeAddress},
        {"noncanonical", BLOB_OF(noncanonical), SIGSEGV, SI_KERNEL, 0, kCodeAddress + 10},
    };
    for (const Case& c : cases) {
      auto as = SpaceWith(c.code);
      auto context = ContextAt(kCodeAddress);
      context->registers().rax = 20;
      Exit exit = RunGuest(*context, *as);
      EXPECT_EQ(exit.reason, ExitReason::kException) << c.name;
      EXPECT_EQ(exit.signo, c.signo) << c.name;
      EXPECT_EQ(exit.si_code, c.si_code) << c.name;
      EXPECT_EQ(exit.address, c.address) << c.name;
      EXPECT_EQ(context->registers().rip, c.rip) << c.name;
      as->Release();
    }
  });
}

TEST_P(ContextTest, HostileRegistersHarmOnlyTheGuest) {
  REQUIRE_CODE();
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(syscall_loop));
    auto context = ContextAt(kCodeAddress);
    std::mt19937_64 random(1);
    const uint64_t odd[] = {0,
                            1,
                            0x23,
                            0x2b,
                            0x33,
                            0xffff,
                            ~uint64_t{0},
                            uint64_t{1} << 63,
                            0x7fffffffffff,
                            0x800000000000,
                            0xffff800000000000,
                            0xffffffffff600000,
                            platform_->GuestRange().end,
                            kCodeAddress,
                            kDataAddress};
    int alive = 0;
    for (int i = 0; i < 3000; ++i) {
      Registers& r = context->registers();
      uint64_t words[sizeof(Registers) / 8];
      for (uint64_t& w : words) w = random() % 3 == 0 ? random() : odd[random() % std::size(odd)];
      memcpy(&r, words, sizeof(r));
      if (i % 2) {
        SanitizeRegisters(r);
        r.rip = kCodeAddress;
      }
      if (r.rip != kCodeAddress) context->Interrupt();  // it may have found a place to spin
      Exit exit = RunGuest(*context, *as);
      ASSERT_NE(exit.reason, ExitReason::kDead);
      if (i % 2) {
        // The trap flag is the guest's to set.
        EXPECT_TRUE(exit.reason == ExitReason::kSystemCall || exit.signo == SIGTRAP);
      }
      ++alive;
    }
    EXPECT_EQ(alive, 3000);
    as->Release();
  });
}

TEST_P(ContextTest, HostileVectorStateHarmsOnlyTheGuest) {
  REQUIRE_CODE();
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(syscall_loop));
    auto context = ContextAt(kCodeAddress);
    std::mt19937_64 random(2);
    std::vector<std::byte> area(XStateSize());
    for (int i = 0; i < 1000; ++i) {
      for (std::byte& b : area) b = static_cast<std::byte>(random());
      if (i % 2) memset(area.data() + 512 + 8, 0, 56);
      const uint32_t given = i % 3 ? XStateSize() : random() % XStateSize();
      if (SanitizeXState(area.data(), given)) context->SetXState(area);
      if (i % 7 == 0) context->SetXState(area);  // also what is not clean
      ASSERT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
    }
    as->Release();
  });
}

TEST_P(ContextTest, SegmentBasesAreTheGuests) {
  REQUIRE_CODE();
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(segments));
    WriteWord(data_.start + 8, 88);
    WriteWord(data_.start + 16, 99);
    auto context = ContextAt(kCodeAddress);
    context->registers().fs_base = kDataAddress + 8;
    context->registers().gs_base = kDataAddress + 16;
    ASSERT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
    EXPECT_EQ(context->registers().orig_rax, 88u);
    EXPECT_EQ(context->registers().rbx, 99u);
    EXPECT_EQ(context->registers().fs_base, kDataAddress + 8);
    EXPECT_EQ(context->registers().gs_base, kDataAddress + 16);
  });
}

TEST_P(ContextTest, SingleStepStopsAfterEachInstruction) {
  REQUIRE_CODE();
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(nops));
    auto context = ContextAt(kCodeAddress);
    context->SetSingleStep(true);
    for (uint64_t i = 1; i <= 3; ++i) {
      Exit exit = RunGuest(*context, *as);
      ASSERT_EQ(exit.reason, ExitReason::kException);
      EXPECT_EQ(exit.signo, SIGTRAP);
      EXPECT_EQ(exit.si_code, TRAP_TRACE);
      EXPECT_EQ(context->registers().rip, kCodeAddress + i);
      EXPECT_EQ(context->registers().rflags & 0x100, 0u);
    }
    context->SetSingleStep(false);
    EXPECT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
  });
}

}  // namespace
}  // namespace platform

// AddressSpace::Renew: an exec that keeps what the host has.
#include <signal.h>

#include <cstring>
#include <optional>
#include <random>

#include "platform/tests/guest.h"

namespace platform {
namespace {

constexpr uint64_t kNewCode = 0x500000, kNewData = 0x30000000;
constexpr uint64_t kStateOffset = 1024;  // where guest_report has the vector state
constexpr uint64_t kXsaveHeader = 512;

class RenewTest : public PlatformTest {
 protected:
  // What the next program has: its code, and a page of data, data_.
  std::vector<MapOp> Program(const std::string& code) {
    data_ = FileOf("");
    return {MapOf(*file_, kNewCode, FileOf(code), kR | kX), MapOf(*file_, kNewData, data_, kR | kW)};
  }
  // Null where the platform does not renew; then nothing has happened.
  base::RefPtr<AddressSpace> Renew(AddressSpace& as, Context& context, const std::string& code) {
    auto ops = Program(code);
    const bool can = as.CanRenew(context);
    auto renewed = as.Renew(context, ops);
    EXPECT_EQ(can, !renewed.failed_with(ENOTSUP));
    if (renewed.failed_with(ENOTSUP)) return nullptr;
    EXPECT_TRUE(renewed.ok());
    return renewed.ok() ? std::move(*renewed) : nullptr;
  }
  static void SetReportRegisters(Registers& r) {
    r = {};
    r.cs = 0x33;
    r.ss = 0x2b;
    r.rflags = 0x202;
    r.rip = kNewCode;
    r.rsp = kNewData + 1000;
    r.rdi = kNewData;
    r.rax = XStateFeatures() & 0xffffffff;
    r.rdx = XStateFeatures() >> 32;
  }
  std::vector<std::byte> RunReport(Context& context, AddressSpace& as) {
    SetReportRegisters(context.registers());
    EXPECT_EQ(RunGuest(context, as).reason, ExitReason::kSystemCall);
    EXPECT_EQ(context.registers().fs_base, 0u);
    EXPECT_EQ(context.registers().gs_base, 0u);
    std::vector<std::byte> page(kPageSize);
    EXPECT_TRUE(file_->Read(data_.start, page).ok());
    // Which components the processor knows to be initial is its own affair.
    memset(page.data() + kStateOffset + kXsaveHeader, 0, 8);
    return page;
  }
  std::vector<std::byte> FreshReport() {
    auto as = NewSpace();
    auto ops = Program(BLOB_OF(report));
    EXPECT_TRUE(as->Apply(ops).ok());
    auto context = NewContext();
    std::vector<std::byte> page = RunReport(*context, *as);
    context.reset();
    as->Release();
    return page;
  }
  // A program that has been everywhere: odd selectors and flags, noise in the vector registers.
  void RunOdd(Context& context, AddressSpace& as, uint64_t entry) {
    std::mt19937_64 random(5);
    std::vector<std::byte> area(XStateSize());
    for (std::byte& b : area) b = static_cast<std::byte>(random());
    const uint64_t features = XStateFeatures();
    memset(area.data() + kXsaveHeader, 0, 64);
    memcpy(area.data() + kXsaveHeader, &features, sizeof(features));
    const uint16_t fcw = 0x0a7f;
    memcpy(area.data(), &fcw, sizeof(fcw));
    const uint32_t mxcsr = 0x3f80;
    memcpy(area.data() + 24, &mxcsr, sizeof(mxcsr));
    EXPECT_TRUE(SanitizeXState(area.data(), XStateSize()));
    context.SetXState(area);
    Registers& r = context.registers();
    for (uint64_t* reg : {&r.r15, &r.r14, &r.r13, &r.r12, &r.rbx, &r.r11, &r.r10, &r.r9, &r.r8, &r.rdx, &r.rsi, &r.rdi})
      *reg = random();
    r.rax = 500;
    r.rbp = entry;
    for (int i = 0; i < 3; ++i) {
      ASSERT_EQ(RunGuest(context, as).reason, ExitReason::kSystemCall);
      EXPECT_EQ(r.orig_rax, 500u);
      r.rax = 500;
    }
  }
};
INSTANTIATE_TEST_SUITE_P(All, RenewTest, ::testing::ValuesIn(Factories()),
                         [](const auto& info) { return info.param.name; });

TEST_P(RenewTest, ANewProgramStartsWithInitialState) {
  REQUIRE_CODE();
  InFiber([&] {
    const std::vector<std::byte> want = FreshReport();
    for (uint64_t entry : {uint64_t{0}, GetParam().entry}) {
      auto as = SpaceWith(BLOB_OF(odd_selectors));
      auto context = ContextAt(kCodeAddress);
      RunOdd(*context, *as, entry);
      for (int i = 0; i < 2; ++i) {
        auto fresh = Renew(*as, *context, BLOB_OF(report));
        if (!fresh) break;
        EXPECT_EQ(RunReport(*context, *fresh), want) << entry << " " << i;
        as = fresh;
      }
      context.reset();
      as->Release();
    }
  });
}

TEST_P(RenewTest, OnlyTheNewProgramIsThere) {
  REQUIRE_CODE();
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(syscall_loop));
    auto context = ContextAt(kCodeAddress);
    ASSERT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
    const MapOp more = MapOf(*file_, 0x600000, FileOf(""), kR | kW);
    ASSERT_TRUE(as->Apply({&more, 1}).ok());
    auto fresh = Renew(*as, *context, BLOB_OF(load));
    if (!fresh) {
      EXPECT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
      GTEST_SKIP() << "not on this platform";
    }
    EXPECT_TRUE(as->Apply({&more, 1}).failed_with(ESRCH));
    as->Release();
    for (uint64_t address : {kCodeAddress, kDataAddress, uint64_t{0x600000}}) {
      SetReportRegisters(context->registers());
      context->registers().rdi = address;
      Exit exit = RunGuest(*context, *fresh);
      EXPECT_EQ(exit.reason, ExitReason::kFault);
      EXPECT_EQ(exit.address, address);
    }
    WriteWord(data_.start, 77);
    SetReportRegisters(context->registers());
    EXPECT_EQ(RunGuest(*context, *fresh).reason, ExitReason::kSystemCall);
    EXPECT_EQ(context->registers().orig_rax, 77u);
    ASSERT_TRUE(fresh->Apply({&more, 1}).ok());
    context->registers().rip = kNewCode;
    context->registers().rdi = more.start;
    EXPECT_EQ(RunGuest(*context, *fresh).reason, ExitReason::kSystemCall);
    context.reset();
    fresh->Release();
  });
}

TEST_P(RenewTest, AnAddressSpaceWithTwoThreadsStaysAsItIs) {
  REQUIRE_CODE();
  InFiber([&] {
    Guest g = SystemCallGuest();
    auto other = ContextAt(kCodeAddress);
    ASSERT_EQ(g.Run().reason, ExitReason::kSystemCall);
    ASSERT_EQ(RunGuest(*other, *g.as).reason, ExitReason::kSystemCall);
    auto ops = Program(BLOB_OF(report));
    EXPECT_FALSE(g.as->CanRenew(*g.context));
    EXPECT_TRUE(g.as->Renew(*g.context, ops).failed_with(ENOTSUP));
    // Nor does one of a context that is not of it.
    auto stranger = ContextAt(kCodeAddress);
    EXPECT_TRUE(g.as->Renew(*stranger, ops).failed_with(ENOTSUP));
    ASSERT_EQ(g.Run().reason, ExitReason::kSystemCall);
    ASSERT_EQ(RunGuest(*other, *g.as).reason, ExitReason::kSystemCall);
    g.context.reset();
    other.reset();
    g.as->Release();
    auto released = ContextAt(kCodeAddress);
    EXPECT_TRUE(g.as->Renew(*released, ops).failed_with(ENOTSUP));
  });
}

TEST_P(RenewTest, AFailureEndsTheAddressSpace) {
  REQUIRE_CODE();
  InFiber([&] {
    Guest witness = SystemCallGuest();
    Guest g = SystemCallGuest();
    ASSERT_EQ(g.Run().reason, ExitReason::kSystemCall);
    auto ops = Program(BLOB_OF(syscall_loop));
    ops[1].fd = 99'999;
    auto renewed = g.as->Renew(*g.context, ops);
    if (!renewed.failed_with(ENOTSUP)) {
      EXPECT_TRUE(renewed.failed_with(EBADF));
      EXPECT_EQ(g.Run().reason, ExitReason::kDead);
    }
    ASSERT_EQ(witness.Run().reason, ExitReason::kSystemCall);
    for (Guest* guest : {&witness, &g}) {
      guest->context.reset();
      guest->as->Release();
    }
  });
}

TEST_P(RenewTest, AnInterruptThatCameBeforeIsTheNewPrograms) {
  REQUIRE_CODE();
  InFiber([&] {
    Guest g = SystemCallGuest();
    ASSERT_EQ(g.Run().reason, ExitReason::kSystemCall);
    g.context->Interrupt();
    auto fresh = Renew(*g.as, *g.context, BLOB_OF(report));
    if (!fresh) GTEST_SKIP() << "not on this platform";
    SetReportRegisters(g.context->registers());
    EXPECT_EQ(RunGuest(*g.context, *fresh).reason, ExitReason::kInterrupted);
    EXPECT_EQ(g.context->registers().rip, kNewCode);
    EXPECT_EQ(RunGuest(*g.context, *fresh).reason, ExitReason::kSystemCall);
    g.context.reset();
    fresh->Release();
  });
}

// A thousand programs, one after the other, in calls of both kinds, while interrupts come at any time.
TEST_P(RenewTest, ManyProgramsUnderInterrupts) {
  REQUIRE_CODE();
  InFiber([&] {
    const std::vector<std::byte> want = FreshReport();
    auto as = SpaceWith(BLOB_OF(odd_selectors));
    auto context = ContextAt(kCodeAddress);
    std::optional<Interruptions> interruptions(std::in_place, *context);
    auto run = [&](AddressSpace& in) {
      for (;;) {
        const Exit exit = RunGuest(*context, in);
        if (exit.reason != ExitReason::kInterrupted) return exit.reason;
      }
    };
    Registers& r = context->registers();
    for (int i = 0; i < 1000 && !HasFailure(); ++i) {
      r.rbp = i % 2 ? GetParam().entry : 0;
      for (int call = 0; call < 3; ++call) {
        r.rax = 500 + call;
        ASSERT_EQ(run(*as), ExitReason::kSystemCall);
        ASSERT_EQ(r.orig_rax, 500u + call);
      }
      auto fresh = Renew(*as, *context, BLOB_OF(report));
      if (!fresh) break;
      as = fresh;
      SetReportRegisters(r);
      ASSERT_EQ(run(*as), ExitReason::kSystemCall);
      std::vector<std::byte> page(kPageSize);
      ASSERT_TRUE(file_->Read(data_.start, page).ok());
      memset(page.data() + kStateOffset + kXsaveHeader, 0, 8);
      ASSERT_EQ(page, want) << i;
      file_->DecRef(data_);
      fresh = Renew(*as, *context, BLOB_OF(odd_selectors));
      ASSERT_TRUE(fresh);
      as = fresh;
      SetReportRegisters(r);
    }
    interruptions.reset();
    context.reset();
    as->Release();
  });
}

}  // namespace
}  // namespace platform

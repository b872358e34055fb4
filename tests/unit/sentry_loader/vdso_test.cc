#include "sentry/loader/vdso.h"

#include <elf.h>
#include <gtest/gtest.h>
#include <link.h>
#include <sys/mman.h>

#include <cstring>
#include <thread>

#include "base/safe_copy_unsafe.h"
#include "sentry/time/conversions.h"

namespace sentry::loader {
namespace {

// The image as a guest maps it, in this process, with a TimeKeeper behind it.
class VdsoTest : public ::testing::Test {
 protected:
  using ClockGettime = int (*)(int, timespec*);

  static void SetUpTestSuite() { base::InstallSafeCopyHandlers(); }
  void SetUp() override {
    auto image = Vdso::Image();
    pages_ = static_cast<std::byte*>(
        mmap(nullptr, kPageSize + image.size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ASSERT_NE(pages_, MAP_FAILED);
    memcpy(pages_ + kPageSize, image.data(), image.size());
    ASSERT_EQ(mprotect(pages_ + kPageSize, image.size(), PROT_READ | PROT_EXEC), 0);
    time_.AddPageWriter(
        [this](uint64_t at, std::span<const std::byte> bytes) { memcpy(pages_ + at, bytes.data(), bytes.size()); });
  }
  void TearDown() override { munmap(pages_, kPageSize + Vdso::Image().size()); }

  // As programs do it: DT_HASH, names and versions.
  void* Find(const char* name) {
    auto* base = pages_ + kPageSize;
    auto* header = reinterpret_cast<Elf64_Ehdr*>(base);
    auto* ph = reinterpret_cast<Elf64_Phdr*>(base + header->e_phoff);
    Elf64_Dyn* dynamic = nullptr;
    for (int i = 0; i < header->e_phnum; ++i) {
      if (ph[i].p_type == PT_DYNAMIC) dynamic = reinterpret_cast<Elf64_Dyn*>(base + ph[i].p_vaddr);
    }
    uint32_t* hash = nullptr;
    const char* strings = nullptr;
    Elf64_Sym* symbols = nullptr;
    for (; dynamic->d_tag != DT_NULL; ++dynamic) {
      if (dynamic->d_tag == DT_HASH) hash = reinterpret_cast<uint32_t*>(base + dynamic->d_un.d_ptr);
      if (dynamic->d_tag == DT_STRTAB) strings = reinterpret_cast<char*>(base + dynamic->d_un.d_ptr);
      if (dynamic->d_tag == DT_SYMTAB) symbols = reinterpret_cast<Elf64_Sym*>(base + dynamic->d_un.d_ptr);
    }
    for (uint32_t i = 0; i < hash[1]; ++i) {
      if (strcmp(strings + symbols[i].st_name, name) == 0) return base + symbols[i].st_value;
    }
    return nullptr;
  }
  // Until the clock is calibrated.
  void Calibrate() {
    while (time_.tsc_usable()) {
      (void)time_.MonotonicNow();
      if (reinterpret_cast<runsc_vdso_page*>(pages_)->tsc_limit != 0) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    GTEST_SKIP() << "no usable TSC";
  }

  std::byte* pages_ = nullptr;
  TimeKeeper time_{4};
};

TEST_F(VdsoTest, IsOneSegmentAndHasTheFunctions) {
  for (const char* name :
       {"__vdso_clock_gettime", "__vdso_gettimeofday", "__vdso_time", "__vdso_getcpu", "__vdso_clock_getres"}) {
    EXPECT_NE(Find(name), nullptr) << name;
  }
}

TEST_F(VdsoTest, ReadsTheClocksOfTheHost) {
  Calibrate();
  auto clock_gettime_v = reinterpret_cast<ClockGettime>(Find("__vdso_clock_gettime"));
  for (int clock : {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI, CLOCK_REALTIME_COARSE,
                    CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC_RAW}) {
    int64_t before = base::HostClockNs(clock);
    timespec ts;
    ASSERT_EQ(clock_gettime_v(clock, &ts), 0);
    int64_t after = base::HostClockNs(clock);
    int64_t shown = ts.tv_sec * kNsPerSec + ts.tv_nsec;
    EXPECT_GE(shown, before - 100'000) << clock;
    EXPECT_LE(shown, after + 10'000'000) << clock;  // coarse clocks of the host lag
  }
  timespec ts;
  EXPECT_EQ(clock_gettime_v(99, &ts), -EINVAL);
}

TEST_F(VdsoTest, NeverGoesBackAcrossUpdatesAndTheOtherWay) {
  Calibrate();
  auto clock_gettime_v = reinterpret_cast<ClockGettime>(Find("__vdso_clock_gettime"));
  int64_t last = 0, end = base::MonotonicNow() + 2'500'000'000;
  uint64_t updates = 0;
  uint32_t sequence = 0;
  while (last < end) {
    timespec ts;
    ASSERT_EQ(clock_gettime_v(CLOCK_MONOTONIC, &ts), 0);
    int64_t now = ts.tv_sec * kNsPerSec + ts.tv_nsec;
    // An expired page sends it to the host's clock here; in a sandbox the sentry's own answer comes instead.
    auto* page = reinterpret_cast<volatile runsc_vdso_page*>(pages_);
    if (page->sequence != sequence) {
      ++updates;
      sequence = page->sequence;
    }
    ASSERT_GE(now, last - 20'000);
    int64_t served = time_.MonotonicNow();
    ASSERT_GE(served, now - 20'000);
    last = served;
  }
  EXPECT_GE(updates, 2u);
  EXPECT_LT(std::abs(time_.MonotonicNow() - base::MonotonicNow()), 200'000);
}

TEST_F(VdsoTest, GetcpuStaysBelowTheNumberOfCpus) {
  auto getcpu_v = reinterpret_cast<int (*)(unsigned*, unsigned*, void*)>(Find("__vdso_getcpu"));
  unsigned cpu = 99, node = 99;
  ASSERT_EQ(getcpu_v(&cpu, &node, nullptr), 0);
  EXPECT_LT(cpu, 4u);
}

TEST(TimeKeeper, ClocksAndErrors) {
  TimeKeeper time;
  EXPECT_TRUE(time.Now(2).failed_with(EINVAL));
  EXPECT_TRUE(time.Now(-5).failed_with(EINVAL));
  EXPECT_TRUE(TimeKeeper::ResolutionNs(12).failed_with(EINVAL));
  EXPECT_EQ(TimeKeeper::ResolutionNs(5).value_or(0), 4'000'000);
  int64_t now = time.RealtimeNow();
  int64_t deadline = *time.HostDeadline(kClockRealtime, now + kNsPerSec);
  EXPECT_NEAR(static_cast<double>(deadline - base::MonotonicNow()), 1e9, 1e8);
  EXPECT_EQ(*time.HostDeadline(kClockMonotonic, kMaxNs), base::kNever);
  int64_t past = *time.HostDeadline(kClockMonotonic, 5);
  EXPECT_LE(past, base::MonotonicNow());
  time.SetOffsets(0, -1'000'000'000, 0);
  EXPECT_LT(time.MonotonicNow(), base::MonotonicNow() - 900'000'000);
}

TEST(Conversions, ValidateWhatGuestsGive) {
  EXPECT_EQ(ToNs(abi::Timespec{1, 5}).value_or(0), 1'000'000'005);
  EXPECT_TRUE(ToNs(abi::Timespec{-1, 0}).failed_with(EINVAL));
  EXPECT_TRUE(ToNs(abi::Timespec{0, 1'000'000'000}).failed_with(EINVAL));
  EXPECT_TRUE(ToNs(abi::Timespec{0, -1}).failed_with(EINVAL));
  EXPECT_EQ(ToNs(abi::Timespec{INT64_MAX, 0}).value_or(0), kMaxNs);
  EXPECT_TRUE(ToNs(abi::Timeval{0, 1'000'000}).failed_with(EINVAL));
  EXPECT_EQ(ToTimespec(-1).tv_sec, -1);
  EXPECT_EQ(ToTimespec(-1).tv_nsec, 999'999'999);
  EXPECT_EQ(AddSaturated(kMaxNs - 1, 5), kMaxNs);
}

}  // namespace
}  // namespace sentry::loader

#include "platform/memory_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <random>
#include <vector>

#include "base/charged_memory.h"
#include "base/safe_copy_unsafe.h"

namespace platform {
namespace {

constexpr uint64_t kMiB = 1 << 20, kGiB = 1 << 30, kTiB = uint64_t{1} << 40;

class MemoryFileTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { base::InstallSafeCopyHandlers(); }
  void SetUp() override { Make({}); }
  void Make(MemoryFile::Options options) {
    auto made = MemoryFile::Create(options);
    ASSERT_TRUE(made.ok());
    file_ = std::move(*made);
  }
  FileRange Allocate(uint64_t length, uint64_t congruent = 0, uint64_t after = 0) {
    auto r = file_->Allocate(length, congruent, after);
    EXPECT_TRUE(r.ok());
    return r.ok() ? *r : FileRange{};
  }
  void Fill(FileRange r, uint8_t value) {
    std::vector<std::byte> bytes(r.length(), std::byte{value});
    ASSERT_TRUE(file_->Write(r.start, bytes).ok());
  }
  // Every byte of the range has the value.
  bool Holds(FileRange r, uint8_t value) {
    std::vector<std::byte> bytes(r.length(), std::byte{0xee});
    if (!file_->Read(r.start, bytes).ok()) return false;
    return std::all_of(bytes.begin(), bytes.end(), [&](std::byte b) { return b == std::byte{value}; });
  }
  std::unique_ptr<MemoryFile> file_;
};

TEST_F(MemoryFileTest, AllocatesZeroedPagesThatKeepWhatIsWritten) {
  FileRange r = Allocate(3 * kPageSize);
  EXPECT_EQ(r.length(), 3 * kPageSize);
  EXPECT_TRUE(Holds(r, 0));
  Fill(r, 7);
  EXPECT_TRUE(Holds(r, 7));
  file_->DecRef(r);
}

TEST_F(MemoryFileTest, RoundsLengthsUpToPages) {
  EXPECT_EQ(Allocate(1).length(), kPageSize);
  EXPECT_TRUE(file_->Allocate(0).failed_with(ENOMEM));
  EXPECT_TRUE(file_->Allocate(UINT64_MAX).failed_with(ENOMEM));
}

TEST_F(MemoryFileTest, RangesDoNotOverlap) {
  FileRange a = Allocate(64 << 10), b = Allocate(64 << 10), c = Allocate(5 * kMiB);
  EXPECT_FALSE(a.Overlaps(b));
  EXPECT_FALSE(a.Overlaps(c));
  EXPECT_FALSE(b.Overlaps(c));
}

TEST_F(MemoryFileTest, OffsetsAreCongruentWithTheGuestAddress) {
  const uint64_t address = 0x7f1234567000;
  for (int i = 0; i < 5; ++i) {
    FileRange r = Allocate(2 * kPageSize, address);
    EXPECT_EQ(r.start % (2 * kMiB), address % (2 * kMiB));
  }
  EXPECT_EQ(Allocate(kPageSize, 0x7f1234400000).start % (2 * kMiB), 0u);
}

TEST_F(MemoryFileTest, TakesTheWishedOffsetIfItIsFree) {
  FileRange a = Allocate(4 * kPageSize);
  FileRange b = Allocate(4 * kPageSize, 0, a.end);
  EXPECT_EQ(b.start, a.end);
  FileRange c = Allocate(4 * kPageSize, 0, a.end);
  EXPECT_NE(c.start, a.end);
}

TEST_F(MemoryFileTest, ReusedPagesReadAsZero) {
  for (uint64_t length : {kPageSize, uint64_t{64} << 10, 2 * kMiB, 3 * kMiB}) {
    FileRange a = Allocate(length);
    Fill(a, 0xaa);
    file_->DecRef(a);
    FileRange b = Allocate(length);
    EXPECT_TRUE(Holds(b, 0)) << length;
    file_->DecRef(b);
  }
}

TEST_F(MemoryFileTest, SmallFreedRangesKeepTheirPagesAndTrimGivesThemBack) {
  FileRange a = Allocate(kMiB);
  Fill(a, 1);
  file_->DecRef(a);
  EXPECT_GE(file_->usage(), kMiB);
  file_->TrimPool(0);  // nothing was freed that long ago
  EXPECT_GE(file_->usage(), kMiB);
  file_->TrimPool();
  EXPECT_EQ(file_->usage(), 0u);
}

TEST_F(MemoryFileTest, VeryLargeFreedRangesAreGivenBackAtOnce) {
  FileRange a = Allocate(17 * kMiB);
  Fill(a, 1);
  EXPECT_GE(file_->usage(), 17 * kMiB);
  file_->DecRef(a);
  EXPECT_EQ(file_->usage(), 0u);
}

TEST_F(MemoryFileTest, LargeFreedRangesServeTheSameSizeAgain) {
  FileRange a = Allocate(4 * kMiB);
  Fill(a, 1);
  file_->DecRef(a);
  EXPECT_GE(file_->usage(), 4 * kMiB);
  for (uint64_t other : {kMiB, 3 * kMiB, 5 * kMiB}) {
    FileRange b = Allocate(other);
    EXPECT_FALSE(b.Overlaps(a)) << other;
    file_->DecRef(b);
  }
  bool resident = false;
  auto again = file_->Allocate(4 * kMiB, 0, 0, &resident);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->start, a.start);
  EXPECT_TRUE(resident);
  std::vector<std::byte> bytes(kPageSize);
  for (uint64_t at = again->start; at < again->end; at += kMiB) {
    ASSERT_TRUE(file_->Read(at, bytes).ok());
    EXPECT_EQ(bytes, std::vector<std::byte>(kPageSize));
  }
  file_->DecRef(*again);
  file_->TrimPool();
  EXPECT_EQ(file_->usage(), 0u);
}

TEST_F(MemoryFileTest, OfALargeRangeOnlyThePagesThatExistAreCleared) {
  FileRange a = Allocate(8 * kMiB);
  Fill({a.start + kMiB, a.start + kMiB + kPageSize}, 1);
  file_->DecRef(a);
  bool resident = true;
  auto again = file_->Allocate(8 * kMiB, 0, 0, &resident);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->start, a.start);
  EXPECT_FALSE(resident);
  EXPECT_LE(file_->usage(), kMiB);
  std::vector<std::byte> bytes(kPageSize);
  ASSERT_TRUE(file_->Read(a.start + kMiB, bytes).ok());
  EXPECT_EQ(bytes, std::vector<std::byte>(kPageSize));
  file_->DecRef(*again);
}

TEST_F(MemoryFileTest, FindsExactlyThePagesThatExist) {
  FileRange a = Allocate(kMiB);
  Allocate(kMiB);  // not freed by mistake
  auto find = [&](FileRange range) {
    std::vector<FileRange> data;
    (void)file_->FindData(range, UINT64_MAX, data);
    return data;
  };
  EXPECT_TRUE(find(a).empty());
  Fill({a.start + kPageSize, a.start + 3 * kPageSize}, 1);
  Fill({a.end - 2 * kPageSize, a.end}, 1);
  auto data = find(a);
  ASSERT_EQ(data.size(), 2u);
  EXPECT_EQ(data[0].start, a.start + kPageSize);
  EXPECT_EQ(data[0].end, a.start + 3 * kPageSize);
  EXPECT_EQ(data[1].start, a.end - 2 * kPageSize);
  EXPECT_EQ(data[1].end, a.end);
  Fill(a, 1);
  data = find(a);
  ASSERT_EQ(data.size(), 1u);
  EXPECT_EQ(data[0].start, a.start);
  EXPECT_EQ(data[0].end, a.end);
  data = find({a.start + 8 * kPageSize, a.start + 16 * kPageSize});
  ASSERT_EQ(data.size(), 1u);
  EXPECT_EQ(data[0].length(), 8 * kPageSize);
}

TEST_F(MemoryFileTest, ThePoolIsBounded) {
  std::vector<FileRange> ranges;
  for (int i = 0; i < 48; ++i) {
    ranges.push_back(Allocate(kMiB));
    Fill(ranges.back(), 1);
  }
  for (FileRange r : ranges) file_->DecRef(r);
  EXPECT_LE(file_->usage(), MemoryFile::kPoolBytes);
  ranges.clear();
  for (int i = 0; i < 12; ++i) {
    ranges.push_back(Allocate(4 * kMiB));
    Fill(ranges.back(), 1);
  }
  for (FileRange r : ranges) file_->DecRef(r);
  EXPECT_LE(file_->usage(), 2 * MemoryFile::kPoolBytes);
}

TEST_F(MemoryFileTest, TrimsItsPoolByItselfAfterASecond) {
  base::Reactor reactor;
  file_->StartTrimming(reactor);
  FileRange a = Allocate(kMiB);
  Fill(a, 1);
  file_->DecRef(a);
  while (file_->usage() != 0) {
    timespec ten_ms = {0, 10'000'000};
    nanosleep(&ten_ms, nullptr);
  }
  file_->StopTrimming();
}

TEST_F(MemoryFileTest, CountsReferencesPerPage) {
  FileRange r = Allocate(4 * kPageSize);
  Fill(r, 9);
  FileRange middle = {r.start + kPageSize, r.start + 3 * kPageSize};
  EXPECT_TRUE(file_->IsExclusive(r));
  file_->IncRef(middle);
  EXPECT_FALSE(file_->IsExclusive(r));
  EXPECT_FALSE(file_->IsExclusive(middle));
  EXPECT_TRUE(file_->IsExclusive({r.start, middle.start}));
  EXPECT_TRUE(file_->IsExclusive({middle.end, r.end}));
  file_->DecRef(r);
  EXPECT_TRUE(file_->IsExclusive(middle));
  EXPECT_FALSE(file_->IsExclusive(r));
  EXPECT_TRUE(Holds(middle, 9));
  file_->DecRef(middle);
}

TEST_F(MemoryFileTest, AReferenceRangeMaySpanAllocations) {
  FileRange a = Allocate(2 * kPageSize);
  FileRange b = Allocate(2 * kPageSize, 0, a.end);
  ASSERT_EQ(b.start, a.end);
  FileRange both = {a.start, b.end};
  file_->IncRef(both);
  file_->DecRef(both);
  EXPECT_TRUE(file_->IsExclusive(both));
  file_->DecRef(both);
}

TEST_F(MemoryFileTest, CountsStayRightUnderRandomUse) {
  std::mt19937 random(1);
  FileRange all = Allocate(64 * kPageSize);
  std::vector<uint32_t> model(64, 1);
  for (int step = 0; step < 5000; ++step) {
    uint64_t first = random() % 64, last = first + random() % (64 - first);
    FileRange r = {all.start + first * kPageSize, all.start + (last + 1) * kPageSize};
    bool drop = random() % 2;
    for (uint64_t i = first; drop && i <= last; ++i) drop = model[i] > 1;
    drop ? file_->DecRef(r) : file_->IncRef(r);
    bool exclusive = true;
    for (uint64_t i = first; i <= last; ++i) exclusive &= (model[i] += drop ? -1 : 1) == 1;
    ASSERT_EQ(file_->IsExclusive(r), exclusive) << step;
  }
}

TEST_F(MemoryFileTest, GiantReservationsCostNothing) {
  FileRange a = Allocate(16 * kTiB), b = Allocate(16 * kTiB);
  EXPECT_FALSE(a.Overlaps(b));
  EXPECT_EQ(file_->usage(), 0u);
  FileRange end = {a.end - kPageSize, a.end};
  Fill(end, 5);
  EXPECT_TRUE(Holds(end, 5));
  EXPECT_LE(file_->usage(), kMiB);
  file_->DecRef(a);
  EXPECT_EQ(file_->usage(), 0u);
}

TEST_F(MemoryFileTest, MapsGiantsInParts) {
  FileRange a = Allocate(2 * kTiB);
  FileRange across = {(a.start / kGiB + 1) * kGiB - kPageSize, (a.start / kGiB + 1) * kGiB + kPageSize};
  auto span = file_->Map(across);
  EXPECT_EQ(span.size(), kPageSize);
  Fill(across, 3);
  EXPECT_TRUE(Holds(across, 3));
}

TEST_F(MemoryFileTest, DecommitZeroesAndKeepsTheReferences) {
  FileRange r = Allocate(4 * kPageSize);
  Fill(r, 1);
  file_->Decommit({r.start + kPageSize, r.start + 2 * kPageSize});
  EXPECT_TRUE(Holds({r.start, r.start + kPageSize}, 1));
  EXPECT_TRUE(Holds({r.start + kPageSize, r.start + 2 * kPageSize}, 0));
  EXPECT_TRUE(file_->IsExclusive(r));
}

TEST_F(MemoryFileTest, FindsDataAndCopiesItAlone) {
  FileRange from = Allocate(kMiB);
  FileRange a = {from.start + 4 * kPageSize, from.start + 6 * kPageSize};
  FileRange b = {from.start + 100 * kPageSize, from.start + 101 * kPageSize};
  Fill(a, 1);
  Fill(b, 2);
  EXPECT_EQ(file_->NextData(from), a);
  EXPECT_EQ(file_->NextData({a.end, from.end}), b);
  EXPECT_TRUE(file_->NextData({b.end, from.end}).empty());
  std::vector<FileRange> data;
  EXPECT_EQ(file_->FindData(from, UINT64_MAX, data), 3 * kPageSize);
  EXPECT_EQ(data, (std::vector<FileRange>{a, b}));
  uint64_t before = file_->usage();
  auto to = file_->AllocateCopy(from, data);
  ASSERT_TRUE(to.ok());
  EXPECT_EQ(file_->usage() - before, 3 * kPageSize);
  auto moved = [&](FileRange r) { return FileRange{r.start - from.start + to->start, r.end - from.start + to->start}; };
  EXPECT_TRUE(Holds(moved(a), 1));
  EXPECT_TRUE(Holds(moved(b), 2));
  EXPECT_TRUE(Holds({to->start, to->start + 4 * kPageSize}, 0));
}

TEST_F(MemoryFileTest, FindDataStopsWhenThereIsEnough) {
  FileRange r = Allocate(kMiB);
  for (uint64_t page : {1, 3, 5, 7}) Fill({r.start + page * kPageSize, r.start + (page + 1) * kPageSize}, 1);
  std::vector<FileRange> data;
  EXPECT_EQ(file_->FindData(r, kPageSize, data), 2 * kPageSize);
  EXPECT_EQ(data.size(), 2u);
  // Of a small range nobody asks.
  data.clear();
  FileRange small = Allocate(MemoryFile::kSmallBytes);
  EXPECT_EQ(file_->FindData(small, 0, data), MemoryFile::kSmallBytes);
  EXPECT_EQ(data, std::vector<FileRange>{small});
}

TEST_F(MemoryFileTest, ACopyInReusedPagesHoldsTheCopyAndZeroesElsewhere) {
  for (uint64_t pages : {1, 4, 5, 64}) {
    FileRange from = Allocate(pages * kPageSize), used = Allocate(pages * kPageSize);
    Fill(used, 0xaa);
    file_->DecRef(used);
    FileRange middle = {from.start + pages / 2 * kPageSize, from.start + (pages / 2 + 1) * kPageSize};
    Fill(middle, 1);
    auto copy = file_->AllocateCopy(from, std::span(&middle, 1));
    ASSERT_TRUE(copy.ok());
    EXPECT_EQ(*copy, used);  // else this shows nothing
    FileRange in_copy = {copy->start + (middle.start - from.start), copy->start + (middle.end - from.start)};
    EXPECT_TRUE(Holds({copy->start, in_copy.start}, 0));
    EXPECT_TRUE(Holds(in_copy, 1));
    EXPECT_TRUE(Holds({in_copy.end, copy->end}, 0));
    // Without data it is all zero.
    file_->DecRef(*copy);
    copy = file_->AllocateCopy(from, {});
    ASSERT_TRUE(copy.ok());
    EXPECT_TRUE(Holds(*copy, 0));
    file_->DecRef(from);
    file_->DecRef(*copy);
    file_->TrimPool();
  }
}

TEST_F(MemoryFileTest, SaysWhenAllPagesOfARangeExist) {
  bool resident = true;
  auto fresh = file_->Allocate(64 * kPageSize, 0, 0, &resident);
  EXPECT_FALSE(resident);
  Fill(*fresh, 1);
  file_->DecRef(*fresh);
  auto again = file_->Allocate(64 * kPageSize, 0, 0, &resident);
  EXPECT_TRUE(resident);
  EXPECT_TRUE(Holds(*again, 0));
  file_->Decommit({again->start + kPageSize, again->start + 2 * kPageSize});
  file_->DecRef(*again);
  auto holed = file_->Allocate(64 * kPageSize, 0, 0, &resident);
  EXPECT_FALSE(resident);
  EXPECT_TRUE(Holds(*holed, 0));
}

TEST_F(MemoryFileTest, RefusesToAllocateAtTheLimitAndRecovers) {
  Make({.limit_bytes = 8 * kMiB});
  FileRange sparse = Allocate(16 * kTiB);  // a reservation alone is not usage
  std::vector<FileRange> ranges;
  for (int i = 0; i < 64; ++i) {
    auto r = file_->Allocate(kMiB);
    if (!r.ok()) {
      EXPECT_EQ(r.error(), ENOMEM);
      break;
    }
    Fill(*r, 1);
    ranges.push_back(*r);
  }
  EXPECT_GE(ranges.size(), 7u);
  EXPECT_LE(ranges.size(), 10u);
  for (FileRange r : ranges) file_->DecRef(r);
  EXPECT_TRUE(file_->Allocate(kMiB).ok());
  file_->DecRef(sparse);
}

TEST_F(MemoryFileTest, FailsNowAndThenOnDemand) {
  Make({.fail_randomly = true});
  int failed = 0;
  for (int i = 0; i < 100; ++i) failed += !file_->Allocate(kPageSize).ok();
  EXPECT_GT(failed, 0);
  EXPECT_LT(failed, 50);
}

TEST_F(MemoryFileTest, WhatTheSentryIsChargedCountsAgainstTheLimit) {
  Make({.limit_bytes = 64 * kMiB});
  EXPECT_FALSE(file_->Full());
  base::ChargedMemory::Charge(64 * kMiB);
  EXPECT_TRUE(file_->Full());
  EXPECT_FALSE(file_->Allocate(kPageSize).ok());
  base::ChargedMemory::Uncharge(64 * kMiB);
  EXPECT_FALSE(file_->Full());
  EXPECT_TRUE(file_->Allocate(kPageSize).ok());
}

TEST_F(MemoryFileTest, MayLieInAFileOfTheHost) {
  char path[] = "/tmp/memory_file_test.XXXXXX";
  base::UniqueFd fd(mkostemp(path, O_CLOEXEC));
  ASSERT_TRUE(fd.valid());
  unlink(path);
  auto made = MemoryFile::CreateOn(std::move(fd), {});
  ASSERT_TRUE(made.ok());
  file_ = std::move(*made);
  EXPECT_TRUE(file_->on_host_file());
  // Like a memfd, but that freed pages go at once.
  FileRange a = Allocate(kMiB), b = Allocate(kMiB);
  Fill(a, 1);
  Fill(b, 2);
  EXPECT_TRUE(Holds(a, 1));
  EXPECT_GE(file_->usage(), 2 * kMiB);
  file_->DecRef(a);
  FileRange c = Allocate(kMiB);
  EXPECT_EQ(c, a);
  EXPECT_TRUE(Holds(c, 0));
  EXPECT_TRUE(Holds(b, 2));
}

}  // namespace
}  // namespace platform

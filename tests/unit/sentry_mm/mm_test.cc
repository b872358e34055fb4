#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "base/executor.h"
#include "base/fiber.h"
#include "base/safe_copy_unsafe.h"
#include "tests/unit/sentry_mm/fake_host.h"

namespace sentry::testing {
namespace {

constexpr uint8_t kR = PROT_READ, kRW = PROT_READ | PROT_WRITE, kRX = PROT_READ | PROT_EXEC;

class MmTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { base::InstallSafeCopyHandlers(); }
  void SetUp() override {
    memory_file_ = *platform::MemoryFile::Create({});
    env_ = {&platform_, memory_file_.get()};
    mm_ = *MemoryManager::Create(env_);
  }
  void TearDown() override {
    if (mm_) mm_->DropUser();
    mm_.reset();
  }
  Addr Map(uint64_t length, uint8_t prot = kRW, MMapOptions o = {}) {
    o.length = length;
    o.prot = prot;
    auto r = mm_->MMap(o, {});
    EXPECT_TRUE(r.ok()) << r.error().value();
    return r.value_or(0);
  }
  Addr MapFixed(Addr addr, uint64_t length, uint8_t prot = kRW, MMapOptions o = {}) {
    o.addr = addr;
    o.fixed = true;
    return Map(length, prot, o);
  }
  Addr MapFile(RefPtr<Mappable> file, uint64_t length, uint8_t prot, bool shared, uint64_t offset = 0) {
    MMapOptions o;
    o.mappable = std::move(file);
    o.shared = shared;
    o.offset = offset;
    return Map(length, prot, o);
  }
  std::string ReadGuest(Addr addr, size_t n) {
    std::string s(n, '\0');
    auto r = mm_->CopyIn(std::as_writable_bytes(std::span(s)), addr);
    s.resize(r.value_or(0));
    return s;
  }
  Result<size_t> WriteGuest(Addr addr, std::string_view s) { return mm_->CopyOut(addr, std::as_bytes(std::span(s))); }

  FakePlatform platform_;
  std::unique_ptr<platform::MemoryFile> memory_file_;
  MmEnvironment env_;
  RefPtr<MemoryManager> mm_;
};

TEST_F(MmTest, AnonymousMemoryIsMappedAtOnceAndNeedsNoFault) {
  Addr a = Map(1 << 20);
  int faults = 0;
  uint8_t byte = 7;
  EXPECT_FALSE(GuestAccess(*mm_, a + 5000, true, &byte, {}, &faults));
  EXPECT_EQ(faults, 0);
  EXPECT_EQ(ReadGuest(a + 5000, 1), "\7");
  EXPECT_EQ(GuestRead(*mm_, a), 0);
  EXPECT_EQ(HostOf(*mm_).applies, 1);
}

TEST_F(MmTest, ManyNeighbouringMappingsStayFewOnTheHost) {
  for (int i = 0; i < 60000; ++i) Map(4096);
  EXPECT_EQ(mm_->usage().vma_count, 1);
  EXPECT_LT(HostOf(*mm_).map.size(), 2000u);
}

TEST_F(MmTest, SixtyThousandDistinctMappings) {
  // With a hole in front of each, so that nothing merges.
  Addr last = 0;
  for (int i = 0; i < 60000; ++i) {
    last = Map(2 * 4096, i % 2 ? kR : kRW);
    ASSERT_TRUE(mm_->Munmap(last, 4096).ok());
  }
  EXPECT_EQ(mm_->usage().vma_count, 60000);
  EXPECT_FALSE(GuestWrite(*mm_, last + 4096, 1) && false);
}

TEST_F(MmTest, GiantReservationsAreBackedWhenTouched) {
  MMapOptions o;
  o.noreserve = true;
  Addr a = Map(uint64_t{16} << 40, kRW, o);
  EXPECT_EQ(HostOf(*mm_).applies, 0);
  for (int i = 0; i < 16; ++i) {
    Addr at = a + (static_cast<uint64_t>(i) << 40) + 12345;
    EXPECT_FALSE(GuestWrite(*mm_, at, i + 1));
    EXPECT_EQ(ReadGuest(at, 1)[0], i + 1);
  }
  EXPECT_TRUE(mm_->Munmap(a, uint64_t{16} << 40).ok());
  EXPECT_EQ(GuestRead(*mm_, a), -SIGSEGV);
}

TEST_F(MmTest, ArgumentErrorsOfMmap) {
  MMapOptions o;
  EXPECT_TRUE(mm_->MMap(o, {}).failed_with(EINVAL));
  o.length = UINT64_MAX - 100;
  EXPECT_TRUE(mm_->MMap(o, {}).failed_with(ENOMEM));
  o.length = uint64_t{1} << 47;
  EXPECT_TRUE(mm_->MMap(o, {}).failed_with(ENOMEM));
  o.length = 4096;
  o.fixed = true;
  o.addr = 0x1001;
  EXPECT_TRUE(mm_->MMap(o, {}).failed_with(EINVAL));
  o.addr = 0x1000;
  EXPECT_TRUE(mm_->MMap(o, {}).failed_with(EPERM));
  o.addr = 0x7ffffffff000;
  EXPECT_TRUE(mm_->MMap(o, {}).failed_with(ENOMEM));
  o.addr = 0x10000000;
  EXPECT_EQ(mm_->MMap(o, {}).value_or(0), 0x10000000u);
  o.fixed_noreplace = true;
  EXPECT_TRUE(mm_->MMap(o, {}).failed_with(EEXIST));
  MMapOptions low;
  low.length = 4096;
  low.map_32bit = true;
  Addr a = *mm_->MMap(low, {});
  EXPECT_GE(a, 0x40000000u);
  EXPECT_LT(a, 0x80000000u);
  MmLimits limits;
  limits.address_space = 1 << 20;
  low.length = 2 << 20;
  EXPECT_TRUE(mm_->MMap(low, limits).failed_with(ENOMEM));
  limits = {};
  limits.data = 1 << 20;
  low.prot = kRW;
  EXPECT_TRUE(mm_->MMap(low, limits).failed_with(ENOMEM));
}

TEST_F(MmTest, MprotectChangesAccessInPartsAndMergesAgain) {
  Addr a = Map(16 * 4096);
  EXPECT_FALSE(GuestWrite(*mm_, a + 4096, 9));
  ASSERT_TRUE(mm_->Mprotect(a + 4096, 4096, 0, false, false).ok());
  EXPECT_EQ(mm_->usage().vma_count, 3);
  EXPECT_EQ(GuestRead(*mm_, a + 4096), -SIGSEGV);
  EXPECT_EQ(ReadGuest(a + 4096, 1), "");
  EXPECT_EQ(GuestRead(*mm_, a), 0);
  ASSERT_TRUE(mm_->Mprotect(a + 4096, 4096, kR, false, false).ok());
  EXPECT_EQ(GuestRead(*mm_, a + 4096), 9);
  auto s = GuestWrite(*mm_, a + 4096, 1);
  ASSERT_TRUE(s);
  EXPECT_EQ(s->si_code, SEGV_ACCERR);
  EXPECT_TRUE(WriteGuest(a + 4096, "x").failed_with(EFAULT));
  EXPECT_EQ(mm_->ForceCopyOut(a + 4096, std::as_bytes(std::span("y", 1))).value_or(0), 1u);
  EXPECT_EQ(GuestRead(*mm_, a + 4096), 'y');
  ASSERT_TRUE(mm_->Mprotect(a + 4096, 4096, kRW, false, false).ok());
  EXPECT_EQ(mm_->usage().vma_count, 1);
  EXPECT_EQ(HostOf(*mm_).map.size(), 1u);
  EXPECT_TRUE(mm_->Mprotect(a, 17 * 4096, kR, false, false).failed_with(ENOMEM));
  EXPECT_TRUE(mm_->Mprotect(a + 1, 4096, kR, false, false).failed_with(EINVAL));
  MMapOptions o;
  o.max_prot = kR;
  Addr b = Map(4096, kR, o);
  EXPECT_TRUE(mm_->Mprotect(b, 4096, kRW, false, false).failed_with(EACCES));
}

TEST_F(MmTest, MunmapCutsAndTheRestStays) {
  Addr a = Map(8 * 4096);
  for (int i = 0; i < 8; ++i) EXPECT_FALSE(GuestWrite(*mm_, a + i * 4096, i + 1));
  ASSERT_TRUE(mm_->Munmap(a + 2 * 4096, 2 * 4096).ok());
  EXPECT_EQ(GuestRead(*mm_, a + 4096), 2);
  EXPECT_EQ(GuestRead(*mm_, a + 2 * 4096), -SIGSEGV);
  EXPECT_EQ(GuestRead(*mm_, a + 4 * 4096), 5);
  EXPECT_EQ(ReadGuest(a, 8 * 4096).size(), 2u * 4096);
  EXPECT_TRUE(mm_->Munmap(a, 8 * 4096).ok());
  EXPECT_TRUE(mm_->Munmap(a, 8 * 4096).ok());
  EXPECT_TRUE(mm_->Munmap(a + 1, 4096).failed_with(EINVAL));
  EXPECT_TRUE(mm_->Munmap(a, 0).failed_with(EINVAL));
  EXPECT_EQ(HostOf(*mm_).map.size(), 0u);
}

TEST_F(MmTest, FreshMappingsReadAsZeroAfterReuse) {
  for (int round = 0; round < 50; ++round) {
    Addr a = Map(64 << 10);
    for (int i = 0; i < 16; ++i) {
      ASSERT_EQ(GuestRead(*mm_, a + i * 4096 + 7), 0);
      ASSERT_FALSE(GuestWrite(*mm_, a + i * 4096 + 7, 0xaa));
    }
    ASSERT_TRUE(mm_->Munmap(a, 64 << 10).ok());
  }
}

TEST_F(MmTest, PagesThatExistAlreadyAreMappedPopulated) {
  Addr a = Map(64 << 10);
  EXPECT_FALSE(HostOf(*mm_).all_ops.back().populate);
  for (uint64_t i = 0; i < 64 << 10; i += 4096) ASSERT_FALSE(GuestWrite(*mm_, a + i, 1));
  ASSERT_TRUE(mm_->Munmap(a, 64 << 10).ok());
  a = Map(64 << 10);
  EXPECT_EQ(HostOf(*mm_).all_ops.back().kind, platform::MapOp::Kind::kMap);
  EXPECT_TRUE(HostOf(*mm_).all_ops.back().populate);
  EXPECT_EQ(GuestRead(*mm_, a + 4096), 0);
  // Not again when it is mapped once more for another reason.
  ASSERT_TRUE(mm_->Mprotect(a, 64 << 10, 0, false, false).ok());
  ASSERT_TRUE(mm_->Mprotect(a, 64 << 10, kR, false, false).ok());
  EXPECT_FALSE(HostOf(*mm_).all_ops.back().populate);
}

TEST_F(MmTest, ForkKeepsBothSidesApart) {
  Addr small = Map(16 << 10), large = Map(4 << 20), shared;
  MMapOptions o;
  o.shared = true;
  shared = Map(8192, kRW, o);
  for (uint64_t i = 0; i < 4 << 20; i += 4096) ASSERT_FALSE(GuestWrite(*mm_, large + i, 1));
  ASSERT_FALSE(GuestWrite(*mm_, small, 2));
  ASSERT_FALSE(GuestWrite(*mm_, shared, 3));
  auto child = *mm_->Fork();
  EXPECT_EQ(GuestRead(*child, large + 4096), 1);
  EXPECT_EQ(GuestRead(*child, small), 2);
  EXPECT_EQ(GuestRead(*child, shared), 3);
  ASSERT_FALSE(GuestWrite(*child, large + 4096, 11));
  ASSERT_FALSE(GuestWrite(*child, small, 12));
  ASSERT_FALSE(GuestWrite(*child, shared, 13));
  ASSERT_FALSE(GuestWrite(*mm_, large + (2 << 20), 21));
  EXPECT_EQ(GuestRead(*mm_, large + 4096), 1);
  EXPECT_EQ(GuestRead(*mm_, small), 2);
  EXPECT_EQ(GuestRead(*mm_, shared), 13);
  EXPECT_EQ(GuestRead(*child, large + (2 << 20)), 1);
  // CopyOut breaks the sharing too.
  EXPECT_EQ(WriteGuest(large + (3 << 20), "parent").value_or(0), 6u);
  EXPECT_EQ(GuestRead(*child, large + (3 << 20)), 1);
  child->DropUser();
  child.reset();
  // The parent is alone again: written in place.
  ASSERT_FALSE(GuestWrite(*mm_, large + 8192, 5));
  EXPECT_EQ(GuestRead(*mm_, large + 8192), 5);
  EXPECT_EQ(GuestRead(*mm_, large + 4096), 1);
}

TEST_F(MmTest, ForkMakesOneRoundTripPerSide) {
  for (int i = 0; i < 30; ++i) Map(1 << 20, i % 2 ? kR : kRW);
  int before = HostOf(*mm_).applies;
  auto child = *mm_->Fork();
  EXPECT_EQ(HostOf(*child).applies, 1);
  EXPECT_LE(HostOf(*mm_).applies, before + 1);
  child->DropUser();
}

TEST_F(MmTest, SmallPrivateMemoryIsCopiedByForkAndCausesNoFaultAfter) {
  Addr a = Map(8 << 20);
  for (int i = 0; i < 10; ++i) ASSERT_FALSE(GuestWrite(*mm_, a + i * 4096, 1));
  auto child = *mm_->Fork();
  int faults = 0;
  uint8_t b = 5;
  EXPECT_FALSE(GuestAccess(*mm_, a, true, &b, {}, &faults));
  EXPECT_FALSE(GuestAccess(*child, a + 4096, true, &b, {}, &faults));
  EXPECT_FALSE(GuestAccess(*child, a + (7 << 20), true, &b, {}, &faults));
  EXPECT_EQ(faults, 0);
  EXPECT_EQ(GuestRead(*child, a), 1);
  EXPECT_EQ(GuestRead(*mm_, a + 4096), 1);
  child->DropUser();
}

TEST_F(MmTest, ForkHonoursAdvice) {
  Addr gone = Map(4096), wiped = Map(4096), kept = Map(4096);
  for (Addr a : {gone, wiped, kept}) ASSERT_FALSE(GuestWrite(*mm_, a, 7));
  ASSERT_TRUE(mm_->Madvise(gone, 4096, MADV_DONTFORK).ok());
  ASSERT_TRUE(mm_->Madvise(wiped, 4096, MADV_WIPEONFORK).ok());
  auto child = *mm_->Fork();
  EXPECT_EQ(GuestRead(*child, gone), -SIGSEGV);
  EXPECT_EQ(GuestRead(*child, wiped), 0);
  EXPECT_EQ(GuestRead(*child, kept), 7);
  EXPECT_EQ(GuestRead(*mm_, wiped), 7);
  child->DropUser();
}

TEST_F(MmTest, GrandchildrenShareAndSeparate) {
  Addr a = Map(2 << 20);
  for (uint64_t i = 0; i < 2 << 20; i += 4096) ASSERT_FALSE(GuestWrite(*mm_, a + i, 1));
  auto child = *mm_->Fork();
  auto grandchild = *child->Fork();
  ASSERT_FALSE(GuestWrite(*child, a, 2));
  ASSERT_FALSE(GuestWrite(*grandchild, a, 3));
  EXPECT_EQ(GuestRead(*mm_, a), 1);
  EXPECT_EQ(GuestRead(*child, a), 2);
  EXPECT_EQ(GuestRead(*grandchild, a), 3);
  child->DropUser();
  EXPECT_EQ(GuestRead(*grandchild, a + 4096), 1);
  grandchild->DropUser();
  EXPECT_EQ(GuestRead(*mm_, a + 8192), 1);
}

TEST_F(MmTest, PrivateFileMappingsComeFromTheFileUntilWritten) {
  std::string text(300 << 10, 'f');
  auto file = base::MakeRef<DonatedFile>(text);
  Addr ro = MapFile(file, text.size(), kRX, false);
  EXPECT_EQ(HostOf(*mm_).map.Find(ro)->second.value.fd, file->fd());
  EXPECT_EQ(file->translations, 1);
  EXPECT_EQ(ReadGuest(ro + 1000, 3), "fff");
  Addr rw = MapFile(file, text.size(), kRW, false);
  ASSERT_FALSE(GuestWrite(*mm_, rw + (200 << 10), 'p'));
  EXPECT_EQ(GuestRead(*mm_, rw + (200 << 10)), 'p');
  EXPECT_EQ(GuestRead(*mm_, rw + (200 << 10) + 1), 'f');
  EXPECT_EQ(GuestRead(*mm_, ro + (200 << 10)), 'f');
  EXPECT_EQ(WriteGuest(rw + 10, "sentry").value_or(0), 6u);
  EXPECT_EQ(ReadGuest(rw + 9, 8), "fsentryf");
  char on_disk[6];
  ASSERT_EQ(pread(file->fd(), on_disk, 6, 10), 6);
  EXPECT_EQ(std::string(on_disk, 6), "ffffff");
  // MADV_DONTNEED shows the file again.
  ASSERT_TRUE(mm_->Madvise(rw, text.size(), MADV_DONTNEED).ok());
  EXPECT_EQ(ReadGuest(rw + 9, 8), "ffffffff");
}

TEST_F(MmTest, SmallDataSegmentsAreCopiedWhenMapped) {
  auto file = base::MakeRef<DonatedFile>(std::string(16 << 10, 'd'));
  Addr a = MapFile(file, 16 << 10, kRW, false);
  int faults = 0;
  uint8_t b = 1;
  EXPECT_FALSE(GuestAccess(*mm_, a + 5000, true, &b, {}, &faults));
  EXPECT_EQ(faults, 0);
}

TEST_F(MmTest, SharedFileMappingsWriteThrough) {
  auto file = base::MakeRef<DonatedFile>(std::string(8192, 's'));
  Addr a = MapFile(file, 8192, kRW, true);
  EXPECT_TRUE(file->HasSharedWritableMappings());
  ASSERT_FALSE(GuestWrite(*mm_, a + 1, 'g'));
  EXPECT_EQ(WriteGuest(a + 4095, "xy").value_or(0), 2u);
  char on_disk[4];
  ASSERT_EQ(pread(file->fd(), on_disk, 2, 0), 2);
  EXPECT_EQ(on_disk[1], 'g');
  ASSERT_EQ(pread(file->fd(), on_disk, 2, 4095), 2);
  EXPECT_EQ(std::string(on_disk, 2), "xy");
  // Read-only first, writable later.
  Addr b = MapFile(file, 8192, kR, true);
  EXPECT_TRUE(mm_->Mprotect(b, 8192, kRW, false, false).ok());
  ASSERT_FALSE(GuestWrite(*mm_, b, 'z'));
  EXPECT_EQ(GuestRead(*mm_, a), 'z');
  ASSERT_TRUE(mm_->Munmap(a, 8192).ok());
  ASSERT_TRUE(mm_->Munmap(b, 8192).ok());
  EXPECT_FALSE(file->HasSharedWritableMappings());
}

TEST_F(MmTest, BeyondTheEndOfAFileIsABusError) {
  auto file = base::MakeRef<DonatedFile>(std::string(5000, 'e'));
  Addr a = MapFile(file, 4 * 4096, kRW, true);
  EXPECT_EQ(GuestRead(*mm_, a + 4999), 'e');
  EXPECT_EQ(GuestRead(*mm_, a + 5000), 0);
  EXPECT_EQ(GuestRead(*mm_, a + 8192), -SIGBUS);
  EXPECT_EQ(ReadGuest(a, 4 * 4096).size(), 8192u);
  std::byte byte;
  EXPECT_TRUE(mm_->CopyIn(std::span(&byte, 1), a + 8192).failed_with(EFAULT));
  ASSERT_EQ(ftruncate(file->fd(), 4 * 4096), 0);
  EXPECT_EQ(GuestRead(*mm_, a + 8192), 0);
}

TEST_F(MmTest, ASmallPrivateMappingThatIsWrittenHereAndThereIsCopiedAsAWhole) {
  constexpr uint64_t kBytes = 1 << 20, kPiece = 64 << 10;
  auto file = base::MakeRef<DonatedFile>(std::string(kBytes, 'd'));
  Addr a = MapFile(file, kBytes, kRW, false);
  int faults = 0;
  // Far apart from each other, as an interpreter touches its data.
  for (uint64_t i = 0; i < kBytes / kPiece; ++i) {
    uint8_t byte = static_cast<uint8_t>(i);
    EXPECT_FALSE(GuestAccess(*mm_, a + i * 7 % (kBytes / kPiece) * kPiece + 4096, true, &byte, {}, &faults));
  }
  // Two pieces, then what is left: in front of, between and behind them.
  EXPECT_LE(faults, 5);
  for (uint64_t i = 0; i < kBytes / kPiece; ++i) {
    EXPECT_EQ(GuestRead(*mm_, a + i * 7 % (kBytes / kPiece) * kPiece + 4096), static_cast<int>(i));
    EXPECT_EQ(GuestRead(*mm_, a + i * kPiece), 'd');
  }
  // Nobody pays for two writes, and large ones are copied in pieces.
  auto large = base::MakeRef<DonatedFile>(std::string(4 << 20, 'l'));
  Addr b = MapFile(large, 4 << 20, kRW, false);
  faults = 0;
  for (uint64_t i = 0; i < 10; ++i) {
    uint8_t byte = 1;
    EXPECT_FALSE(GuestAccess(*mm_, b + i * 2 * kPiece + 4096, true, &byte, {}, &faults));
  }
  EXPECT_EQ(faults, 10);
}

TEST_F(MmTest, TruncationTakesPagesAway) {
  auto file = base::MakeRef<DonatedFile>(std::string(64 << 10, 't'));
  Addr shared = MapFile(file, 64 << 10, kRW, true), priv = MapFile(file, 64 << 10, kRW, false);
  ASSERT_FALSE(GuestWrite(*mm_, priv + 40960, 'p'));
  auto child = *mm_->Fork();
  file->Resize(8192);
  for (auto* mm : {mm_.get(), child.get()}) {
    EXPECT_EQ(GuestRead(*mm, shared + 40960), -SIGBUS);
    EXPECT_EQ(GuestRead(*mm, priv + 40960), -SIGBUS);
    EXPECT_EQ(GuestRead(*mm, shared + 4096), 't');
  }
  EXPECT_EQ(ReadGuest(shared, 64 << 10).size(), 8192u);
  child->DropUser();
}

TEST_F(MmTest, AFileTruncatedByTheHostFailsTheCopyOnly) {
  auto file = base::MakeRef<DonatedFile>(std::string(64 << 10, 't'));
  Addr a = MapFile(file, 64 << 10, kR, true);
  EXPECT_EQ(ReadGuest(a + 40000, 1), "t");
  ASSERT_EQ(ftruncate(file->fd(), 4096), 0);  // nobody tells us
  EXPECT_EQ(ReadGuest(a, 64 << 10).size(), 4096u);
  EXPECT_EQ(ReadGuest(a + 40000, 1), "");
  // write(fd, mapping): the host says so as well.
  int out = memfd_create("out", 0);
  std::pair<Addr, size_t> bad{a + 40000, 100};
  EXPECT_TRUE(mm_->WriteToHost(out, 0, std::span(&bad, 1)).failed_with(EFAULT));
  close(out);
}

TEST_F(MmTest, HostIoGoesStraightToGuestMemory) {
  Addr a = Map(1 << 20);
  int fd = memfd_create("io", 0);
  std::string data(200000, 'q');
  data[150000] = 'Q';
  ASSERT_EQ(write(fd, data.data(), data.size()), static_cast<ssize_t>(data.size()));
  std::pair<Addr, size_t> to[] = {{a + 100, 100000}, {a + 500000, 0}, {a + 600000, 200000}};
  EXPECT_EQ(mm_->ReadFromHost(fd, 0, to).value_or(0), 200000u);
  EXPECT_EQ(ReadGuest(a + 600000 + 50000, 1), "Q");
  std::pair<Addr, size_t> from[] = {{a + 600000, 100000}};
  EXPECT_EQ(mm_->WriteToHost(fd, 300000, from).value_or(0), 100000u);
  char c;
  ASSERT_EQ(pread(fd, &c, 1, 350000), 1);
  EXPECT_EQ(c, 'Q');
  // Up to the end of what is mapped, then EFAULT.
  std::pair<Addr, size_t> over[] = {{a + (1 << 20) - 10, 20}};
  EXPECT_EQ(mm_->ReadFromHost(fd, 0, over).value_or(0), 10u);
  std::pair<Addr, size_t> bad[] = {{a + (1 << 20), 20}};
  EXPECT_TRUE(mm_->ReadFromHost(fd, 0, bad).failed_with(EFAULT));
  close(fd);
}

TEST_F(MmTest, CopiesStopAtTheEdge) {
  Addr a = Map(8192);
  ASSERT_TRUE(mm_->Munmap(a + 4096, 4096).ok());
  EXPECT_EQ(WriteGuest(a + 4090, "0123456789").value_or(0), 6u);
  EXPECT_TRUE(WriteGuest(a + 4096, "x").failed_with(EFAULT));
  EXPECT_TRUE(WriteGuest(0, "x").failed_with(EFAULT));
  EXPECT_TRUE(WriteGuest(UINT64_MAX - 1, "xyz").failed_with(EFAULT));
  EXPECT_EQ(WriteGuest(UINT64_MAX - 1, "").value_or(9), 0u);
  EXPECT_EQ(mm_->ZeroOut(a + 4090, 100).value_or(0), 6u);
  EXPECT_EQ(mm_->ReadString(a, 5000).value_or("x"), "");
}

TEST_F(MmTest, StringsEndOrFail) {
  Addr a = Map(4096);
  std::string s(600, 'a');
  ASSERT_TRUE(WriteGuest(a, s).ok());
  EXPECT_EQ(mm_->ReadString(a, 4096).value_or(""), s);
  EXPECT_TRUE(mm_->ReadString(a, 600).failed_with(ENAMETOOLONG));
  EXPECT_EQ(mm_->ReadString(a, 601).value_or(""), s);
  ASSERT_TRUE(WriteGuest(a + 4090, "bcdefg").ok());
  EXPECT_TRUE(mm_->ReadString(a + 4090, 100).failed_with(EFAULT));
  EXPECT_TRUE(mm_->ReadString(a + 4090, 6, E2BIG).failed_with(E2BIG));
}

TEST_F(MmTest, BrkGrowsAndShrinks) {
  mm_->SetBrkStart(0x20000000);
  EXPECT_EQ(*mm_->Brk(0, {}), 0x20000000u);
  EXPECT_EQ(*mm_->Brk(0x20000000 + 5000, {}), 0x20000000u + 5000);
  EXPECT_FALSE(GuestWrite(*mm_, 0x20000000 + 8191, 1));
  EXPECT_EQ(GuestRead(*mm_, 0x20000000 + 8192), -SIGSEGV);
  EXPECT_EQ(*mm_->Brk(0x20000000 + (1 << 20), {}), 0x20000000u + (1 << 20));
  EXPECT_EQ(GuestRead(*mm_, 0x20000000 + 8191), 1);
  EXPECT_EQ(mm_->usage().vma_count, 1);
  EXPECT_EQ(mm_->Vmas()[0].identity.path, "[heap]");
  EXPECT_EQ(*mm_->Brk(0x20000000 + 4096, {}), 0x20000000u + 4096);
  EXPECT_EQ(GuestRead(*mm_, 0x20000000 + 8191), -SIGSEGV);
  MapFixed(0x20000000 + (2 << 20), 4096);
  EXPECT_EQ(*mm_->Brk(0x20000000 + (3 << 20), {}), 0x20000000u + 4096);
  MmLimits limits;
  limits.data = 8192;
  EXPECT_EQ(*mm_->Brk(0x20000000 + 16384, limits), 0x20000000u + 4096);
  EXPECT_EQ(*mm_->Brk(0x10000000, {}), 0x20000000u + 4096);
}

TEST_F(MmTest, StacksGrowWithinTheLimitAndKeepTheirDistance) {
  MMapOptions o;
  o.grows_down = true;
  Addr top = 0x7000'0000'0000;
  MapFixed(top - 8192, 8192, kRW, o);
  MmLimits limits;
  limits.stack = 1 << 20;
  uint8_t b = 3;
  EXPECT_FALSE(GuestAccess(*mm_, top - 300000, true, &b, limits));
  EXPECT_EQ(GuestRead(*mm_, top - 300000), 3);
  auto s = GuestAccess(*mm_, top - (1 << 20) - 1, true, &b, limits);
  ASSERT_TRUE(s);
  EXPECT_EQ(s->signo, SIGSEGV);
  EXPECT_EQ(s->si_code, SEGV_MAPERR);
  // A neighbour within the guard gap stops it.
  Addr other = 0x6000'0000'0000;
  MapFixed(other - 8192, 8192, kRW, o);
  MapFixed(other - (512 << 10), 4096);
  EXPECT_TRUE(GuestWrite(*mm_, other - 100000, 1));
  // The sentry's copies grow it too.
  Addr third = 0x5000'0000'0000;
  MapFixed(third - 8192, 8192, kRW, o);
  EXPECT_EQ(WriteGuest(third - 20000, "deep").value_or(0), 4u);
  EXPECT_EQ(mm_->usage().stack_bytes % 4096, 0u);
}

TEST_F(MmTest, MremapGrowsShrinksAndMoves) {
  Addr a = Map(4 * 4096);
  ASSERT_FALSE(GuestWrite(*mm_, a + 4096, 5));
  // Something right above: has to move.
  EXPECT_TRUE(mm_->Mremap(a, 4 * 4096, 8 * 4096, 0, 0, {}).failed_with(ENOMEM) ||
              mm_->Mremap(a, 8 * 4096, 4 * 4096, 0, 0, {}).ok());
  MapFixed(a + 4 * 4096, 4096, kR);
  EXPECT_TRUE(mm_->Mremap(a, 4 * 4096, 8 * 4096, 0, 0, {}).failed_with(ENOMEM));
  Addr b = *mm_->Mremap(a, 4 * 4096, 8 * 4096, MREMAP_MAYMOVE, 0, {});
  EXPECT_NE(a, b);
  EXPECT_EQ(GuestRead(*mm_, b + 4096), 5);
  EXPECT_EQ(GuestRead(*mm_, b + 7 * 4096), 0);
  EXPECT_EQ(GuestRead(*mm_, a + 4096), -SIGSEGV);
  EXPECT_EQ(*mm_->Mremap(b, 8 * 4096, 2 * 4096, 0, 0, {}), b);
  EXPECT_EQ(GuestRead(*mm_, b + 3 * 4096), -SIGSEGV);
  Addr c = 0x30000000;
  EXPECT_EQ(*mm_->Mremap(b, 2 * 4096, 4096 * 2, MREMAP_MAYMOVE | MREMAP_FIXED, c, {}), c);
  EXPECT_EQ(GuestRead(*mm_, c + 4096), 5);
  Addr d = *mm_->Mremap(c, 2 * 4096, 2 * 4096, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0, {});
  EXPECT_EQ(GuestRead(*mm_, d + 4096), 5);
  EXPECT_EQ(GuestRead(*mm_, c + 4096), 0);
  EXPECT_TRUE(mm_->Mremap(d, 2 * 4096, 4096, MREMAP_FIXED, c, {}).failed_with(EINVAL));
  EXPECT_TRUE(mm_->Mremap(d, 2 * 4096, 0, 0, 0, {}).failed_with(EINVAL));
  EXPECT_TRUE(mm_->Mremap(0x1000'0000, 4096, 8192, 0, 0, {}).failed_with(EFAULT));
  EXPECT_TRUE(mm_->Mremap(d, 0, 4096, MREMAP_MAYMOVE, 0, {}).failed_with(EINVAL));
  MMapOptions o;
  o.shared = true;
  Addr s = Map(8192, kRW, o);
  ASSERT_FALSE(GuestWrite(*mm_, s, 6));
  Addr s2 = *mm_->Mremap(s, 0, 8192, MREMAP_MAYMOVE, 0, {});
  EXPECT_EQ(GuestRead(*mm_, s2), 6);
  ASSERT_FALSE(GuestWrite(*mm_, s2, 8));
  EXPECT_EQ(GuestRead(*mm_, s), 8);
}

TEST_F(MmTest, AdviceDiscardsPages) {
  Addr a = Map(64 << 10);
  for (int i = 0; i < 16; ++i) ASSERT_FALSE(GuestWrite(*mm_, a + i * 4096, 1));
  auto child = *mm_->Fork();
  ASSERT_TRUE(mm_->Madvise(a + 4096, 8192, MADV_DONTNEED).ok());
  EXPECT_EQ(GuestRead(*mm_, a), 1);
  EXPECT_EQ(GuestRead(*mm_, a + 4096), 0);
  EXPECT_EQ(GuestRead(*mm_, a + 8192), 0);
  EXPECT_EQ(GuestRead(*mm_, a + 12288), 1);
  EXPECT_EQ(GuestRead(*child, a + 4096), 1);
  child->DropUser();
  EXPECT_TRUE(mm_->Madvise(a, 65 << 10, MADV_DONTNEED).failed_with(ENOMEM));
  EXPECT_EQ(GuestRead(*mm_, a), 0);
  EXPECT_TRUE(mm_->Madvise(a, 4096, 9999).failed_with(EINVAL));
  EXPECT_TRUE(mm_->Madvise(a + 1, 4096, MADV_NORMAL).failed_with(EINVAL));
  EXPECT_TRUE(mm_->Madvise(a, 0, MADV_DONTNEED).ok());
  MMapOptions o;
  o.shared = true;
  Addr s = Map(8192, kRW, o);
  ASSERT_FALSE(GuestWrite(*mm_, s, 4));
  EXPECT_TRUE(mm_->Madvise(s, 8192, MADV_DONTNEED).ok());
  EXPECT_EQ(GuestRead(*mm_, s), 4);
  EXPECT_TRUE(mm_->Madvise(s, 8192, MADV_REMOVE).ok());
  EXPECT_EQ(GuestRead(*mm_, s), 0);
}

TEST_F(MmTest, MincoreAndUsageFollowTouchedPages) {
  Addr a = Map(8 * 4096);
  ASSERT_FALSE(GuestWrite(*mm_, a + 2 * 4096, 1));
  auto v = *mm_->Mincore(a, 8 * 4096);
  EXPECT_EQ(v, (std::vector<uint8_t>{0, 0, 1, 0, 0, 0, 0, 0}));
  EXPECT_TRUE(mm_->Mincore(a, 9 * 4096).failed_with(ENOMEM));
  EXPECT_EQ(mm_->usage().resident_bytes, 4096u);
  EXPECT_EQ(mm_->usage().virtual_bytes, 8u * 4096);
}

TEST_F(MmTest, LockedMemoryIsAccounted) {
  MmLimits limits;
  limits.memlock = 8192;
  Addr a = Map(4 * 4096);
  EXPECT_TRUE(mm_->Mlock(a, 4 * 4096, 0, false, limits).failed_with(ENOMEM));
  EXPECT_TRUE(mm_->Mlock(a + 1, 4096, 0, false, limits).ok());
  EXPECT_EQ(mm_->usage().locked_bytes, 8192u);
  EXPECT_TRUE(mm_->Madvise(a, 4096, MADV_DONTNEED).failed_with(EINVAL));
  MMapOptions o;
  o.length = 4096;
  o.locked = true;
  EXPECT_TRUE(mm_->MMap(o, limits).failed_with(EAGAIN));
  EXPECT_TRUE(mm_->Munlock(a, 4 * 4096).ok());
  EXPECT_EQ(mm_->usage().locked_bytes, 0u);
  EXPECT_TRUE(mm_->MlockAll(MCL_FUTURE, true, {}).ok());
  Map(4096);
  EXPECT_EQ(mm_->usage().locked_bytes, 4096u);
  EXPECT_TRUE(mm_->MunlockAll().ok());
  EXPECT_EQ(mm_->usage().locked_bytes, 0u);
}

TEST_F(MmTest, FutexWords) {
  Addr a = Map(4096);
  EXPECT_EQ(mm_->Load32(a).value_or(9), 0u);
  EXPECT_EQ(mm_->CompareExchange32(a, 0, 5).value_or(9), 0u);
  EXPECT_EQ(mm_->CompareExchange32(a, 0, 6).value_or(9), 5u);
  EXPECT_EQ(mm_->Load32(a).value_or(9), 5u);
  EXPECT_TRUE(mm_->Load32(a + 1).failed_with(EINVAL));
  EXPECT_TRUE(mm_->Load32(a + 4096).failed_with(EFAULT));
  MMapOptions o;
  o.shared = true;
  Addr s = Map(8192, kRW, o);
  auto child = *mm_->Fork();
  EXPECT_TRUE(*mm_->GetFutexKey(s + 8, false) == *child->GetFutexKey(s + 8, false));
  EXPECT_FALSE(*mm_->GetFutexKey(s + 8, true) == *child->GetFutexKey(s + 8, true));
  EXPECT_FALSE(*mm_->GetFutexKey(a, false) == *child->GetFutexKey(a, false));
  EXPECT_TRUE(mm_->GetFutexKey(a + 4096, false).failed_with(EFAULT));
  EXPECT_TRUE(mm_->GetFutexKey(a + 2, true).failed_with(EINVAL));
  child->DropUser();
}

TEST_F(MmTest, AFailingHostLeavesNothingBehind) {
  Addr a = Map(1 << 20);
  ASSERT_FALSE(GuestWrite(*mm_, a, 1));
  HostOf(*mm_).fail_after = 0;
  MMapOptions o;
  o.length = 4096;
  o.prot = kR;
  EXPECT_TRUE(mm_->MMap(o, {}).failed_with(ENOMEM));
  // It could not even unmap: the process is given up, the sentry is not.
  EXPECT_TRUE(HostOf(*mm_).released);
}

TEST_F(MmTest, AfterOneFailureOfTheHostFaultsBringEverythingBack) {
  Addr a = Map(1 << 20);
  ASSERT_FALSE(GuestWrite(*mm_, a, 1));
  ASSERT_FALSE(GuestWrite(*mm_, a + 4096, 2));
  HostOf(*mm_).fail_once = true;
  EXPECT_TRUE(mm_->Mprotect(a, 4096, kR, false, false).failed_with(ENOMEM));
  EXPECT_FALSE(HostOf(*mm_).released);
  EXPECT_EQ(GuestRead(*mm_, a), 1);
  EXPECT_EQ(GuestRead(*mm_, a + 4096), 2);
  HostOf(*mm_).fail_once = true;
  MMapOptions o;
  o.length = 4096;
  o.prot = kRW;
  EXPECT_TRUE(mm_->MMap(o, {}).failed_with(ENOMEM));
  EXPECT_EQ(mm_->usage().virtual_bytes, uint64_t{1} << 20);
  HostOf(*mm_).fail_once = true;
  EXPECT_TRUE(mm_->Fork().failed_with(ENOMEM) || true);
  HostOf(*mm_).fail_once = false;
  ASSERT_FALSE(GuestWrite(*mm_, a + 4096, 3));
  EXPECT_TRUE(mm_->Munmap(a, 1 << 20).ok());
  EXPECT_EQ(HostOf(*mm_).map.size(), 0u);
}

TEST_F(MmTest, VmasAreReportedWithNames) {
  auto file = base::MakeRef<DonatedFile>(std::string(8192, 'm'));
  MMapOptions o;
  o.mappable = file;
  o.offset = 4096;
  Addr a = Map(4096, kR, o);
  MMapOptions named;
  named.name = "[stack]";
  named.grows_down = true;
  MapFixed(0x7000'0000'0000, 4096, kRW, named);
  auto v = mm_->Vmas();
  ASSERT_EQ(v.size(), 2u);
  EXPECT_EQ(v[1].range.start, a);
  EXPECT_EQ(v[1].identity.path, "/donated");
  EXPECT_EQ(v[1].offset, 4096u);
  EXPECT_EQ(v[0].identity.path, "[stack]");
}

TEST_F(MmTest, PagesGoBackToTheFile) {
  mm_->DropUser();
  mm_.reset();
  memory_file_ = *platform::MemoryFile::Create({});
  env_.memory_file = memory_file_.get();
  mm_ = *MemoryManager::Create(env_);
  Addr a = Map(64 << 20);
  for (uint64_t i = 0; i < 64 << 20; i += 4096) ASSERT_FALSE(GuestWrite(*mm_, a + i, 1));
  EXPECT_GE(memory_file_->usage(), uint64_t{64} << 20);
  ASSERT_TRUE(mm_->Munmap(a, 64 << 20).ok());
  EXPECT_LE(memory_file_->usage(), uint64_t{32} << 20);
}

TEST_F(MmTest, NoMemoryIsAnErrorAndASignal) {
  auto limited = *platform::MemoryFile::Create({.limit_bytes = 1 << 20});
  MmEnvironment env{&platform_, limited.get()};
  auto mm = *MemoryManager::Create(env);
  MMapOptions o;
  o.length = 4 << 20;
  o.prot = kRW;
  Addr a = *mm->MMap(o, {});
  for (uint64_t i = 0; i < 2 << 20; i += 4096) ASSERT_FALSE(GuestWrite(*mm, a + i, 1));
  Result<Addr> b = mm->MMap(o, {});
  // Either refused at once or at the touch.
  if (b.ok()) {
    EXPECT_EQ(GuestRead(*mm, *b), -SIGBUS);
    EXPECT_TRUE(mm->CopyOut(*b, std::as_bytes(std::span("x", 1))).failed_with(EFAULT));
  }
  mm->DropUser();
}

TEST_F(MmTest, ManyFibersAtOnce) {
  auto file = base::MakeRef<DonatedFile>(std::string(64 << 10, 'c'));
  MMapOptions o;
  o.shared = true;
  Addr counter = Map(4096, kRW, o), priv = Map(256 << 10);
  Addr mapped = MapFile(file, 64 << 10, kRW, true);
  constexpr int kFibers = 6, kRounds = 100;
  base::Scheduler::Options options;
  options.executors = 3;
  options.bind_cpus = false;
  base::Scheduler scheduler(std::move(options));
  std::vector<RefPtr<base::Fiber>> fibers;
  for (int f = 0; f < kFibers; ++f) {
    fibers.push_back(base::Fiber::Spawn(scheduler, {}, [&, f] {
      Addr mine = priv + static_cast<uint64_t>(f) * (32 << 10);
      for (int i = 0; i < kRounds; ++i) {
        for (;;) {
          uint32_t seen = mm_->Load32(counter).value_or(0);
          if (mm_->CompareExchange32(counter, seen, seen + 1).value_or(~seen) == seen) break;
        }
        uint32_t mark = static_cast<uint32_t>(f * 1000 + i);
        ASSERT_TRUE(mm_->Write(UserPtr<uint32_t>{mine}, mark).ok());
        switch ((i + f) % 5) {
          case 0: {
            auto child = mm_->Fork();
            ASSERT_TRUE(child.ok());
            // Writes of others may be under way; one's own are there.
            EXPECT_EQ((*child)->Read(UserPtr<uint32_t>{mine}).value_or(0), mark);
            (*child)->DropUser();
            break;
          }
          case 1: {
            MMapOptions own;
            own.length = 8 * 4096;
            own.prot = kRW;
            Addr a = mm_->MMap(own, {}).value_or(0);
            EXPECT_EQ(mm_->CopyOut(a + 4000, std::as_bytes(std::span("0123456789"))).value_or(0), 11u);
            EXPECT_TRUE(mm_->Munmap(a, 8 * 4096).ok());
            break;
          }
          case 2:
            file->Resize(i % 2 ? 64 << 10 : 4096);
            break;
          case 3:
            (void)mm_->CopyOut(mapped + 8192, std::as_bytes(std::span("file"))).ok();
            break;
          default:
            (void)mm_->HandleFault(mine, platform::AccessType::kWrite, {});
            break;
        }
        EXPECT_EQ(mm_->Read(UserPtr<uint32_t>{mine}).value_or(0), mark);
      }
    }));
  }
  for (auto& fiber : fibers) fiber->Join();
  EXPECT_EQ(mm_->Load32(counter).value_or(0), static_cast<uint32_t>(kFibers * kRounds));
}

}  // namespace
}  // namespace sentry::testing

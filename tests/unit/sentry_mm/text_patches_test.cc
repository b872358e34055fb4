// Patched text over a table of host mappings: what is mapped when, and that nobody but the host sees it.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <map>
#include <random>
#include <set>

#include "base/safe_copy_unsafe.h"
#include "tests/unit/sentry_mm/fake_host.h"

namespace sentry::testing {
namespace {

constexpr uint8_t kR = PROT_READ, kRX = PROT_READ | PROT_EXEC, kRWX = kRX | PROT_WRITE;
constexpr uint64_t kSpace = platform::PatchedText::kTrampolineSpace;
constexpr int64_t kDistance = 64 << 20;  // of trampolines from the file's first byte
constexpr uint64_t kFilePages = 16, kFileBytes = kFilePages * kPageSize;
// In each image: what the file has not, and where a thread may be on the way.
constexpr uint8_t kMark = 'P';
constexpr uint64_t kSite = 5, kPadding = 100;

class FakeText final : public platform::PatchedText {
 public:
  std::optional<int64_t> TrampolineDistance(uint64_t offset) const override {
    if (offset >= kFileBytes) return std::nullopt;
    return kDistance - static_cast<int64_t>(offset);
  }
  uint32_t Images(base::Range range, uint32_t known, std::vector<Image>& out) const override {
    for (auto& [offset, number] : pages) {
      if (!range.Contains(offset) || number <= known) continue;
      if (!out.empty() && out.back().offset + out.back().length == offset) {
        out.back().length += kPageSize;
      } else {
        out.push_back({offset, kPageSize, store + kSpace + offset});
      }
    }
    return static_cast<uint32_t>(pages.size());
  }
  uint64_t trampoline_bytes() const override { return pages.size() * kPageSize; }  // a page for each
  uint64_t trampoline_offset() const override { return store; }
  std::optional<int64_t> FindOriginal(int64_t position) const override {
    if (position >= 0 && static_cast<uint64_t>(position) < trampoline_bytes()) {
      for (auto& [offset, number] : pages) {
        if (number == position / kPageSize + 1) return static_cast<int64_t>(offset + kSite) - kDistance;
      }
    }
    const uint64_t at = static_cast<uint64_t>(position + kDistance);
    if (at % kPageSize != kPadding || !pages.contains(PageRoundDown(at))) return std::nullopt;
    return static_cast<int64_t>(PageRoundDown(at) + kSite) - kDistance;
  }
  std::map<uint64_t, uint32_t> pages;  // by offset
  uint64_t store = 0;
};

class FakePatcher final : public platform::TextPatcher {
 public:
  FakePatcher() : fd_(memfd_create("text", MFD_CLOEXEC)) { CHECK(ftruncate(fd_.get(), 64 << 20) == 0); }
  int fd() const override { return fd_.get(); }
  base::RefPtr<platform::PatchedText> Find(int fd) override {
    ++finds;
    auto it = texts.find(Ino(fd));
    if (it == texts.end()) return nullptr;
    return it->second;
  }
  base::Result<base::RefPtr<platform::PatchedText>> Patch(int fd, uint64_t offset, uint64_t) override {
    ++patches;
    if (refuse != 0) return base::Errno(refuse);
    Add(fd, PageOfCall(offset));
    return base::RefPtr<platform::PatchedText>(texts[Ino(fd)]);
  }
  void Add(int fd, uint64_t page) {
    base::RefPtr<FakeText>& text = texts[Ino(fd)];
    if (!text) {
      text = base::MakeRef<FakeText>();
      text->store = texts.size() << 20;
    }
    if (text->pages.contains(page)) return;
    text->pages[page] = static_cast<uint32_t>(text->pages.size() + 1);
    std::vector<uint8_t> bytes(kPageSize);
    CHECK(pread(fd, bytes.data(), kPageSize, static_cast<off_t>(page)) == static_cast<ssize_t>(kPageSize));
    bytes[kSite] = kMark;
    CHECK(pwrite(fd_.get(), bytes.data(), kPageSize, static_cast<off_t>(text->store + kSpace + page)) ==
          static_cast<ssize_t>(kPageSize));
  }
  static uint64_t Ino(int fd) {
    struct stat st;
    CHECK(fstat(fd, &st) == 0);
    return st.st_ino;
  }
  std::map<uint64_t, base::RefPtr<FakeText>> texts;
  int finds = 0, patches = 0, refuse = 0;

 private:
  base::UniqueFd fd_;
};

class TextPatchesTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { base::InstallSafeCopyHandlers(); }
  void SetUp() override {
    memory_file_ = *platform::MemoryFile::Create({});
    platform_.patcher = &patcher_;
    env_ = {&platform_, memory_file_.get()};
    env_.stop_threads = [this](MemoryManager& mm) {
      ++stops_;
      EXPECT_TRUE(mm.text_changing());
      if (on_stop_) on_stop_(mm);
    };
    mm_ = *MemoryManager::Create(env_);
    file_ = base::MakeRef<DonatedFile>(std::string(kFileBytes, 'o'));
  }
  void TearDown() override {
    if (mm_) mm_->DropUser();
    mm_.reset();
  }
  int Fd() { return file_->Translate(0, kPageSize, false)->fd; }
  // As execve(2) maps an interpreter: what is known of the file comes with it.
  Addr Map(MemoryManager& mm, uint8_t prot = kRX, Addr fixed = 0, uint64_t offset = 0, uint64_t length = kFileBytes) {
    MMapOptions o;
    o.addr = fixed;
    o.fixed = fixed != 0;
    o.length = length;
    o.prot = prot;
    o.offset = offset;
    o.mappable = file_;
    o.interpreter = true;
    auto r = mm.MMap(o, {});
    EXPECT_TRUE(r.ok());
    return r.value_or(0);
  }
  Addr MapAnonymous(Addr fixed, uint64_t length = kPageSize) {
    MMapOptions o;
    o.addr = fixed;
    o.fixed = true;
    o.length = length;
    o.prot = kR;
    auto r = mm_->MMap(o, {});
    EXPECT_TRUE(r.ok());
    return r.value_or(0);
  }
  // What the guest executes, and what everybody else reads.
  static int Executed(MemoryManager& mm, Addr text, uint64_t page) {
    return GuestRead(mm, text + page * kPageSize + kSite);
  }
  static int Shown(MemoryManager& mm, Addr text, uint64_t page) {
    uint8_t byte = 0;
    auto n = mm.CopyIn(std::as_writable_bytes(std::span(&byte, 1)), text + page * kPageSize + kSite);
    return n.ok() ? byte : -1;
  }
  bool HasTrampolines(MemoryManager& mm, Addr text) {
    auto it = HostOf(mm).map.Find(text + kDistance);
    return it != HostOf(mm).map.end() && it->second.value.fd == patcher_.fd() && it->second.value.prot == kRX;
  }
  static void Trap(MemoryManager& mm, Addr text, uint64_t page, int times) {
    for (int i = 0; i < times; ++i) mm.NoteTrap(text + page * kPageSize + kSite + 7, 39);
  }

  FakePlatform platform_;
  FakePatcher patcher_;
  std::unique_ptr<platform::MemoryFile> memory_file_;
  MmEnvironment env_;
  RefPtr<MemoryManager> mm_;
  RefPtr<DonatedFile> file_;
  int stops_ = 0;
  std::function<void(MemoryManager&)> on_stop_;
};

TEST_F(TextPatchesTest, KnownImagesAreMappedWithTheFileAndNobodyElseSeesThem) {
  patcher_.Add(Fd(), 3 * kPageSize);
  const Addr text = Map(*mm_);
  EXPECT_EQ(Executed(*mm_, text, 3), kMark);
  EXPECT_EQ(Executed(*mm_, text, 2), 'o');
  EXPECT_EQ(Shown(*mm_, text, 3), 'o');
  EXPECT_TRUE(HasTrampolines(*mm_, text));
  EXPECT_EQ(mm_->Vmas().size(), 1u);
  EXPECT_FALSE(mm_->Mincore(text + kDistance, kPageSize).ok());
  EXPECT_TRUE(mm_->text_patched());
  EXPECT_EQ(HostOf(*mm_).applies, 1);
  ASSERT_TRUE(mm_->Munmap(text, kFileBytes).ok());
  EXPECT_EQ(HostOf(*mm_).map.begin(), HostOf(*mm_).map.end());
  EXPECT_FALSE(mm_->text_patched());
  EXPECT_EQ(stops_, 0);
}

TEST_F(TextPatchesTest, TextThatAProgramMapsIsPatchedIfItsInterpreterMapsItOrACallTrapsThere) {
  auto interpreter = base::MakeRef<DonatedFile>(std::string(kFileBytes, 'i'));
  patcher_.Add(Fd(), 3 * kPageSize);
  patcher_.Add(interpreter->Translate(0, kPageSize, false)->fd, kPageSize);
  const Addr program = Map(*mm_);
  MMapOptions o;
  o.length = kFileBytes;
  o.prot = kRX;
  o.mappable = interpreter;
  o.interpreter = true;
  const Addr loader = *mm_->MMap(o, {});
  o.interpreter = false;
  o.mappable = file_;
  for (Addr caller : {loader + 100, loader + kDistance + 100}) {
    o.caller = caller;
    EXPECT_EQ(Executed(*mm_, *mm_->MMap(o, {}), 3), kMark);
  }
  o.caller = program + 100;
  const Addr text = *mm_->MMap(o, {}), second = *mm_->MMap(o, {});
  EXPECT_EQ(Executed(*mm_, text, 3), 'o');
  auto child = *mm_->Fork();
  EXPECT_EQ(Executed(*child, text, 3), 'o');
  o.caller = loader + 100;
  EXPECT_EQ(Executed(*child, *child->MMap(o, {}), 3), kMark);
  child->DropUser();
  Trap(*mm_, text, 3, TrapCounts::kInstallTraps);
  EXPECT_EQ(Executed(*mm_, text, 3), kMark);
  EXPECT_EQ(Executed(*mm_, second, 3), 'o');
  EXPECT_EQ(patcher_.patches, 0);
}

TEST_F(TextPatchesTest, OnlyPrivateTextThatCannotBeWrittenIsPatched) {
  patcher_.Add(Fd(), 0);
  EXPECT_EQ(Executed(*mm_, Map(*mm_, kR), 0), 'o');
  EXPECT_EQ(Executed(*mm_, Map(*mm_, kRWX), 0), 'o');
  MMapOptions o;
  o.length = kFileBytes;
  o.prot = kRX;
  o.shared = true;
  o.mappable = file_;
  EXPECT_EQ(Executed(*mm_, *mm_->MMap(o, {}), 0), 'o');
  EXPECT_FALSE(mm_->text_patched());
}

TEST_F(TextPatchesTest, NeighbouringImagesAreOneMappingOfTheHosts) {
  for (uint64_t page : {4, 5, 6}) patcher_.Add(Fd(), page * kPageSize);
  const Addr text = Map(*mm_);
  auto it = HostOf(*mm_).map.Find(text + 4 * kPageSize);
  ASSERT_NE(it, HostOf(*mm_).map.end());
  EXPECT_EQ(it->first, text + 4 * kPageSize);
  EXPECT_EQ(it->second.end, text + 7 * kPageSize);
}

TEST_F(TextPatchesTest, PatchesAPageAfterSomeTrapsAndEveryProcessProfits) {
  const Addr text = Map(*mm_);
  auto other = *MemoryManager::Create(env_);
  const Addr theirs = Map(*other);
  Trap(*mm_, text, 7, TrapCounts::kPatchTraps - 1);
  EXPECT_EQ(patcher_.patches, 0);
  EXPECT_EQ(Executed(*mm_, text, 7), 'o');
  Trap(*mm_, text, 7, 1);
  EXPECT_EQ(patcher_.patches, 1);
  EXPECT_EQ(Executed(*mm_, text, 7), kMark);
  EXPECT_TRUE(HasTrampolines(*mm_, text));
  // One that has it mapped already needs a few traps, and no analysis.
  EXPECT_EQ(Executed(*other, theirs, 7), 'o');
  Trap(*other, theirs, 7, TrapCounts::kInstallTraps);
  EXPECT_EQ(Executed(*other, theirs, 7), kMark);
  EXPECT_EQ(patcher_.patches, 1);
  // A second page needs more trampolines.
  Trap(*mm_, text, 9, TrapCounts::kPatchTraps);
  EXPECT_EQ(Executed(*mm_, text, 9), kMark);
  EXPECT_TRUE(HasTrampolines(*mm_, text + kPageSize));
  other->DropUser();
}

TEST_F(TextPatchesTest, AsksNoMoreAboutAPageWithoutCallSites) {
  const Addr text = Map(*mm_);
  patcher_.refuse = ENOEXEC;
  Trap(*mm_, text, 7, 5000);
  EXPECT_EQ(patcher_.patches, 1);
  patcher_.refuse = EAGAIN;
  Trap(*mm_, text, 8, 64);
  EXPECT_EQ(patcher_.patches, 1 + 3);
  // And nothing about what is no text of a file.
  const int finds = patcher_.finds;
  Trap(*mm_, MapAnonymous(0x200000), 0, 5000);
  EXPECT_EQ(patcher_.finds, finds);
}

TEST_F(TextPatchesTest, ChildrenAndProgramsHaveItAfterSomeTraps) {
  patcher_.Add(Fd(), 0);
  const Addr text = Map(*mm_);
  auto child = *mm_->Fork();
  EXPECT_EQ(HostOf(*child).applies, 1);
  auto program = *MemoryManager::Create(env_);
  MMapOptions o;
  o.addr = text;
  o.fixed = true;
  o.length = kFileBytes;
  o.prot = kRX;
  o.mappable = file_;
  ASSERT_TRUE(program->MMap(o, {}).ok());
  for (auto& mm : {child, program}) {
    EXPECT_EQ(Executed(*mm, text, 0), 'o');
    EXPECT_FALSE(HasTrampolines(*mm, text));
    Trap(*mm, text, 0, TrapCounts::kInstallTraps);
    EXPECT_EQ(Executed(*mm, text, 0), kMark);
    EXPECT_TRUE(HasTrampolines(*mm, text));
  }
  EXPECT_EQ(patcher_.patches, 0);
  EXPECT_EQ(stops_, 0);
  program->DropUser();
  // The one's changes are not the other's.
  ASSERT_TRUE(child->Mprotect(text, kPageSize, kRWX, false, false).ok());
  EXPECT_EQ(Executed(*child, text, 0), 'o');
  EXPECT_EQ(Executed(*mm_, text, 0), kMark);
  child->DropUser();
}

TEST_F(TextPatchesTest, TextThatIsMadeWritableGoesBackForGood) {
  patcher_.Add(Fd(), 0);
  patcher_.Add(Fd(), 9 * kPageSize);
  const Addr text = Map(*mm_);
  ASSERT_TRUE(mm_->Mprotect(text, kPageSize, kRWX, false, false).ok());
  EXPECT_EQ(stops_, 1);
  EXPECT_FALSE(mm_->text_changing());
  EXPECT_EQ(Executed(*mm_, text, 0), 'o');
  EXPECT_EQ(Executed(*mm_, text, 9), 'o');
  EXPECT_FALSE(HasTrampolines(*mm_, text));
  EXPECT_FALSE(mm_->text_patched());
  uint8_t value = 'w';
  ASSERT_FALSE(GuestAccess(*mm_, text + kSite, true, &value));
  ASSERT_TRUE(mm_->Mprotect(text, kPageSize, kRX, false, false).ok());
  EXPECT_EQ(Executed(*mm_, text, 0), 'w');
  Trap(*mm_, text, 9, 5000);
  EXPECT_EQ(Executed(*mm_, text, 9), 'o');
  EXPECT_EQ(stops_, 1);
}

TEST_F(TextPatchesTest, TextThatIsNotExecutedReadsAsTheFile) {
  patcher_.Add(Fd(), 0);
  const Addr text = Map(*mm_);
  ASSERT_TRUE(mm_->Mprotect(text, kFileBytes, kR, false, false).ok());
  EXPECT_EQ(Executed(*mm_, text, 0), 'o');
  EXPECT_FALSE(HasTrampolines(*mm_, text));
}

TEST_F(TextPatchesTest, AWriteFromOutsideRestoresAll) {
  patcher_.Add(Fd(), 0);
  const Addr text = Map(*mm_);
  const uint8_t breakpoint = 0xcc;
  ASSERT_TRUE(mm_->ForceCopyOut(text + kSite, std::as_bytes(std::span(&breakpoint, 1))).ok());
  EXPECT_EQ(Executed(*mm_, text, 0), 0xcc);
  EXPECT_EQ(stops_, 1);
  EXPECT_FALSE(HasTrampolines(*mm_, text));
}

TEST_F(TextPatchesTest, ThreadsThatAreStoppedAreWhereTheyWouldBe) {
  patcher_.Add(Fd(), 0);
  const Addr text = Map(*mm_);
  on_stop_ = [&](MemoryManager& mm) {
    platform::Registers regs{};
    platform::Exit exit;
    // As threads see it that leave the guest now.
    for (Addr at : {text + kDistance, text + kPadding}) {
      regs.rip = at;
      mm.ShowOriginal(regs, exit);
      EXPECT_EQ(regs.rip, text + kSite);
      // The text is as it was, and so are the trampolines.
      EXPECT_EQ(Executed(mm, text, 0), kMark);
    }
  };
  mm_->RestoreText();
  EXPECT_EQ(stops_, 1);
}

TEST_F(TextPatchesTest, ShowsTheOriginalPositionOfTextThatIsPatchedAlone) {
  patcher_.Add(Fd(), 0);
  const Addr text = Map(*mm_);
  // The same page of the file, but not by this address: somebody else's bytes may be there.
  Map(*mm_, kR, 0x500000);
  platform::Registers regs{};
  platform::Exit exit;
  auto shown = [&](Addr rip) {
    regs.rip = exit.address = rip;
    mm_->ShowOriginal(regs, exit);
    EXPECT_EQ(exit.address, regs.rip);
    return regs.rip;
  };
  EXPECT_EQ(shown(text + kDistance), text + kSite);
  EXPECT_EQ(shown(text + kPadding), text + kSite);
  EXPECT_EQ(shown(text + kSite), text + kSite);
  EXPECT_EQ(shown(text + kPageSize + kPadding), text + kPageSize + kPadding);
  EXPECT_EQ(shown(0x500000 + kPadding), 0x500000u + kPadding);
  EXPECT_EQ(shown(0), 0u);
  EXPECT_EQ(shown(UINT64_MAX), UINT64_MAX);
}

TEST_F(TextPatchesTest, UnmappingAPartRestoresTheRest) {
  patcher_.Add(Fd(), 0);
  patcher_.Add(Fd(), 9 * kPageSize);
  const Addr text = Map(*mm_);
  ASSERT_TRUE(mm_->Munmap(text + 4 * kPageSize, 6 * kPageSize).ok());
  EXPECT_EQ(stops_, 1);
  EXPECT_EQ(Executed(*mm_, text, 0), 'o');
  EXPECT_EQ(Executed(*mm_, text, 9), -SIGSEGV);
  EXPECT_FALSE(HasTrampolines(*mm_, text));
  // That is no reason not to patch it again.
  Trap(*mm_, text, 0, TrapCounts::kInstallTraps);
  EXPECT_EQ(Executed(*mm_, text, 0), kMark);
}

TEST_F(TextPatchesTest, WhatHasNoImagesComesAndGoes) {
  // As loaders do: all of the file to be executed, and then data over its end.
  patcher_.Add(Fd(), 0);
  const Addr text = Map(*mm_);
  Map(*mm_, PROT_READ | PROT_WRITE, text + 12 * kPageSize, 12 * kPageSize, 4 * kPageSize);
  ASSERT_TRUE(mm_->Munmap(text + 5 * kPageSize, kPageSize).ok());
  ASSERT_TRUE(mm_->Mprotect(text + 8 * kPageSize, kPageSize, kRWX, false, false).ok());
  uint8_t value = 'w';
  ASSERT_FALSE(GuestAccess(*mm_, text + 8 * kPageSize + kSite, true, &value));
  EXPECT_EQ(Executed(*mm_, text, 0), kMark);
  EXPECT_TRUE(HasTrampolines(*mm_, text));
  EXPECT_EQ(stops_, 0);
  // An image that is made later goes where the text still is.
  Trap(*mm_, text, 3, TrapCounts::kPatchTraps);
  EXPECT_EQ(Executed(*mm_, text, 3), kMark);
  patcher_.Add(Fd(), 8 * kPageSize);
  patcher_.Add(Fd(), 13 * kPageSize);
  Trap(*mm_, text, 2, TrapCounts::kPatchTraps);
  EXPECT_EQ(Executed(*mm_, text, 8), 'w');
  EXPECT_EQ(Executed(*mm_, text, 13), 'o');
  platform::Registers regs{};
  platform::Exit exit;
  regs.rip = text + 8 * kPageSize + kPadding;
  mm_->ShowOriginal(regs, exit);
  EXPECT_EQ(regs.rip, text + 8 * kPageSize + kPadding);
}

TEST_F(TextPatchesTest, TheGuestMayHaveThePlaceOfTrampolines) {
  patcher_.Add(Fd(), 0);
  const Addr text = Map(*mm_);
  MapAnonymous(text + kDistance + kSpace - kPageSize);
  EXPECT_EQ(stops_, 1);
  EXPECT_EQ(Executed(*mm_, text, 0), 'o');
  EXPECT_EQ(GuestRead(*mm_, text + kDistance), -SIGSEGV);
  EXPECT_EQ(GuestRead(*mm_, text + kDistance + kSpace - kPageSize), 0);
  Trap(*mm_, text, 0, 5000);
  EXPECT_EQ(Executed(*mm_, text, 0), 'o');
}

TEST_F(TextPatchesTest, IsNotPatchedWhereThePlaceOfTrampolinesIsTaken) {
  patcher_.Add(Fd(), 0);
  constexpr Addr kAt = 0x10000000;
  MapAnonymous(kAt + kDistance + kPageSize);
  Map(*mm_, kRX, kAt);
  EXPECT_EQ(Executed(*mm_, kAt, 0), 'o');
  EXPECT_EQ(stops_, 0);
  // Another place of the same process is as good as any.
  EXPECT_EQ(Executed(*mm_, Map(*mm_, kRX, 0x20000000), 0), kMark);
}

TEST_F(TextPatchesTest, TheAllocatorKeepsOutOfTheWay) {
  patcher_.Add(Fd(), 0);
  constexpr Addr kAt = 0x40000000;
  Map(*mm_, kRX, kAt);
  const base::Range reserved{kAt + kDistance, kAt + kDistance + kSpace};
  MMapOptions o;
  o.length = kPageSize;
  o.addr = reserved.start + kPageSize;
  const Addr hinted = *mm_->MMap(o, {});
  EXPECT_FALSE(reserved.Overlaps({hinted, hinted + kPageSize}));
  o.addr = 0;
  o.map_32bit = true;
  o.length = 16 << 20;
  std::vector<Addr> got;
  for (;;) {
    auto r = mm_->MMap(o, {});
    if (!r.ok()) break;
    EXPECT_FALSE(reserved.Overlaps({*r, *r + o.length})) << std::hex << *r;
  }
  EXPECT_EQ(Executed(*mm_, kAt, 0), kMark);
  EXPECT_EQ(stops_, 0);
}

TEST_F(TextPatchesTest, TheTopDownAllocatorKeepsOutOfTheWay) {
  // Text so low that its trampolines are below the area's top.
  patcher_.Add(Fd(), 0);
  MMapOptions o;
  o.length = 1 << 20;
  const Addr top = *mm_->MMap(o, {});
  const Addr at = top - kDistance - (1 << 20);
  Map(*mm_, kRX, at);
  EXPECT_EQ(Executed(*mm_, at, 0), kMark);
  const base::Range reserved{at + kDistance, at + kDistance + kSpace};
  o.length = 300 << 10;
  for (int i = 0; i < 20; ++i) {
    auto r = mm_->MMap(o, {});
    ASSERT_TRUE(r.ok());
    EXPECT_FALSE(reserved.Overlaps({*r, *r + o.length})) << std::hex << *r;
  }
  EXPECT_EQ(Executed(*mm_, at, 0), kMark);
}

TEST_F(TextPatchesTest, MovedTextIsPatchedWhereItIsThen) {
  patcher_.Add(Fd(), 0);
  const Addr text = Map(*mm_);
  constexpr Addr kTo = 0x700000;
  ASSERT_TRUE(mm_->Mremap(text, kFileBytes, kFileBytes, MREMAP_MAYMOVE | MREMAP_FIXED, kTo, {}).ok());
  EXPECT_EQ(Executed(*mm_, kTo, 0), kMark);
  EXPECT_TRUE(HasTrampolines(*mm_, kTo));
  EXPECT_FALSE(HasTrampolines(*mm_, text));
}

TEST_F(TextPatchesTest, DebuggersEndItForTheAddressSpaceAndItsChildren) {
  patcher_.Add(Fd(), 0);
  const Addr text = Map(*mm_);
  mm_->RestoreText();
  EXPECT_EQ(Executed(*mm_, text, 0), 'o');
  Trap(*mm_, text, 1, 5000);
  EXPECT_EQ(Executed(*mm_, text, 1), 'o');
  EXPECT_EQ(patcher_.patches, 0);
  auto child = *mm_->Fork();
  EXPECT_EQ(Executed(*child, text, 0), 'o');
  child->DropUser();
  auto fresh = *MemoryManager::Create(env_);
  EXPECT_EQ(Executed(*fresh, Map(*fresh), 0), kMark);
  fresh->DropUser();
}

TEST_F(TextPatchesTest, WhenTheHostFailsTheFileIsExecuted) {
  patcher_.Add(Fd(), 0);
  for (int after = 0; after < 6; ++after) {
    auto mm = *MemoryManager::Create(env_);
    Map(*mm, kRX, 0x600000);
    HostOf(*mm).fail_after = after;
    HostOf(*mm).fail_once = false;
    MMapOptions o;
    o.mappable = file_;
    o.addr = 0x900000;
    o.fixed = true;
    o.length = kFileBytes;
    o.prot = kRX;
    o.interpreter = true;
    auto r = mm->MMap(o, {});
    HostOf(*mm).fail_after = -1;
    if (HostOf(*mm).released) {
      mm->DropUser();
      continue;
    }
    if (!r.ok()) {
      EXPECT_EQ(Executed(*mm, 0x600000, 0), 'o') << after;
      EXPECT_FALSE(HasTrampolines(*mm, 0x600000));
      EXPECT_FALSE(mm->text_patched());
    } else {
      EXPECT_EQ(Executed(*mm, 0x900000, 0), kMark) << after;
    }
    mm->DropUser();
  }
}

TEST_F(TextPatchesTest, TruncationTakesItAway) {
  patcher_.Add(Fd(), 0);
  patcher_.Add(Fd(), 9 * kPageSize);
  const Addr text = Map(*mm_);
  ASSERT_EQ(ftruncate(Fd(), 4 * kPageSize), 0);
  file_->InvalidateMappings(4 * kPageSize, UINT64_MAX - kPageSize);
  EXPECT_EQ(Executed(*mm_, text, 9), -SIGBUS);
}

TEST_F(TextPatchesTest, NothingIsPatchedWhereThePlatformDoesNotPatch) {
  platform_.patcher = nullptr;
  auto mm = *MemoryManager::Create(env_);
  const Addr text = Map(*mm);
  Trap(*mm, text, 0, 5000);
  mm->RestoreText();
  EXPECT_EQ(Executed(*mm, text, 0), 'o');
  mm->DropUser();
}

// Whatever happens: images are mapped over text of their own file alone, and never without their trampolines.
TEST_F(TextPatchesTest, RandomOperationsKeepImagesAndTrampolinesTogether) {
  std::mt19937 random(20);
  auto pick = [&](uint64_t n) { return random() % n; };
  std::vector<RefPtr<DonatedFile>> files;
  for (int i = 0; i < 3; ++i) files.push_back(base::MakeRef<DonatedFile>(std::string(kFileBytes, 'a' + i)));
  std::vector<RefPtr<MemoryManager>> all = {mm_};
  constexpr Addr kArena = 0x10000000;
  constexpr uint64_t kArenaPages = 64;
  // Two arenas at the distance of trampolines: what is text here is in the way of others' trampolines there.
  auto place = [&] { return kArena + pick(2) * kDistance + pick(kArenaPages) * kPageSize; };
  auto check = [&](MemoryManager& mm, int step) {
    auto& map = HostOf(mm).map;
    std::set<uint64_t> used;
    for (auto& [start, node] : map) {
      if (node.value.fd != patcher_.fd()) continue;
      ASSERT_EQ(node.value.prot, kRX) << step;
      for (Addr at = start; at < node.end; at += kPageSize) {
        const uint64_t stored = node.value.offset + (at - start);
        FakeText* text = nullptr;
        for (auto& [ino, candidate] : patcher_.texts) {
          if (candidate->store == stored >> 20 << 20) text = candidate.get();
        }
        ASSERT_NE(text, nullptr);
        const uint64_t offset = stored - text->store;
        if (offset < kSpace) continue;
        const uint64_t page = offset - kSpace;
        ASSERT_TRUE(text->pages.contains(page)) << step;
        // Its own trampoline is at its distance.
        const Addr trampoline = at - page + kDistance + (text->pages[page] - 1) * kPageSize;
        auto it = map.Find(trampoline);
        ASSERT_NE(it, map.end()) << step;
        ASSERT_EQ(it->second.value.fd, patcher_.fd()) << step;
        ASSERT_EQ(it->second.value.offset + (trampoline - it->first),
                  text->trampoline_offset() + (text->pages[page] - 1) * kPageSize);
        // It stands for the page that everybody else sees.
        uint8_t shown = 0, executed = 0;
        ASSERT_TRUE(mm.ForceCopyIn(std::as_writable_bytes(std::span(&shown, 1)), at).ok()) << step;
        ASSERT_EQ(pread(patcher_.fd(), &executed, 1, static_cast<off_t>(stored)), 1);
        ASSERT_EQ(shown, executed) << step;
      }
    }
    for (const auto& vma : mm.Vmas()) {
      for (Addr at = vma.range.start; at < vma.range.end; at += kPageSize) {
        auto it = map.Find(at);
        if (it == map.end() || it->second.value.fd != patcher_.fd()) continue;
        EXPECT_EQ(vma.prot, kRX) << step;
      }
    }
  };
  for (int step = 0; step < 4000; ++step) {
    MemoryManager& mm = *all[pick(all.size())];
    const Addr at = place();
    const uint64_t length = (1 + pick(24)) * kPageSize;
    switch (pick(9)) {
      case 0:
      case 1:
      case 2: {
        file_ = files[pick(files.size())];
        const uint64_t first = pick(kFilePages);
        Map(mm,
            pick(4) != 0   ? kRX
            : pick(2) != 0 ? kR
                           : kRWX,
            at, first * kPageSize, std::min(length, (kFilePages - first) * kPageSize));
        break;
      }
      case 3:
        (void)mm.Munmap(at, length).ok();
        break;
      case 4:
        (void)mm.Mprotect(at, length, pick(2) != 0 ? kRX : pick(2) != 0 ? kR : kRWX, false, false).ok();
        break;
      case 5:
        for (int i = 0; i < 16; ++i) mm.NoteTrap(PageRoundDown(at) + 12, 1);
        break;
      case 6:
        (void)mm.Mremap(at, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, place(), {}).ok();
        break;
      case 7: {
        uint8_t byte = 'w';
        (void)mm.ForceCopyOut(at, std::as_bytes(std::span(&byte, 1))).ok();
        break;
      }
      case 8:
        if (pick(4) != 0) break;
        if (all.size() < 4) {
          all.push_back(*mm.Fork());
        } else {
          const size_t gone = 1 + pick(all.size() - 1);
          all[gone]->DropUser();
          all.erase(all.begin() + static_cast<ptrdiff_t>(gone));
        }
        // Refusals are for good: someone has to start anew.
        if (pick(2) != 0) {
          all[0]->DropUser();
          all[0] = mm_ = *MemoryManager::Create(env_);
        }
        break;
    }
    for (auto& one : all) ASSERT_NO_FATAL_FAILURE(check(*one, step));
  }
  EXPECT_GT(stops_, 0);
  for (size_t i = 1; i < all.size(); ++i) all[i]->DropUser();
}

}  // namespace
}  // namespace sentry::testing

#include "platform/systrap/patched_files.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "base/unique_fd.h"

extern "C" {
void patched_files_test_entry();
extern uint64_t patched_files_test_calls;
}
// What the stub's entry promises, without a stub.
asm(R"(
  .text
  .globl patched_files_test_entry
  .type patched_files_test_entry, @function
patched_files_test_entry:
  mov %rcx, %r11
  push %r11
  pushf
  incq patched_files_test_calls(%rip)
  popf
  syscall
  pop %rcx
  jmp *%rcx
  .data
  .balign 8
  .globl patched_files_test_calls
patched_files_test_calls:
  .quad 0
  .text
)");

namespace platform::systrap {
namespace {

constexpr PatchedFiles::Options kAtOnce = {
    .settled_ns = INT64_MIN / 4, .coarse_settled_ns = INT64_MIN / 4, .burst_ns = INT64_MAX / 4};
constexpr uint64_t kPage = 4096;

uint64_t Entry() { return reinterpret_cast<uint64_t>(&patched_files_test_entry); }

std::string PathOfLibc() {
  Dl_info info;
  EXPECT_NE(dladdr(reinterpret_cast<void*>(&getppid), &info), 0);
  return info.dli_fname;
}

// Where the function is in the file: libc's own address in this process, by its program headers.
uint64_t OffsetOf(void* function, const std::string& bytes) {
  Dl_info info;
  EXPECT_NE(dladdr(function, &info), 0);
  const uint64_t address = reinterpret_cast<uint64_t>(function) - reinterpret_cast<uint64_t>(info.dli_fbase);
  Elf64_Ehdr header;
  memcpy(&header, bytes.data(), sizeof(header));
  for (int i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr p;
    memcpy(&p, bytes.data() + header.e_phoff + i * sizeof(p), sizeof(p));
    if (p.p_type == PT_LOAD && address >= p.p_vaddr && address < p.p_vaddr + p.p_filesz) {
      return address - p.p_vaddr + p.p_offset;
    }
  }
  ADD_FAILURE();
  return 0;
}

class PatchedFilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::ifstream in(PathOfLibc(), std::ios::binary);
    libc_.assign(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
    file_ = base::UniqueFd(open(PathOfLibc().c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(file_.valid());
    Make(kAtOnce);
  }
  void Make(PatchedFiles::Options options) {
    auto made = PatchedFiles::Create(Entry(), options);
    ASSERT_TRUE(made.ok());
    files_ = std::move(*made);
  }
  // Behind the first `syscall` of a function.
  uint64_t CallIn(void* function) {
    const uint64_t at = OffsetOf(function, libc_);
    const size_t call = libc_.find("\x0f\x05", at);
    EXPECT_LT(call, at + 64);
    return call + 2;
  }
  base::Result<base::RefPtr<PatchedText>> Patch(void* function, uint64_t number) {
    return files_->Patch(file_.get(), CallIn(function), number);
  }
  std::string Stored(uint64_t offset, size_t length) {
    std::string bytes(length, '\0');
    EXPECT_EQ(pread(files_->fd(), bytes.data(), length, static_cast<off_t>(offset)), static_cast<ssize_t>(length));
    return bytes;
  }
  base::UniqueFd Copy(const std::string& bytes) {
    base::UniqueFd fd(memfd_create("copy", MFD_CLOEXEC));
    EXPECT_EQ(pwrite(fd.get(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
    return fd;
  }

  std::string libc_;
  base::UniqueFd file_;
  std::unique_ptr<PatchedFiles> files_;
};

void* const kGetppid = reinterpret_cast<void*>(&getppid);

TEST_F(PatchedFilesTest, MakesAnImageOnceAndFindsItForEveryDescriptor) {
  EXPECT_FALSE(files_->Find(file_.get()));
  auto first = Patch(kGetppid, SYS_getppid);
  ASSERT_TRUE(first.ok());
  auto second = Patch(kGetppid, SYS_getppid);
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(first->get(), second->get());
  base::UniqueFd other(open(PathOfLibc().c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(files_->Find(other.get()).get(), first->get());

  const uint64_t page = TextPatcher::PageOfCall(CallIn(kGetppid));
  std::vector<PatchedText::Image> images;
  EXPECT_EQ((*first)->Images({0, libc_.size()}, 0, images), 1u);
  ASSERT_EQ(images.size(), 1u);
  EXPECT_EQ(images[0].offset, page);
  EXPECT_EQ(images[0].length, kPage);
  images.clear();
  EXPECT_EQ((*first)->Images({0, libc_.size()}, 1, images), 1u);
  EXPECT_TRUE(images.empty());
}

TEST_F(PatchedFilesTest, ChangesNothingButCallSitesAndPadding) {
  auto text = Patch(kGetppid, SYS_getppid);
  ASSERT_TRUE(text.ok());
  std::vector<PatchedText::Image> images;
  (*text)->Images({0, libc_.size()}, 0, images);
  const std::string image = Stored(images[0].image, kPage);
  EXPECT_NE(image, libc_.substr(images[0].offset, kPage));
  for (size_t i = 0; i + 1 < kPage; ++i) {
    if (libc_.substr(images[0].offset + i, 2) == "\x0f\x05") {
      EXPECT_EQ(image.substr(i, 2), "\x0f\x05") << i;
    }
  }
}

TEST_F(PatchedFilesTest, ImagesWorkWithTrampolinesAtTheirDistance) {
  auto text = Patch(kGetppid, SYS_getppid);
  ASSERT_TRUE(text.ok());
  const uint64_t call = CallIn(kGetppid), page = TextPatcher::PageOfCall(call);
  const auto distance = (*text)->TrampolineDistance(page);
  ASSERT_TRUE(distance);
  const size_t reach = static_cast<size_t>(*distance) + PatchedText::kTrampolineSpace;
  auto* area = static_cast<char*>(mmap(nullptr, reach, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  ASSERT_NE(area, MAP_FAILED);
  constexpr int kText = PROT_READ | PROT_EXEC, kFlags = MAP_SHARED | MAP_FIXED;
  std::vector<PatchedText::Image> images;
  (*text)->Images({page, page + kPage}, 0, images);
  ASSERT_NE(mmap(area, kPage, kText, kFlags, files_->fd(), static_cast<off_t>(images[0].image)), MAP_FAILED);
  ASSERT_NE(mmap(area + *distance, (*text)->trampoline_bytes(), kText, kFlags, files_->fd(),
                 static_cast<off_t>((*text)->trampoline_offset())),
            MAP_FAILED);
  auto copy = reinterpret_cast<pid_t (*)()>(area + (OffsetOf(kGetppid, libc_) - page));
  const uint64_t before = patched_files_test_calls;
  EXPECT_EQ(copy(), getppid());
  EXPECT_EQ(patched_files_test_calls, before + 1);
  munmap(area, reach);
}

TEST_F(PatchedFilesTest, FindsTheOriginalOfEveryPositionOnTheWay) {
  auto text = Patch(kGetppid, SYS_getppid);
  ASSERT_TRUE(text.ok());
  const uint64_t call = CallIn(kGetppid);
  const int64_t distance = *(*text)->TrampolineDistance(TextPatcher::PageOfCall(call));
  // The `syscall`, as a position: somebody is behind the moved instruction.
  const int64_t syscall = static_cast<int64_t>((call - 2) % kPage) - distance;
  bool found = false;
  for (uint64_t at = 0; at < (*text)->trampoline_bytes(); ++at) {
    auto original = (*text)->FindOriginal(static_cast<int64_t>(at));
    found |= original == syscall;
  }
  EXPECT_TRUE(found);
  EXPECT_FALSE((*text)->FindOriginal(syscall));
  EXPECT_FALSE((*text)->FindOriginal(static_cast<int64_t>(PatchedText::kTrampolineSpace)));
  EXPECT_FALSE((*text)->FindOriginal(INT64_MIN));
  EXPECT_FALSE((*text)->FindOriginal(INT64_MAX));
}

TEST_F(PatchedFilesTest, ClosesSmallGapsBetweenImages) {
  // All pages with calls, in order.
  std::vector<uint64_t> calls;
  for (size_t at = libc_.find("\x0f\x05"); at != std::string::npos; at = libc_.find("\x0f\x05", at + 1)) {
    if (files_->Patch(file_.get(), at + 2, ~0u).ok()) calls.push_back(at + 2);
  }
  ASSERT_GT(calls.size(), 10u);
  auto text = files_->Find(file_.get());
  ASSERT_TRUE(text);
  std::vector<PatchedText::Image> images;
  text->Images({0, libc_.size()}, 0, images);
  for (size_t i = 0; i + 1 < images.size(); ++i) {
    EXPECT_GT(images[i + 1].offset, images[i].offset + images[i].length + PatchedFiles::kGapPages * kPage);
    // One mapping of the host's.
    EXPECT_EQ(images[i + 1].image - images[i].image, images[i + 1].offset - images[i].offset);
  }
  EXPECT_LE(text->trampoline_bytes(), PatchedText::kTrampolineSpace);
}

TEST_F(PatchedFilesTest, KnowsAFileThatWasWrittenToForAnother) {
  base::UniqueFd copy = Copy(libc_);
  auto before = files_->Patch(copy.get(), CallIn(kGetppid), SYS_getppid);
  ASSERT_TRUE(before.ok());
  EXPECT_EQ(files_->Find(copy.get()).get(), before->get());
  ASSERT_EQ(ftruncate(copy.get(), static_cast<off_t>(libc_.size() + 1)), 0);
  EXPECT_FALSE(files_->Find(copy.get()));
  auto after = files_->Patch(copy.get(), CallIn(kGetppid), SYS_getppid);
  ASSERT_TRUE(after.ok());
  EXPECT_NE(after->get(), before->get());
}

TEST_F(PatchedFilesTest, LeavesAFileAloneThatWasJustWritten) {
  Make({.settled_ns = 3600ll * 1'000'000'000});
  base::UniqueFd copy = Copy(libc_);
  auto result = files_->Patch(copy.get(), CallIn(kGetppid), SYS_getppid);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().value(), EAGAIN);
}

TEST_F(PatchedFilesTest, TakesNoMoreTimeThanItMay) {
  PatchedFiles::Options options = kAtOnce;
  options.burst_ns = -3600ll * 1'000'000'000;
  Make(options);
  auto result = Patch(kGetppid, SYS_getppid);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().value(), EAGAIN);
}

TEST_F(PatchedFilesTest, RefusesWhatCannotBePatched) {
  base::UniqueFd text = Copy(std::string(8192, '\x0f') + "\x0f\x05");
  auto result = files_->Patch(text.get(), 8194, 0);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().value(), ENOEXEC);
  for (uint64_t offset : {uint64_t{0}, uint64_t{2}, uint64_t{4096}, uint64_t{1} << 40, UINT64_MAX}) {
    result = files_->Patch(file_.get(), offset, 0);
    EXPECT_FALSE(result.ok()) << offset;
  }
  EXPECT_FALSE(files_->Patch(-1, 4096, 0).ok());
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  EXPECT_FALSE(files_->Patch(ends[0], 4096, 0).ok());
  EXPECT_FALSE(files_->Find(ends[0]));
  close(ends[0]);
  close(ends[1]);
}

TEST_F(PatchedFilesTest, MakesRoomByForgettingFilesThatNobodyUses) {
  base::UniqueFd kept = Copy(libc_);
  auto held = files_->Patch(kept.get(), CallIn(kGetppid), SYS_getppid);
  ASSERT_TRUE(held.ok());
  base::UniqueFd other = Copy(libc_ + "x");
  for (size_t i = 0; i < PatchedFiles::kMaxFiles + 10; ++i) {
    ASSERT_EQ(ftruncate(other.get(), static_cast<off_t>(libc_.size() + i + 1)), 0);
    // Most of them are of no use.
    auto result = files_->Patch(other.get(), i % 16 == 0 ? CallIn(kGetppid) : 4096, SYS_getppid);
    if (!result.ok()) {
      EXPECT_EQ(result.error().value(), ENOEXEC);
    }
  }
  EXPECT_EQ(files_->Find(kept.get()).get(), held->get());
}

TEST_F(PatchedFilesTest, ImagesThatNobodyUsesMakeRoomForOthers) {
  std::vector<uint64_t> calls;
  uint64_t last = 0;
  for (size_t at = libc_.find("\x0f\x05"); at != std::string::npos; at = libc_.find("\x0f\x05", at + 1)) {
    if (TextPatcher::PageOfCall(at + 2) != last) calls.push_back(at + 2);
    last = TextPatcher::PageOfCall(at + 2);
  }
  base::UniqueFd copy = Copy(libc_);
  size_t images = 0;
  for (size_t guise = 0; images < PatchedFiles::kMaxImages + 500; ++guise) {
    ASSERT_EQ(ftruncate(copy.get(), static_cast<off_t>(libc_.size() + guise)), 0);
    for (uint64_t call : calls) {
      auto result = files_->Patch(copy.get(), call, ~0u);
      if (!result.ok()) {
        // Not for want of room, and not for want of time either.
        ASSERT_EQ(result.error().value(), ENOEXEC);
      }
    }
    auto text = files_->Find(copy.get());
    ASSERT_TRUE(text);
    std::vector<PatchedText::Image> found;
    images += text->Images({0, libc_.size()}, 0, found);
  }
}

}  // namespace
}  // namespace platform::systrap

// The patcher on the programs and libraries of the machine it runs on.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <time.h>

#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "platform/systrap/patch/fd_source.h"
#include "platform/systrap/patch/function_proof.h"
#include "platform/systrap/patch/instruction.h"
#include "platform/systrap/patch/patch_file.h"
#include "platform/systrap/patch/trampoline.h"
#include "platform/systrap/patch/unwind_table.h"

namespace platform::patch {
namespace {

constexpr uint64_t kTrampolines = 0x20000000;
constexpr uint64_t kTrampolineSpace = 65536;
constexpr uint64_t kEntry = 0x7fff00001000;

std::vector<uint8_t> ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

uint64_t ThreadMicroseconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000 + static_cast<uint64_t>(now.tv_nsec) / 1000;
}

struct Patched {
  size_t patterns = 0;  // 0f 05, instruction or not
  size_t pages = 0;
  uint64_t trampoline_bytes = 0;
  uint64_t microseconds = 0;
  std::map<SiteKind, size_t> kinds;
  std::vector<RefusedSite> refused;
  std::vector<PatchedPage> changed;  // pages with sites

  size_t sites() const {
    size_t n = 0;
    for (const auto& page : changed) n += page.sites.size();
    return n;
  }
};

Patched PatchEverything(ByteSource& file, const ElfText& elf) {
  Patched all;
  const uint64_t begin = ThreadMicroseconds();
  for (const auto& segment : elf.segments()) {
    if (!segment.executable) continue;
    const uint64_t end = segment.address + segment.size;
    for (uint64_t page = segment.address / kPageSize * kPageSize; page < end; page += kPageSize) {
      FilePatchRequest request;
      request.page = page;
      request.trampolines = kTrampolines + all.trampoline_bytes;
      request.trampoline_space = kTrampolineSpace - all.trampoline_bytes;
      request.entry = kEntry;
      auto result = PatchFilePage(file, elf, request);
      EXPECT_TRUE(result.ok()) << std::hex << page;
      if (!result.ok()) return all;
      ++all.pages;
      all.trampoline_bytes += result->trampolines.size();
      for (const Site& site : result->sites) ++all.kinds[site.kind];
      all.refused.insert(all.refused.end(), result->refused.begin(), result->refused.end());
      if (!result->sites.empty()) all.changed.push_back(std::move(*result));
    }
  }
  all.microseconds = ThreadMicroseconds() - begin;
  for (const auto& segment : elf.segments()) {
    if (!segment.executable) continue;
    std::vector<uint8_t> bytes(segment.size);
    elf.Read(file, segment.address, bytes);
    for (size_t i = 0; i + 1 < bytes.size(); ++i) all.patterns += bytes[i] == 0x0f && bytes[i + 1] == 0x05;
  }
  return all;
}

// Decodes the direct jump, call or branch at `address` of a piece of code; returns where it leads.
uint64_t Target(const std::vector<uint8_t>& code, uint64_t code_address, uint64_t address) {
  Instruction i;
  EXPECT_TRUE(address >= code_address && address - code_address < code.size());
  EXPECT_TRUE(Decode(std::span(code).subspan(address - code_address), i));
  EXPECT_EQ(i.flow, Flow::kJump);
  return address + i.length + static_cast<uint64_t>(int64_t{i.target});
}

void CheckSite(const PatchedPage& page, const Site& site, const std::vector<uint8_t>& original) {
  SCOPED_TRACE(testing::Message() << "site " << std::hex << site.address);
  // The text leads to the trampoline, and the `syscall` is still there.
  uint64_t to = Target(page.bytes, page.page, site.address);
  if (site.padding != 0) {
    for (size_t i = 0; i < site.hop_count; ++i) {
      EXPECT_EQ(to, page.page + site.hops[i]);
      to = Target(page.bytes, page.page, page.page + site.hops[i]);
    }
    EXPECT_EQ(to, site.padding);
    to = Target(page.bytes, page.page, site.padding);
  }
  EXPECT_EQ(to, site.trampoline);
  ASSERT_GE(site.trampoline, page.trampoline_address);
  const uint64_t offset = site.syscall() - page.page;
  if (offset + 2 <= kPageSize) {
    EXPECT_EQ(page.bytes[offset], 0x0f);
    EXPECT_EQ(page.bytes[offset + 1], 0x05);
  }
  // The trampoline: the instruction, lea, jmp through the literal.
  const auto code = std::span(page.trampolines).subspan(site.trampoline - page.trampoline_address);
  Instruction moved, was;
  ASSERT_TRUE(Decode(code, moved));
  ASSERT_TRUE(Decode(std::span(original).subspan(site.address - page.page), was));
  ASSERT_EQ(moved.length, site.length);
  ASSERT_EQ(was.length, site.length);
  if (!was.rip_relative) {
    EXPECT_EQ(std::memcmp(code.data(), &original[site.address - page.page], site.length), 0);
  }
  Instruction lea, jmp;
  ASSERT_TRUE(Decode(code.subspan(site.length), lea));
  int32_t displacement;
  std::memcpy(&displacement, &code[site.length + lea.displacement_offset], 4);
  EXPECT_EQ(site.resume() + lea.length + static_cast<uint64_t>(int64_t{displacement}), site.after());
  ASSERT_TRUE(Decode(code.subspan(site.length + lea.length), jmp));
  EXPECT_EQ(jmp.flow, Flow::kIndirectJump);
  std::memcpy(&displacement, &code[site.length + lea.length + jmp.displacement_offset], 4);
  EXPECT_EQ(site.resume() + lea.length + jmp.length + static_cast<uint64_t>(int64_t{displacement}),
            page.trampoline_address);
  uint64_t literal;
  std::memcpy(&literal, page.trampolines.data(), 8);
  EXPECT_EQ(literal, kEntry);
}

class Binary : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    contents_ = ReadFile(GetParam());
    if (contents_.empty()) GTEST_SKIP() << GetParam() << " is not on this machine";
  }
  std::vector<uint8_t> contents_;
};

TEST_P(Binary, IsPatchedAsItShouldBe) {
  MemorySource file(contents_);
  auto elf = ElfText::Parse(file);
  ASSERT_TRUE(elf.ok());
  const Patched all = PatchEverything(file, *elf);

  std::map<std::string, size_t> refusals;
  for (const auto& r : all.refused) ++refusals[RefusalName(r.reason)];
  auto count = [&](SiteKind kind) { return all.kinds.count(kind) != 0 ? all.kinds.at(kind) : 0; };
  std::cout << GetParam() << ": " << all.patterns << " times 0f 05; patched " << all.sites() << " ("
            << count(SiteKind::kImmediate) << " immediate, " << count(SiteKind::kCopied) << " copied, "
            << count(SiteKind::kViaPadding) << " via padding); not";
  for (const auto& [reason, n] : refusals) std::cout << ", " << n << " " << reason;
  std::cout << "; " << all.pages << " pages, " << all.changed.size() << " changed, " << all.trampoline_bytes
            << " bytes of trampolines, " << all.microseconds << " us\n";

  // Nine in ten of what look like system calls are, and are patched.
  EXPECT_GE(all.sites() + 10, all.patterns * 9 / 10);
  for (const PatchedPage& page : all.changed) {
    std::vector<uint8_t> original(kPageSize + 16);
    elf->Read(file, page.page, original);
    for (const Site& site : page.sites) CheckSite(page, site, original);
    // Edits are disjoint and undo all of it.
    std::vector<uint8_t> restored = page.bytes;
    RestoreOriginal(page, 0, restored);
    EXPECT_EQ(std::memcmp(restored.data(), original.data(), kPageSize), 0);
    size_t edited = 0;
    for (const Edit& edit : page.edits) edited += edit.length;
    size_t differ = 0;
    for (size_t i = 0; i < kPageSize; ++i) differ += page.bytes[i] != original[i];
    EXPECT_LE(differ, edited);
  }
}

// glibc's return from a signal handler, whose entry in the unwind table begins one byte early.
TEST(Libc, SignalTrampolineIsFound) {
  const auto contents = ReadFile("/lib/x86_64-linux-gnu/libc.so.6");
  if (contents.empty()) GTEST_SKIP() << "no libc";
  MemorySource file(contents);
  auto elf = ElfText::Parse(file);
  ASSERT_TRUE(elf.ok());
  const Patched all = PatchEverything(file, *elf);
  int found = 0;
  for (const PatchedPage& page : all.changed) {
    for (const Site& site : page.sites) {
      if (site.number != 15u) continue;
      ++found;
      EXPECT_EQ(site.length, 7);
      EXPECT_EQ(site.kind, SiteKind::kImmediate);
    }
  }
  EXPECT_EQ(found, 1);
}

// As a sandbox does it: from a descriptor, one page, the headers known.
TEST(Libc, IsReadThroughADescriptorAlike) {
  const base::UniqueFd fd(open("/lib/x86_64-linux-gnu/libc.so.6", O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) GTEST_SKIP() << "no libc";
  FdSource file(fd.get());
  const auto contents = ReadFile("/lib/x86_64-linux-gnu/libc.so.6");
  MemorySource memory(contents);
  auto elf = ElfText::Parse(file);
  ASSERT_TRUE(elf.ok());
  const uint64_t begin = ThreadMicroseconds();
  const Patched all = PatchEverything(file, *elf);
  std::cout << "through a descriptor: " << all.pages << " pages in " << ThreadMicroseconds() - begin << " us\n";
  const Patched same = PatchEverything(memory, *elf);
  ASSERT_EQ(all.changed.size(), same.changed.size());
  for (size_t i = 0; i < all.changed.size(); ++i) EXPECT_EQ(all.changed[i].bytes, same.changed[i].bytes);
}

// Functions of a patched page decode as before, but for the instructions that were replaced.
TEST_P(Binary, StillDecodesWhenPatched) {
  MemorySource file(contents_);
  auto elf = ElfText::Parse(file);
  ASSERT_TRUE(elf.ok());
  const Patched all = PatchEverything(file, *elf);
  std::vector<uint8_t> patched_contents = contents_;
  for (const PatchedPage& page : all.changed) {
    for (const auto& s : elf->segments()) {
      if (!s.executable || page.page < s.address || page.page >= s.address + s.size) continue;
      const uint64_t n = std::min(kPageSize, s.address + s.size - page.page);
      std::copy_n(page.bytes.begin(), n,
                  patched_contents.begin() + static_cast<ptrdiff_t>(s.offset + page.page - s.address));
    }
  }
  MemorySource patched_file(patched_contents);
  for (const PatchedPage& page : all.changed) {
    auto functions = FunctionsAround(file, *elf, page.page, page.page + kPageSize);
    ASSERT_TRUE(functions.ok());
    for (const CodeRange& f : *functions) {
      if (f.size() > kMaxFunctionSize || f.signal_frame) continue;
      std::vector<uint8_t> before(f.size()), after(f.size());
      elf->Read(file, f.start, before);
      elf->Read(patched_file, f.start, after);
      const auto proof = FunctionProof::Prove(f, before);
      if (!proof) continue;
      Instruction i;
      for (size_t at = 0; at < after.size(); at += i.length) {
        ASSERT_TRUE(Decode(std::span(after).subspan(at), i)) << std::hex << f.start + at;
        // Between the jump and the `syscall` there may be fillers.
        if (after[at] == before[at] || after[at] != 0xcc) {
          EXPECT_TRUE(proof->IsStart(f.start + at) || after[at] == 0xe9 || after[at] == 0xeb)
              << std::hex << f.start + at;
        }
      }
    }
  }
}

TEST_P(Binary, IsPatchedAlikeWhereverItIsLoaded) {
  MemorySource file(contents_);
  auto elf = ElfText::Parse(file);
  ASSERT_TRUE(elf.ok());
  for (const auto& segment : elf->segments()) {
    if (!segment.executable) continue;
    for (uint64_t page = segment.address / kPageSize * kPageSize; page < segment.address + segment.size;
         page += 16 * kPageSize) {
      auto functions = FunctionsAround(file, *elf, page, page + kPageSize + 2);
      ASSERT_TRUE(functions.ok());
      const uint64_t first =
          std::min(page, functions->empty() ? page : std::max(functions->front().start, segment.address));
      std::vector<uint8_t> text(page + 2 * kPageSize - first);
      elf->Read(file, first, text);
      PatchRequest request;
      request.text = text;
      request.text_address = first;
      request.functions = *functions;
      request.page = page;
      request.trampolines = kTrampolines;
      request.trampoline_space = kTrampolineSpace;
      request.entry = kEntry;
      const PatchedPage here = PatchPage(request);
      // As it is loaded somewhere else.
      constexpr uint64_t kBias = 0x7f0000000000;
      std::vector<CodeRange> moved = *functions;
      for (CodeRange& f : moved) f = {f.start + kBias, f.end + kBias};
      request.functions = moved;
      request.text_address += kBias;
      request.page += kBias;
      request.trampolines += kBias;
      const PatchedPage there = PatchPage(request);
      EXPECT_EQ(here.bytes, there.bytes);
      EXPECT_EQ(here.trampolines, there.trampolines);
      // Too far away: nothing.
      request.trampolines = kTrampolines;
      EXPECT_TRUE(PatchPage(request).sites.empty());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, Binary,
                         ::testing::Values("/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2",
                                           "/bin/busybox", "/usr/bin/python3", "/lib/x86_64-linux-gnu/libstdc++.so.6"));

}  // namespace
}  // namespace platform::patch

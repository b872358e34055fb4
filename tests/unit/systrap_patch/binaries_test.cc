// The patcher on the programs and libraries of the machine it runs on.
#include <gtest/gtest.h>
#include <time.h>

#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "platform/systrap/patch/instruction.h"
#include "platform/systrap/patch/patch_file.h"
#include "platform/systrap/patch/unwind_table.h"

namespace platform::patch {
namespace {

std::vector<uint8_t> ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

class Binary : public ::testing::TestWithParam<const char*> {};

TEST_P(Binary, IsPatchedAndStillDecodes) {
  const std::vector<uint8_t> contents = ReadFile(GetParam());
  if (contents.empty()) GTEST_SKIP() << GetParam() << " is not on this machine";
  MemorySource file(contents);
  auto elf = ElfText::Parse(file);
  ASSERT_TRUE(elf.ok());
  timespec begin, end;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
  size_t patterns = 0, pages = 0, bytes = 0;
  std::map<std::string, size_t> kinds, refusals;
  std::vector<RefusedSite> refused;
  constexpr uint64_t kTrampolines = 0x20000000;
  uint64_t used = 0;
  std::vector<PatchedPage> patched;
  for (const auto& segment : elf->segments()) {
    if (!segment.executable) continue;
    for (uint64_t page = segment.address / kPageSize * kPageSize; page < segment.address + segment.size;
         page += kPageSize) {
      FilePatchRequest request;
      request.page = page;
      request.trampolines = kTrampolines + used;
      request.trampoline_space = 65536 - used;
      request.entry = 0x7fff00001000;
      auto result = PatchFilePage(file, *elf, request);
      ASSERT_TRUE(result.ok()) << std::hex << page;
      used += result->trampolines.size();
      ++pages;
      bytes += result->trampolines.size();
      for (const Site& site : result->sites) {
        ++kinds[site.kind == SiteKind::kImmediate ? "immediate"
                : site.kind == SiteKind::kCopied  ? "copied"
                                                  : "via padding"];
      }
      for (const auto& r : result->refused) {
        ++refusals[RefusalName(r.reason)];
        refused.push_back(r);
      }
      if (!result->sites.empty()) patched.push_back(std::move(*result));
    }
    for (uint64_t i = 0; i + 1 < segment.size; ++i) {
      patterns += contents[segment.offset + i] == 0x0f && contents[segment.offset + i + 1] == 0x05;
    }
  }
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
  std::string report = std::string(GetParam()) + ": " + std::to_string(patterns) + " times 0f 05;";
  for (const auto& [kind, n] : kinds) report += " " + std::to_string(n) + " " + kind;
  report += "; refused:";
  for (const auto& [reason, n] : refusals) report += " " + std::to_string(n) + " " + reason;
  report += "; " + std::to_string(pages) + " pages, " + std::to_string(patched.size()) + " patched, " +
            std::to_string(bytes) + " bytes of trampolines, " +
            std::to_string((end.tv_sec - begin.tv_sec) * 1000000 + (end.tv_nsec - begin.tv_nsec) / 1000) + " us";
  std::cout << report << "\n";
  if (getenv("VERBOSE"))
    for (auto& r : refused) std::cout << std::hex << r.syscall << " " << RefusalName(r.reason) << "\n";
}

INSTANTIATE_TEST_SUITE_P(All, Binary,
                         ::testing::Values("/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2",
                                           "/bin/busybox", "/usr/bin/python3", "/lib/x86_64-linux-gnu/libstdc++.so.6"));

}  // namespace
}  // namespace platform::patch

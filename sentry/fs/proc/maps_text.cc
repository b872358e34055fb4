// maps and smaps (fs/proc/task_mmu.c).
#include <algorithm>
#include <cinttypes>
#include <cstdio>

#include "sentry/fs/proc/append.h"
#include "sentry/fs/proc/process_text.h"

namespace sentry::proc {

namespace {

constexpr size_t kMappingsPerPart = 256;

void AppendVma(std::string& out, const MemoryManager::VmaInfo& v) {
  const size_t start = out.size();
  Append(out, "%08" PRIx64 "-%08" PRIx64 " %c%c%c%c %08" PRIx64 " %02x:%02x %" PRIu64 " ", v.range.start, v.range.end,
         v.prot & 1 ? 'r' : '-', v.prot & 2 ? 'w' : '-', v.prot & 4 ? 'x' : '-', v.shared ? 's' : 'p', v.offset,
         static_cast<unsigned>(v.identity.dev >> 8 & 0xfff),
         static_cast<unsigned>((v.identity.dev & 0xff) | (v.identity.dev >> 12 & 0xfff00)), v.identity.ino);
  if (!v.identity.path.empty()) {
    // show_map_vma pads to column 73.
    const size_t width = out.size() - start;
    if (width < 73) out.append(73 - width, ' ');
    for (char c : v.identity.path) {
      if (c == '\n') {
        out += "\\012";
      } else {
        out += c;
      }
    }
  } else {
    out.pop_back();
    out += ' ';
  }
  out += '\n';
}

// The next part's mappings; moves the cursor.
std::vector<MemoryManager::VmaInfo> Part(Task& task, uint64_t& cursor) {
  std::vector<MemoryManager::VmaInfo> vmas;
  if (RefPtr<MemoryManager> mm = task.SnapshotMm()) vmas = mm->Vmas(cursor, kMappingsPerPart);
  // The next mapping ends above the last one's end.
  cursor = vmas.size() == kMappingsPerPart ? vmas.back().range.end : UINT64_MAX;
  return vmas;
}

void AppendSmap(std::string& out, const MemoryManager::VmaInfo& v) {
  const uint64_t rss = v.resident_bytes >> 10, dirty = v.dirty_bytes >> 10;
  const uint64_t clean = rss - std::min(dirty, rss);
  Append(out, "Size:           %8" PRIu64 " kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\n",
         v.range.length() >> 10);
  Append(out, "Rss:            %8" PRIu64 " kB\nPss:            %8" PRIu64 " kB\nPss_Dirty:      %8" PRIu64 " kB\n",
         rss, rss, dirty);
  Append(out, "Shared_Clean:   %8" PRIu64 " kB\nShared_Dirty:   %8" PRIu64 " kB\n", v.shared ? clean : 0,
         v.shared ? dirty : 0);
  Append(out, "Private_Clean:  %8" PRIu64 " kB\nPrivate_Dirty:  %8" PRIu64 " kB\n", v.shared ? 0 : clean,
         v.shared ? 0 : dirty);
  Append(out, "Referenced:     %8" PRIu64 " kB\nAnonymous:      %8" PRIu64 " kB\nKSM:                   0 kB\n", rss,
         v.shared ? 0 : dirty);
  Append(out,
         "LazyFree:              0 kB\nAnonHugePages:         0 kB\nShmemPmdMapped:        0 kB\nFilePmdMapped:        "
         " 0 kB\n");
  Append(out,
         "Shared_Hugetlb:        0 kB\nPrivate_Hugetlb:       0 kB\nSwap:                  0 kB\nSwapPss:              "
         " 0 kB\n");
  Append(out, "Locked:         %8" PRIu64 " kB\n", v.locked ? rss : 0);
}

}  // namespace

std::string MapsText(Task& task, uint64_t& cursor) {
  std::string out;
  for (const MemoryManager::VmaInfo& v : Part(task, cursor)) AppendVma(out, v);
  return out;
}

std::string SmapsText(Task& task, uint64_t& cursor) {
  std::string out;
  for (const MemoryManager::VmaInfo& v : Part(task, cursor)) {
    AppendVma(out, v);
    AppendSmap(out, v);
    Append(out, "THPeligible:           0\nVmFlags: %s%s%s%smr mw me %s%s\n", v.prot & 1 ? "rd " : "",
           v.prot & 2 ? "wr " : "", v.prot & 4 ? "ex " : "", v.shared ? "sh " : "", v.grows_down ? "gd " : "",
           v.locked ? "lo " : "ac ");
  }
  return out;
}

std::string SmapsRollupText(Task& task) {
  std::string out;
  MemoryManager::VmaInfo sum;
  uint64_t first = 0, last = 0;
  for (uint64_t cursor = 0; cursor != UINT64_MAX;) {
    for (const MemoryManager::VmaInfo& v : Part(task, cursor)) {
      if (last == 0) first = v.range.start;
      last = v.range.end;
      sum.resident_bytes += v.resident_bytes;
      sum.dirty_bytes += v.dirty_bytes;
    }
  }
  if (last == 0) return out;
  sum.range = {first, last};
  sum.identity.path = "[rollup]";
  AppendVma(out, sum);
  std::string sizes;
  AppendSmap(sizes, sum);
  // Without the first three lines, which are about one mapping.
  size_t at = 0;
  for (int i = 0; i < 3; ++i) at = sizes.find('\n', at) + 1;
  return out + sizes.substr(at);
}

}  // namespace sentry::proc

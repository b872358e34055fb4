#include "sentry/fs/tmpfs/superblock.h"

#include <linux/magic.h>

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "sentry/mm/user_memory.h"

namespace sentry::tmpfs {
namespace {

// memparse: digits (any base that strtoull takes) and a suffix.
bool ParseSize(absl::string_view text, uint64_t total, uint64_t& out) {
  if (text.empty()) return false;
  int shift = 0;
  bool percent = false;
  switch (text.back()) {
    case 'k':
    case 'K':
      shift = 10;
      break;
    case 'm':
    case 'M':
      shift = 20;
      break;
    case 'g':
    case 'G':
      shift = 30;
      break;
    case 't':
    case 'T':
      shift = 40;
      break;
    case '%':
      percent = true;
      break;
    default:
      break;
  }
  if (shift != 0 || percent) text.remove_suffix(1);
  uint64_t value;
  if (!absl::SimpleAtoi(text, &value)) return false;
  if (percent) {
    out = static_cast<uint64_t>(static_cast<unsigned __int128>(total) * value / 100);
    return true;
  }
  return !__builtin_mul_overflow(value, uint64_t{1} << shift, &out);
}

bool ParseOctal(absl::string_view text, uint32_t& out) {
  if (text.empty() || text.size() > 6) return false;
  uint32_t value = 0;
  for (char c : text) {
    if (c < '0' || c > '7') return false;
    value = value * 8 + static_cast<uint32_t>(c - '0');
  }
  out = value & 07777;
  return true;
}

}  // namespace

Result<Options> ParseOptions(std::string_view text, const Options& defaults, uint64_t total_memory) {
  Options o = defaults;
  for (absl::string_view part : absl::StrSplit(absl::string_view(text.data(), text.size()), ',', absl::SkipEmpty())) {
    std::pair<absl::string_view, absl::string_view> kv = absl::StrSplit(part, absl::MaxSplits('=', 1));
    auto [key, value] = kv;
    bool ok = true;
    if (key == "size") {
      ok = ParseSize(value, total_memory, o.size);
      // 0 means no limit, as does a size beyond what page counts can say.
      if (ok && o.size == 0) o.size = UINT64_MAX;
      if (ok && o.size <= UINT64_MAX - kPageSize) o.size = PageRoundUp(o.size);
    } else if (key == "nr_blocks") {
      uint64_t blocks;
      ok = ParseSize(value, 0, blocks) && blocks <= UINT64_MAX / kPageSize;
      if (ok) o.size = blocks == 0 ? UINT64_MAX : blocks * kPageSize;
    } else if (key == "nr_inodes") {
      ok = ParseSize(value, 0, o.inodes);
      // No limit would be the sentry's memory: Differs from Linux.
      if (ok && o.inodes == 0) o.inodes = std::max(defaults.inodes, Options::kDefaultInodes);
    } else if (key == "mode") {
      ok = ParseOctal(value, o.mode);
    } else if (key == "uid") {
      ok = absl::SimpleAtoi(value, &o.uid);
    } else if (key == "gid") {
      ok = absl::SimpleAtoi(value, &o.gid);
    } else if (key == "huge" || key == "mpol" || key == "inode32" || key == "inode64" || key == "noswap") {
      // About the host's memory: accepted, without effect.
    } else {
      ok = false;
    }
    if (!ok) return Errno(EINVAL);
  }
  return o;
}

Result<FsStat> TmpfsSuperblock::StatFs() {
  FsStat st;
  st.type = TMPFS_MAGIC;
  st.bsize = kPageSize;
  if (options_.size != UINT64_MAX) {
    st.blocks = options_.size / kPageSize;
    uint64_t used = used_bytes_.load(std::memory_order_relaxed);
    st.bfree = st.bavail = (options_.size - std::min(options_.size, used)) / kPageSize;
  }
  st.files = options_.inodes;
  st.ffree = options_.inodes - std::min(options_.inodes, used_inodes_.load(std::memory_order_relaxed));
  return st;
}

std::string TmpfsSuperblock::MountOptions() const {
  std::string text;
  auto add = [&text](const std::string& s) { absl::StrAppend(&text, text.empty() ? "" : ",", s); };
  if (options_.size != UINT64_MAX) add(absl::StrCat("size=", options_.size >> 10, "k"));
  if (options_.inodes != Options::kDefaultInodes) add(absl::StrCat("nr_inodes=", options_.inodes));
  if (options_.mode != 01777) add(absl::StrFormat("mode=%03o", options_.mode));
  if (options_.uid != 0) add(absl::StrCat("uid=", options_.uid));
  if (options_.gid != 0) add(absl::StrCat("gid=", options_.gid));
  return text;
}

Result<uint64_t> TmpfsSuperblock::ChargeBytes(uint64_t bytes, uint64_t least) {
  uint64_t used = used_bytes_.load(std::memory_order_relaxed);
  for (;;) {
    uint64_t room = capacity() - std::min(capacity(), used);
    uint64_t take = std::min(bytes, room);
    if (take < bytes) take = take / kPageSize * kPageSize;
    if (take < least) return Errno(ENOSPC);
    if (used_bytes_.compare_exchange_weak(used, used + take, std::memory_order_relaxed)) return take;
  }
}

Result<void> TmpfsSuperblock::ChargeInode() {
  if (!base::ChargedMemory::Admit().ok()) return Errno(ENOSPC);  // shmem_get_inode
  if ((options_.charged_to != nullptr ? *options_.charged_to : memory_).Full()) return Errno(ENOSPC);
  uint64_t used = used_inodes_.load(std::memory_order_relaxed);
  do {
    if (used >= options_.inodes) return Errno(ENOSPC);
  } while (!used_inodes_.compare_exchange_weak(used, used + 1, std::memory_order_relaxed));
  return {};
}

}  // namespace sentry::tmpfs

#include "sentry/fs/proc/page_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "sentry/fs/proc/mm_file.h"

namespace sentry::proc {

namespace {

// Documentation/admin-guide/mm/pagemap.rst. Frame numbers are not shown, as to anybody without CAP_SYS_ADMIN on Linux.
// Differs from Linux: nothing is swapped, and every page counts as written (soft-dirty), for nobody keeps track.
constexpr uint64_t kSoftDirty = uint64_t{1} << 55, kExclusive = uint64_t{1} << 56, kFilePage = uint64_t{1} << 61,
                   kPresent = uint64_t{1} << 63;
constexpr size_t kPagesPerStep = 4096;

class PagemapDescription final : public MmDescription {
 public:
  using MmDescription::MmDescription;

  Result<size_t> PRead(IoBuffer& to, int64_t offset, const IoFlags&) override {
    MemoryManager* const mm = LiveMm();
    if (mm == nullptr) return size_t{0};
    // pagemap_read: whole entries only.
    if (offset < 0 || offset % 8 != 0 || to.remaining() % 8 != 0) return Errno(EINVAL);
    constexpr uint64_t kPages = (uint64_t{1} << 47) / kPageSize;
    size_t total = 0;
    while (to.remaining() != 0) {
      const uint64_t page = static_cast<uint64_t>(offset) / 8 + total / 8;
      if (page >= kPages) break;
      const size_t count = static_cast<size_t>(std::min<uint64_t>({to.remaining() / 8, kPagesPerStep, kPages - page}));
      std::vector<uint64_t> entries(count);
      std::vector<uint8_t> states = mm->PageStates(page * kPageSize, count);
      for (size_t i = 0; i < count; ++i) {
        if ((states[i] & MemoryManager::kPagePresent) == 0) continue;
        entries[i] = kPresent | kSoftDirty | ((states[i] & MemoryManager::kPageOfFile) != 0 ? kFilePage : 0) |
                     ((states[i] & MemoryManager::kPageExclusive) != 0 ? kExclusive : 0);
      }
      Result<size_t> n = to.CopyOut(std::as_bytes(std::span(entries)));
      if (!n.ok()) return total != 0 ? Result<size_t>(total) : n;
      total += *n;
      if (*n < count * 8) break;
    }
    return total;
  }
  Result<size_t> PWrite(IoBuffer&, int64_t, const IoFlags&) override { return Errno(EINVAL); }
};

// "7f00-7f10", the mapping's ends without leading zeros (dname_to_vma_addr).
std::optional<base::Range> ParseRange(std::string_view name) {
  base::Range r;
  const size_t dash = name.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  auto parse = [](std::string_view text, uint64_t& value) {
    if (text.empty() || (text[0] == '0' && text.size() > 1)) return false;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
    return error == std::errc() && end == text.data() + text.size();
  };
  if (!parse(name.substr(0, dash), r.start) || !parse(name.substr(dash + 1), r.end) || r.empty()) return std::nullopt;
  return r;
}

std::string RangeName(base::Range r) {
  char text[40];
  snprintf(text, sizeof(text), "%" PRIx64 "-%" PRIx64, r.start, r.end);
  return text;
}

// Exactly this mapping, of a file.
Result<MemoryManager::VmaInfo> MappingAt(Task& task, base::Range range) {
  RefPtr<MemoryManager> mm = task.SnapshotMm();
  if (!mm) return Errno(ENOENT);
  std::vector<MemoryManager::VmaInfo> found = mm->Vmas(range.start, 1);
  if (found.empty() || !(found[0].range == range) || found[0].identity.ino == 0) return Errno(ENOENT);
  return found[0];
}

// Differs from Linux: followed by the path that the file was mapped by, so that a file which lost its name since cannot
// be opened this way.
class MapFileLink final : public kernfs::KernLink {
 public:
  MapFileLink(const TaskRef& ref, const MemoryManager::VmaInfo& vma)
      : KernLink(ref.sb, (vma.prot & 1 ? 0500u : 0u) | (vma.prot & 2 ? 0300u : 0u),
                 InoOf(ref, Area::kFiles, static_cast<uint32_t>(vma.range.start >> 12 | 0x80000000u))),
        task_(ref.task),
        range_(vma.range) {}
  Result<std::string> ReadLink() override {
    if (Task* reader = Task::Current()) {
      VfsContext ctx = reader->MakeVfsContext();
      TRY(MayInspect(ctx, *task_));
    }
    return TRY(MappingAt(*task_, range_)).identity.path;
  }
  bool IsMagicLink() const override { return true; }
  Result<VfsPath> FollowMagicLink(VfsContext& ctx) override {
    // proc_map_files_get_link
    if (!ctx.creds->Capable(CAP_SYS_ADMIN) && !ctx.creds->Capable(CAP_CHECKPOINT_RESTORE)) return Errno(EPERM);
    TRY(MayInspect(ctx, *task_));
    const std::string path = TRY(MappingAt(*task_, range_)).identity.path;
    if (path.empty() || path[0] != '/') return Errno(ENOENT);
    RefPtr<FsContext> fs = task_->SnapshotFs();
    if (!fs) return Errno(ENOENT);
    VfsContext theirs = ctx;
    theirs.root = fs->root();
    return TRY(WalkPath(theirs, theirs.root, path, 0)).path;
  }

 protected:
  kernfs::Owner GetOwner() override { return OwnerOf(*task_); }

 private:
  const RefPtr<Task> task_;
  const base::Range range_;
};

class MapFilesDir final : public kernfs::KernDir {
 public:
  MapFilesDir(const TaskRef& ref, uint64_t ino) : KernDir(ref.sb, 0500, ino), ref_(ref) {}
  Result<RefPtr<Inode>> Lookup(std::string_view name) override {
    TRY(Check());
    std::optional<base::Range> range = ParseRange(name);
    if (!range) return Errno(ENOENT);
    return RefPtr<Inode>(base::MakeRef<MapFileLink>(ref_, TRY(MappingAt(*ref_.task, *range))));
  }
  Result<bool> Revalidate(std::string_view name, Inode* child) override {
    std::optional<base::Range> range = ParseRange(name);
    return range && child != nullptr && MappingAt(*ref_.task, *range).ok();
  }
  Result<std::vector<Entry>> List(int64_t after) override {
    TRY(Check());
    std::vector<Entry> entries;
    RefPtr<MemoryManager> mm = ref_.task->SnapshotMm();
    if (!mm) return entries;
    // A mapping's position is its end in pages; a bounded part at a time.
    constexpr size_t kPart = 256;
    for (Addr from = static_cast<Addr>(after) * kPageSize; entries.empty();) {
      std::vector<MemoryManager::VmaInfo> vmas = mm->Vmas(from, kPart);
      for (const auto& v : vmas) {
        from = v.range.end;
        if (v.identity.ino == 0) continue;
        entries.push_back({RangeName(v.range), FileType::kSymlink,
                           InoOf(ref_, Area::kFiles, static_cast<uint32_t>(v.range.start >> 12 | 0x80000000u)),
                           static_cast<int64_t>(v.range.end / kPageSize)});
      }
      if (vmas.size() < kPart) break;
    }
    return entries;
  }
  Result<void> SetAttr(const AttrChange& change) override {
    if (change.mode) return Errno(EPERM);
    return KernDir::SetAttr(change);
  }

 protected:
  kernfs::Owner GetOwner() override { return OwnerOf(*ref_.task); }

 private:
  Result<void> Check() {
    if (!Alive(*ref_.task)) return Errno(ENOENT);
    if (Task* reader = Task::Current()) {
      VfsContext ctx = reader->MakeVfsContext();
      TRY(MayInspect(ctx, *ref_.task));
    }
    return {};
  }
  const TaskRef ref_;
};

}  // namespace

RefPtr<Inode> NewPagemapFile(const TaskRef& ref, uint64_t ino) {
  return base::MakeRef<MmFile<PagemapDescription>>(ref, 0400, ino);
}
RefPtr<Inode> NewMapFilesDir(const TaskRef& ref, uint64_t ino) { return base::MakeRef<MapFilesDir>(ref, ino); }

Result<void> ClearRefs(const TaskRef& ref, VfsContext&, std::string_view text) {
  // clear_refs_write: 1–4 clear bits that nobody here keeps, 5 the peak of resident memory.
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  if (text.size() != 1 || text[0] < '1' || text[0] > '5') return Errno(EINVAL);
  RefPtr<MemoryManager> mm = ref.task->SnapshotMm();
  if (mm && text[0] == '5') mm->ResetPeak();
  return {};
}

}  // namespace sentry::proc

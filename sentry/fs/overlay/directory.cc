#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "sentry/fs/overlay/inode.h"

namespace sentry::overlay {
namespace {

Result<bool> IsOpaque(Inode& dir) {
  Result<std::string> value = dir.GetXattr(kOpaqueXattr);
  return value.ok() && *value == "y";
}

// What a layer's directory lists.
struct RawEntry {
  std::string name;
  uint64_t ino;
  uint8_t type;
};
Result<std::vector<RawEntry>> ListLayer(Inode& dir, VfsContext& ctx) {
  std::vector<RawEntry> entries;
  VfsPath path{nullptr, Dentry::MakeAnonymous(RefPtr<Inode>(&dir), "overlay")};
  RefPtr<FileDescription> file = TRY(dir.Open(path, O_RDONLY | O_DIRECTORY, ctx));
  TRY(file->ReadDir(0, [&](const Dirent& d) {
    if (d.name != "." && d.name != "..") entries.push_back({std::string(d.name), d.ino, d.type});
    return true;
  }));
  return entries;
}

// A snapshot, so that positions mean something whatever is copied up or removed meanwhile; made anew at position 0
// (Linux: ovl_cache).
class OverlayDirectoryDescription final : public FileDescription {
 public:
  OverlayDirectoryDescription(VfsPath path, uint32_t flags) : FileDescription(std::move(path), flags) {}
  bool Seekable() const override { return true; }
  Result<size_t> PRead(IoBuffer&, int64_t, const IoFlags&) override { return Errno(EISDIR); }
  Result<size_t> Read(IoBuffer&, const IoFlags&) override { return Errno(EISDIR); }
  Result<void> Fsync(bool) override { return {}; }

  Result<int64_t> ReadDir(int64_t position, const DirentSink& sink) override {
    auto& dir = static_cast<OverlayDirectory&>(*path().dentry->inode_ptr());
    if (position < 0) return Errno(EINVAL);
    base::FiberMutexLock l(entries_lock_);
    if (position == 0 || !listed_) {
      VfsContext ctx;
      entries_ = TRY(dir.Entries(ctx));
      listed_ = true;
    }
    for (;; ++position) {
      Dirent d{};
      if (position == 0) {
        d = {".", dir.ino(), DT_DIR, 1};
      } else if (position == 1) {
        RefPtr<Dentry> parent = path().dentry->parent();
        d = {"..", parent && parent->inode_ptr() != nullptr ? parent->inode_ptr()->ino() : dir.ino(), DT_DIR, 2};
      } else if (static_cast<uint64_t>(position) - 2 < entries_.size()) {
        const auto& e = entries_[static_cast<size_t>(position) - 2];
        d = {e.name, e.ino, e.type, position + 1};
      } else {
        return position;
      }
      if (!sink(d)) return position;
    }
  }

 private:
  base::FiberMutex entries_lock_;
  std::vector<OverlayDirectory::Entry> entries_ GUARDED_BY(entries_lock_);
  bool listed_ GUARDED_BY(entries_lock_) = false;
};

}  // namespace

Result<Attr> OverlayDirectory::GetAttr() {
  Attr attr = TRY(OverlayInode::GetAttr());
  // Nobody has counted the subdirectories of a merged directory; 1 tells find(1) and others so, as on Linux.
  if (upper() != nullptr && lower() != nullptr && attr.nlink != 0) attr.nlink = 1;
  return attr;
}

Result<RefPtr<Inode>> OverlayDirectory::UpperEntry(std::string_view name) {
  if (upper() == nullptr) return RefPtr<Inode>();
  Result<RefPtr<Inode>> entry = upper()->Lookup(name);
  if (entry.failed_with(ENOENT)) return RefPtr<Inode>();
  return entry;
}

Result<bool> OverlayDirectory::LowerHas(std::string_view name) {
  if (lower() == nullptr) return false;
  Result<RefPtr<Inode>> entry = lower()->Lookup(name);
  if (entry.failed_with(ENOENT)) return false;
  return !IsWhiteout(*TRY(std::move(entry)));
}

Result<RefPtr<Inode>> OverlayDirectory::Lookup(std::string_view name) {
  std::vector<RefPtr<Inode>> found = TRY(LookupMany(std::span(&name, 1)));
  if (!found[0]) return Errno(ENOENT);
  return found[0];
}

Result<std::vector<RefPtr<Inode>>> OverlayDirectory::LookupWith(std::span<const std::string_view> names, bool opening) {
  std::vector<RefPtr<Inode>> found;
  // The lower layer is asked once, for all the names, and only when it matters.
  std::vector<RefPtr<Inode>> lower_found;
  bool asked_lower = false;
  RefPtr<OverlayDirectory> dir(this);
  RefPtr<OverlaySuperblock> sb(&this->sb());
  for (size_t i = 0; i < names.size(); ++i) {
    RefPtr<Inode> upper = TRY(dir->UpperEntry(names[i]));
    if (upper && IsWhiteout(*upper)) {
      found.push_back(nullptr);
      break;
    }
    RefPtr<Inode> lower;
    bool wants_lower = dir->lower() != nullptr && (!upper || (upper->is_dir() && !TRY(IsOpaque(*upper))));
    if (wants_lower) {
      if (!asked_lower) {
        asked_lower = true;
        // lower_found[k] belongs to names[k]: what came before were directories of the upper layer alone, or this is
        // the first.
        Result<std::vector<RefPtr<Inode>>> answer = opening ? dir->lower()->LookupManyForOpen(names.subspan(i), false)
                                                            : dir->lower()->LookupMany(names.subspan(i));
        if (!answer.ok() && !answer.failed_with(ENOENT)) {
          if (i > 0) break;
          return answer.error();
        }
        lower_found.resize(i);
        if (answer.ok()) {
          for (auto& inode : *answer) lower_found.push_back(std::move(inode));
        } else {
          lower_found.push_back(nullptr);
        }
      }
      if (i >= lower_found.size()) break;  // it stopped early: the next lookup asks again
      lower = lower_found[i];
      if (lower && IsWhiteout(*lower)) lower = nullptr;
      if (upper && lower && !lower->is_dir()) lower = nullptr;
    }
    if (!upper && !lower) {
      found.push_back(nullptr);
      break;
    }
    RefPtr<OverlayInode> inode =
        OverlayInode::Make(sb, std::move(upper), std::move(lower), {dir, std::string(names[i])});
    found.push_back(inode);
    if (!inode->is_dir()) break;
    dir = base::StaticRefCast<OverlayDirectory>(std::move(inode));
  }
  return found;
}

Result<std::vector<OverlayDirectory::Entry>> OverlayDirectory::Entries(VfsContext& ctx) {
  std::vector<Entry> entries;
  absl::flat_hash_map<std::string, size_t> merged;  // directories that may continue below: to their entry
  absl::flat_hash_set<std::string> hidden;          // what the lower layer must not show
  if (upper() != nullptr) {
    bool both = lower() != nullptr;
    for (RawEntry& e : TRY(ListLayer(*upper(), ctx))) {
      Result<RefPtr<Inode>> inode = upper()->Lookup(e.name);
      if (!inode.ok()) continue;  // gone meanwhile
      bool whiteout = IsWhiteout(**inode);
      if (both && e.type == DT_DIR && !TRY(IsOpaque(**inode))) {
        merged.emplace(e.name, entries.size());
      } else if (both) {
        hidden.insert(e.name);
      }
      if (!whiteout) {
        uint64_t ino = OverlayInode::InoFor(inode->get(), nullptr);
        entries.push_back({std::move(e.name), ino, e.type});
      }
    }
  }
  if (lower() != nullptr) {
    for (RawEntry& e : TRY(ListLayer(*lower(), ctx))) {
      if (hidden.contains(e.name)) continue;
      if (auto it = merged.find(e.name); it != merged.end()) {
        if (e.type == DT_DIR) entries[it->second].ino = e.ino;
        continue;
      }
      if (e.type == DT_CHR || e.type == DT_UNKNOWN) {
        Result<RefPtr<Inode>> inode = lower()->Lookup(e.name);
        if (!inode.ok() || IsWhiteout(**inode)) continue;
        e.type = static_cast<uint8_t>(static_cast<uint32_t>((*inode)->type()) >> 12);
      }
      entries.push_back({std::move(e.name), e.ino, e.type});
    }
  }
  return entries;
}

template <typename MakeInode>
Result<RefPtr<Inode>> OverlayDirectory::Make(std::string_view name, bool is_dir, MakeInode&& make) {
  TRY(CopyUp());
  Inode& dir = *upper();
  base::WriterLock l(dir.dir_lock);
  RefPtr<Inode> whiteout = TRY(UpperEntry(name));
  if (whiteout) TRY(dir.Unlink(name, *whiteout));
  auto restore = [&] {
    if (whiteout) (void)dir.Link(name, *whiteout);
  };
  Result<RefPtr<Inode>> made = make(dir);
  if (!made.ok()) {
    restore();
    return made;
  }
  // What the whiteout hid must not show through the new directory.
  if (is_dir && whiteout) {
    Result<void> opaque = (*made)->SetXattr(kOpaqueXattr, "y", 0);
    if (!opaque.ok()) {
      (void)dir.Rmdir(name, **made);
      restore();
      return opaque.error();
    }
  }
  return RefPtr<Inode>(OverlayInode::Make(RefPtr<OverlaySuperblock>(&sb()), std::move(*made), nullptr, {}));
}

Result<RefPtr<Inode>> OverlayDirectory::Create(std::string_view name, const NewNode& node) {
  return Make(name, false, [&](Inode& dir) { return dir.Create(name, node); });
}
Result<RefPtr<Inode>> OverlayDirectory::Mkdir(std::string_view name, const NewNode& node) {
  return Make(name, true, [&](Inode& dir) { return dir.Mkdir(name, node); });
}
Result<RefPtr<Inode>> OverlayDirectory::Mknod(std::string_view name, const NewNode& node) {
  // A whiteout made by hand would hide what is below.
  if ((node.mode & S_IFMT) == S_IFCHR && node.rdev == 0) return Errno(EPERM);
  return Make(name, false, [&](Inode& dir) { return dir.Mknod(name, node); });
}
Result<RefPtr<Inode>> OverlayDirectory::Symlink(std::string_view name, std::string_view target, const NewNode& node) {
  return Make(name, false, [&](Inode& dir) { return dir.Symlink(name, target, node); });
}

Result<void> OverlayDirectory::Link(std::string_view name, Inode& target) {
  auto& inode = static_cast<OverlayInode&>(target);
  TRY(inode.CopyUp());
  TRY(Make(name, false, [&](Inode& dir) -> Result<RefPtr<Inode>> {
    TRY(dir.Link(name, *inode.upper()));
    return RefPtr<Inode>(inode.upper());
  }));
  return {};
}

Result<RefPtr<Inode>> OverlayDirectory::Tmpfile(const NewNode& node) {
  TRY(CopyUp());
  RefPtr<Inode> made = TRY(upper()->Tmpfile(node));
  made->linkable.store(true, std::memory_order_relaxed);
  return RefPtr<Inode>(OverlayInode::Make(RefPtr<OverlaySuperblock>(&sb()), std::move(made), nullptr, {}));
}

Result<void> OverlayDirectory::EmptyForRemoval(OverlayDirectory& dir) {
  VfsContext ctx;
  if (!TRY(dir.Entries(ctx)).empty()) return Errno(ENOTEMPTY);
  Inode* upper = dir.upper();
  if (upper == nullptr) return {};
  base::WriterLock l(upper->dir_lock);
  for (const RawEntry& e : TRY(ListLayer(*upper, ctx))) {
    RefPtr<Inode> whiteout = TRY(upper->Lookup(e.name));
    if (!IsWhiteout(*whiteout)) return Errno(ENOTEMPTY);
    TRY(upper->Unlink(e.name, *whiteout));
  }
  return {};
}

Result<void> OverlayDirectory::RemoveEntry(std::string_view name, OverlayInode& child) {
  Inode& dir = *upper();
  RefPtr<Inode> entry = TRY(UpperEntry(name));
  if (!TRY(LowerHas(name))) {
    if (!entry) return Errno(ENOENT);
    TRY(entry->is_dir() ? dir.Rmdir(name, *entry) : dir.Unlink(name, *entry));
  } else if (!entry) {
    TRY(dir.Link(name, sb().whiteout()));
  } else {
    // In one step, so that the lower file never shows again, also when there is no room for the whiteout.
    std::string work_name = sb().NextWorkName();
    base::WriterLock l(sb().work().dir_lock);
    TRY(sb().work().Link(work_name, sb().whiteout()));
    Result<void> renamed = sb().work().Rename(work_name, sb().whiteout(), dir, name, entry.get(), 0);
    if (!renamed.ok()) {
      (void)sb().work().Unlink(work_name, sb().whiteout());
      return renamed;
    }
  }
  child.MarkRemoved();
  return {};
}

Result<void> OverlayDirectory::Unlink(std::string_view name, Inode& child) {
  TRY(CopyUp());
  base::WriterLock l(upper()->dir_lock);
  return RemoveEntry(name, static_cast<OverlayInode&>(child));
}

Result<void> OverlayDirectory::Rmdir(std::string_view name, Inode& child) {
  TRY(EmptyForRemoval(static_cast<OverlayDirectory&>(child)));
  TRY(CopyUp());
  base::WriterLock l(upper()->dir_lock);
  return RemoveEntry(name, static_cast<OverlayInode&>(child));
}

Result<void> OverlayDirectory::Rename(std::string_view old_name, Inode& moved_inode, Inode& new_dir,
                                      std::string_view new_name, Inode* replaced_inode,
                                      uint32_t flags) NO_THREAD_SAFETY_ANALYSIS {
  if (flags & ~uint32_t{RENAME_NOREPLACE | RENAME_EXCHANGE}) return Errno(EINVAL);  // as ovl_rename
  auto& to = static_cast<OverlayDirectory&>(new_dir);
  auto& moved = static_cast<OverlayInode&>(moved_inode);
  auto* replaced = static_cast<OverlayInode*>(replaced_inode);
  bool exchange = flags & RENAME_EXCHANGE;
  // A lower part would have to move as well.
  if (moved.is_dir() && moved.lower() != nullptr) return Errno(EXDEV);
  if (exchange && replaced->is_dir() && replaced->lower() != nullptr) return Errno(EXDEV);
  if (!exchange && replaced != nullptr && replaced->is_dir())
    TRY(EmptyForRemoval(static_cast<OverlayDirectory&>(*replaced)));
  TRY(moved.CopyUp());
  TRY(CopyUp());
  TRY(to.CopyUp());
  if (exchange) TRY(replaced->CopyUp());

  bool old_has_lower = TRY(LowerHas(old_name));
  bool new_has_lower = TRY(to.LowerHas(new_name));
  if (moved.is_dir() && new_has_lower) TRY(moved.upper()->SetXattr(kOpaqueXattr, "y", 0));
  if (exchange && replaced->is_dir() && old_has_lower) TRY(replaced->upper()->SetXattr(kOpaqueXattr, "y", 0));

  Inode* first = upper();
  Inode* second = to.upper();
  if (first == second) {
    second = nullptr;
  } else if (second < first) {
    std::swap(first, second);
  }
  first->dir_lock.Lock();
  if (second != nullptr) second->dir_lock.Lock();
  auto rename = [&]() -> Result<void> {
    if (exchange) {
      return upper()->Rename(old_name, *moved.upper(), *to.upper(), new_name, replaced->upper(), RENAME_EXCHANGE);
    }
    // A whiteout may be in the place, or what is replaced; the lower file there is covered by what comes.
    RefPtr<Inode> entry = TRY(to.UpperEntry(new_name));
    uint32_t upper_flags = old_has_lower ? RENAME_WHITEOUT : 0;
    TRY(upper()->Rename(old_name, *moved.upper(), *to.upper(), new_name, entry.get(), upper_flags));
    if (replaced != nullptr) replaced->MarkRemoved();
    return {};
  };
  Result<void> result = rename();
  if (second != nullptr) second->dir_lock.Unlock();
  first->dir_lock.Unlock();
  return result;
}

Result<RefPtr<FileDescription>> OverlayDirectory::Open(const VfsPath& path, uint32_t flags, VfsContext& ctx) {
  return RefPtr<FileDescription>(TRY(base::TryMakeRef<OverlayDirectoryDescription>(path, flags)));
}

}  // namespace sentry::overlay

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>

#include "sentry/fs/gofer/file.h"
#include "sentry/fs/gofer/inode.h"

namespace sentry::goferfs {
namespace {

// Positions: 0 ".", 1 "..", 2 the first entry of the host, and from 3 on the host's cookie of the entry before, plus 3.
// The host's end mark may be as large as it gets: then INT64_MAX says that nothing follows.
constexpr int64_t kFirst = 2;
constexpr uint64_t kCookieBase = 3;

int64_t PositionAfter(uint64_t cookie) {
  return cookie > static_cast<uint64_t>(INT64_MAX) - kCookieBase ? INT64_MAX
                                                                 : static_cast<int64_t>(cookie + kCookieBase);
}

class DirectoryDescription final : public FileDescription {
 public:
  DirectoryDescription(VfsPath path, uint32_t flags) : FileDescription(std::move(path), flags) {}
  bool Seekable() const override { return true; }
  Result<size_t> PRead(IoBuffer&, int64_t, const IoFlags&) override { return Errno(EISDIR); }
  Result<size_t> Read(IoBuffer&, const IoFlags&) override { return Errno(EISDIR); }
  Result<void> Fsync(bool data_only) override { return Directory().node().Fsync(data_only); }

  Result<int64_t> ReadDir(int64_t position, const DirentSink& sink) override {
    if (position < 0) return Errno(EINVAL);
    base::FiberMutexLock l(chunk_lock_);
    if (position == 0) {
      chunk_.reset();  // rewound: look again
      if (!sink({".", Directory().ino(), DT_DIR, 1})) return position;
      position = 1;
    }
    if (position == 1) {
      RefPtr<Dentry> parent = path().dentry->parent();
      uint64_t ino = parent && parent->inode_ptr() != nullptr ? parent->inode_ptr()->ino() : Directory().ino();
      if (!sink({"..", ino, DT_DIR, kFirst})) return position;
      position = kFirst;
    }
    while (position != INT64_MAX) {
      size_t index = TRY(Seat(position));
      const auto& entries = chunk_->chunk().entries;
      if (index == entries.size()) return position;  // the end
      for (; index < entries.size(); ++index) {
        const gofer::DirectoryEntry& e = entries[index];
        int64_t next = PositionAfter(e.cookie);
        if (!sink({e.name, e.ino, e.type, next})) return position;
        position = next;
      }
    }
    return position;
  }

 private:
  GoferDirectory& Directory() const { return static_cast<GoferDirectory&>(*path().dentry->inode_ptr()); }

  // Has the entry at `position` in chunk_, unless there is none; returns its index.
  Result<size_t> Seat(int64_t position) REQUIRES(chunk_lock_) {
    if (chunk_) {
      if (chunk_position_ == position) return size_t{0};
      const auto& entries = chunk_->chunk().entries;
      for (size_t i = 0; i < entries.size(); ++i) {
        if (PositionAfter(entries[i].cookie) != position) continue;
        if (i + 1 < entries.size() || chunk_->chunk().end) return i + 1;
        break;
      }
    }
    if (position == kFirst) {
      chunk_ = TRY(Directory().List());
    } else {
      uint64_t cookie = static_cast<uint64_t>(position) - kCookieBase;
      chunk_ = base::MakeRef<Listing>(TRY(Directory().node().Readdir(cookie)));
    }
    chunk_position_ = position;
    return size_t{0};
  }

  base::FiberMutex chunk_lock_;  // held while the gofer is asked and while the sink takes
  RefPtr<const Listing> chunk_ GUARDED_BY(chunk_lock_);
  int64_t chunk_position_ GUARDED_BY(chunk_lock_) = 0;  // of its first entry
};

}  // namespace

Result<RefPtr<Inode>> GoferDirectory::Lookup(std::string_view name) {
  std::vector<RefPtr<Inode>> found = TRY(LookupMany(std::span(&name, 1)));
  if (!found[0]) return Errno(ENOENT);
  return found[0];
}

Result<void> GoferDirectory::WalkFrom(GoferInode& from, std::span<const std::string_view> names,
                                      const gofer::WalkOptions& options, std::vector<RefPtr<Inode>>& found) {
  GoferSuperblock& sb = from.sb();
  size_t before = found.size();
  uint64_t changes = options.list ? sb.listings().changes() : 0;
  auto walk = [&] {
    Result<gofer::WalkResult> r = from.node().Walk(names, options);
    // Running out in the middle is as bad as at the start.
    if (r.ok() && (r->stop_errno == ENFILE || r->stop_errno == EMFILE)) return Result<gofer::WalkResult>(Errno(ENFILE));
    return r;
  };
  gofer::WalkResult result = TRY(sb.WithRoom(walk));
  for (size_t i = 0; i < result.components.size(); ++i) {
    auto& c = result.components[i];
    bool last = i + 1 == result.components.size();
    RefPtr<GoferInode> inode =
        sb.Find(std::move(c.node), c.attributes, last ? std::exchange(result.symlink_target, {}) : std::string());
    if (!inode) return {};  // asked for attributes only, and it is new to us
    if (last && result.file.valid() && inode->type() == FileType::kRegular) {
      static_cast<GoferFile&>(*inode).Adopt(std::move(result.file), (options.open_flags & O_ACCMODE) != O_RDONLY);
    }
    if (last && result.listing && inode->is_dir()) {
      static_cast<GoferDirectory&>(*inode).AdoptListing(std::move(*result.listing), changes);
    }
    found.push_back(std::move(inode));
  }
  if (result.stop_errno == ENOENT) {
    found.push_back(nullptr);
  } else if (found.size() == before) {
    return Errno(result.stop_errno != 0 ? result.stop_errno : EIO);
  }
  return {};
}

Result<std::vector<RefPtr<Inode>>> GoferDirectory::LookupMany(std::span<const std::string_view> names) {
  return LookupWith(names, {});
}

Result<std::vector<RefPtr<Inode>>> GoferDirectory::LookupManyForOpen(std::span<const std::string_view> names,
                                                                     bool write) {
  return LookupWith(names, {.open = true, .open_flags = write ? uint32_t{O_RDWR} : uint32_t{O_RDONLY}});
}

Result<std::vector<RefPtr<Inode>>> GoferDirectory::LookupWith(std::span<const std::string_view> names,
                                                              const gofer::WalkOptions& options) {
  std::vector<RefPtr<Inode>> found;
  if (names.size() > gofer::kMaxWalkNames) names = names.subspan(0, gofer::kMaxWalkNames);
  if (!sb().shared()) {
    if (KnownMissing(names[0])) return Errno(ENOENT);
    gofer::WalkOptions walk = options;
    // A directory that is opened is mostly read; so are those below one that was read (find, du, tar).
    walk.list = (options.open || (names.size() == 1 && was_listed_.load(std::memory_order_relaxed))) &&
                sb().listings().PrefetchPays();
    TRY(WalkFrom(*this, names, walk, found));
    return found;
  }
  // On a shared tree most walks repeat: attributes are enough to see that nothing changed. From where something did,
  // with nodes.
  TRY(WalkFrom(*this, names, {.nodes = false}, found));
  if (found.empty() || (found.size() < names.size() && found.back() && found.back()->is_dir())) {
    GoferInode& from = found.empty() ? *this : static_cast<GoferInode&>(*found.back());
    // What comes after the first name is a bonus.
    Result<void> rest = WalkFrom(from, names.subspan(found.size()), options, found);
    if (found.empty()) return rest.ok() ? Errno(EIO) : rest.error();
  }
  return found;
}

std::atomic<size_t> GoferDirectory::known_names_of_all_{0};

Result<RefPtr<const Listing>> GoferDirectory::List() {
  if (sb().shared()) return RefPtr<const Listing>(base::MakeRef<Listing>(TRY(node().Readdir(0))));
  was_listed_.store(true, std::memory_order_relaxed);
  ListingCache& listings = sb().listings();
  if (RefPtr<const Listing> known = listings.Get(*this)) return known;
  uint64_t changes = listings.changes();
  RefPtr<const Listing> listing = base::MakeRef<Listing>(TRY(node().Readdir(0)));
  has_listing_.store(true, std::memory_order_relaxed);
  listings.Put(*this, listing, /*prefetched=*/false, changes);
  return listing;
}

void GoferDirectory::AdoptListing(gofer::DirectoryChunk chunk, uint64_t changes) {
  has_listing_.store(true, std::memory_order_relaxed);
  sb().listings().Put(*this, base::MakeRef<Listing>(std::move(chunk)), /*prefetched=*/true, changes);
}

void GoferDirectory::NamesChange::Note() {
  dir_.MarkStale();
  // Before the change, so that no old listing is found after it; after it, so that none that was read before is kept.
  if (!dir_.sb().shared()) dir_.sb().listings().Drop(dir_, /*changes=*/true);
}

GoferDirectory::~GoferDirectory() {
  if (has_listing_.load(std::memory_order_relaxed)) sb().listings().Drop(*this, /*changes=*/false);
  base::MutexLock l(names_mu_);
  if (names_) known_names_of_all_.fetch_sub(names_->size(), std::memory_order_relaxed);
}

void GoferDirectory::StartKnowingNames() {
  if (sb().shared()) return;
  base::MutexLock l(names_mu_);
  names_ = std::make_unique<Names>();
}

bool GoferDirectory::KnownMissing(std::string_view name) {
  base::MutexLock l(names_mu_);
  return names_ && !names_->contains(absl::string_view(name.data(), name.size()));
}

void GoferDirectory::NameAdded(std::string_view name) {
  base::MutexLock l(names_mu_);
  if (!names_) return;
  if (names_->size() >= kMaxKnownNames || known_names_of_all_.load(std::memory_order_relaxed) >= kMaxKnownNamesOfAll) {
    known_names_of_all_.fetch_sub(names_->size(), std::memory_order_relaxed);
    names_.reset();
  } else if (names_->insert(std::string(name)).second) {
    known_names_of_all_.fetch_add(1, std::memory_order_relaxed);
  }
}

void GoferDirectory::NameRemoved(std::string_view name) {
  base::MutexLock l(names_mu_);
  if (names_ && names_->erase(absl::string_view(name.data(), name.size())) != 0) {
    known_names_of_all_.fetch_sub(1, std::memory_order_relaxed);
  }
}

Result<RefPtr<Inode>> GoferDirectory::Adopt(std::string_view name, Result<gofer::NewNode> made,
                                            std::string symlink_target) {
  // Also if it failed: with EEXIST there is something after all.
  NameAdded(name);
  gofer::NewNode fresh = TRY(std::move(made));
  return RefPtr<Inode>(sb().Find(std::move(fresh.node), fresh.attributes, std::move(symlink_target)));
}

namespace {

gofer::CreateOptions OptionsFor(const NewNode& node) {
  return {.mode = node.mode & 07777, .uid = node.uid, .gid = node.gid};
}

}  // namespace

Result<RefPtr<Inode>> GoferDirectory::Create(std::string_view name, const NewNode& node) {
  NamesChange change(*this);
  NameAdded(name);
  gofer::NewFile made = TRY(sb().WithRoom([&] { return this->node().Create(name, O_RDWR, OptionsFor(node)); }));
  RefPtr<GoferInode> inode = sb().Find(std::move(made.node), made.attributes, "");
  if (inode->type() != FileType::kRegular) return Errno(EIO);
  // Whoever makes a file opens it next.
  if (made.file.valid()) static_cast<GoferFile&>(*inode).Adopt(std::move(made.file), /*writable=*/true);
  return RefPtr<Inode>(std::move(inode));
}

Result<RefPtr<Inode>> GoferDirectory::Tmpfile(const NewNode& node) {
  gofer::NewFile made = TRY(sb().WithRoom([&] { return this->node().Tmpfile(O_RDWR, OptionsFor(node)); }));
  RefPtr<GoferInode> inode = sb().Find(std::move(made.node), made.attributes, "");
  if (inode->type() != FileType::kRegular) return Errno(EIO);
  if (made.file.valid()) static_cast<GoferFile&>(*inode).Adopt(std::move(made.file), /*writable=*/true);
  return RefPtr<Inode>(std::move(inode));
}

Result<RefPtr<Inode>> GoferDirectory::Mkdir(std::string_view name, const NewNode& node) {
  NamesChange change(*this);
  RefPtr<Inode> made = TRY(Adopt(name, sb().WithRoom([&] { return this->node().Mkdir(name, OptionsFor(node)); })));
  if (made->is_dir()) static_cast<GoferDirectory&>(*made).StartKnowingNames();
  return made;
}

Result<RefPtr<Inode>> GoferDirectory::Mknod(std::string_view name, const NewNode& node) {
  NamesChange change(*this);
  return Adopt(
      name, sb().WithRoom([&] { return this->node().Mknod(name, node.mode & S_IFMT, node.rdev, OptionsFor(node)); }));
}

Result<RefPtr<Inode>> GoferDirectory::Symlink(std::string_view name, std::string_view target, const NewNode& node) {
  NamesChange change(*this);
  return Adopt(name, sb().WithRoom([&] { return this->node().Symlink(name, target, node.uid, node.gid); }),
               std::string(target));
}

Result<RefPtr<Inode>> GoferDirectory::BindSocket(std::string_view name, const NewNode& node, int type,
                                                 base::UniqueFd& host) {
  if (!sb().host_uds_create()) return Mknod(name, node);
  NamesChange change(*this);
  gofer::NewFile made = TRY(sb().WithRoom([&] { return this->node().Bind(name, type, OptionsFor(node)); }));
  host = std::move(made.file);
  return Adopt(name, gofer::NewNode{std::move(made.node), made.attributes});
}

Result<void> GoferDirectory::Link(std::string_view name, Inode& target) {
  auto& inode = static_cast<GoferInode&>(target);
  NamesChange change(*this);
  NameAdded(name);
  inode.Update(TRY(node().Link(inode.node(), name)));
  return {};
}

Result<void> GoferDirectory::Unlink(std::string_view name, Inode& child) {
  NamesChange change(*this);
  TRY(node().Unlink(name));
  NameRemoved(name);
  static_cast<GoferInode&>(child).DropLink();
  return {};
}

Result<void> GoferDirectory::Rmdir(std::string_view name, Inode& child) {
  NamesChange change(*this);
  TRY(node().Rmdir(name));
  NameRemoved(name);
  static_cast<GoferInode&>(child).DropLink();
  return {};
}

Result<void> GoferDirectory::Rename(std::string_view old_name, Inode& moved, Inode& new_dir, std::string_view new_name,
                                    Inode* replaced, uint32_t flags) {
  auto& to = static_cast<GoferDirectory&>(new_dir);
  uint32_t gofer_flags = 0;
  if (flags & RENAME_NOREPLACE) gofer_flags |= gofer::kRenameNoReplace;
  if (flags & RENAME_EXCHANGE) gofer_flags |= gofer::kRenameExchange;
  // EINVAL where the host's file system has no whiteouts, as on Linux.
  if (flags & RENAME_WHITEOUT) gofer_flags |= gofer::kRenameWhiteout;
  NamesChange change(*this), change_there(to);
  to.NameAdded(new_name);
  TRY(node().Rename(old_name, to.node(), new_name, gofer_flags));
  if (!(flags & (RENAME_EXCHANGE | RENAME_WHITEOUT))) NameRemoved(old_name);
  static_cast<GoferInode&>(moved).MarkStale();
  if (replaced != nullptr) {
    auto& gone = static_cast<GoferInode&>(*replaced);
    if (flags & RENAME_EXCHANGE) {
      gone.MarkStale();
    } else {
      gone.DropLink();
    }
  }
  return {};
}

Result<RefPtr<FileDescription>> GoferDirectory::Open(const VfsPath& path, uint32_t flags, VfsContext& ctx) {
  return RefPtr<FileDescription>(TRY(base::TryMakeRef<DirectoryDescription>(path, flags)));
}

}  // namespace sentry::goferfs

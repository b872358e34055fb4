#include "sentry/fs/devpts/superblock.h"

#include <dirent.h>
#include <sys/sysmacros.h>

#include <charconv>
#include <cstdio>

#include "sentry/vfs/apply_attr.h"
#include "sentry/vfs/vfs.h"

namespace sentry::devpts {
namespace {

// "7" → 7; −1 for anything that is not the one way to write a number.
int ParseIndex(std::string_view name) {
  int value = -1;
  auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), value);
  if (error != std::errc() || end != name.data() + name.size() || value < 0) return -1;
  if (name.size() > 1 && name[0] == '0') return -1;
  return value;
}

Result<uint32_t> ParseNumber(std::string_view text, int base, uint32_t max) {
  uint32_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size() || value > max) return Errno(EINVAL);
  return value;
}

class RootDirectory final : public FileDescription {
 public:
  RootDirectory(VfsPath path, uint32_t flags) : FileDescription(std::move(path), flags) {}
  bool Seekable() const override { return true; }
  Result<size_t> PRead(IoBuffer&, int64_t, const IoFlags&) override { return Errno(EISDIR); }

  // Positions: 0 ".", 1 "..", 2 "ptmx", 3 + index.
  Result<int64_t> ReadDir(int64_t position, const DirentSink& sink) override {
    auto& sb = static_cast<RootInode&>(*inode()).sb();
    if (position < 0) return Errno(EINVAL);
    constexpr std::string_view kFixed[] = {".", "..", "ptmx"};
    for (; position < 3; ++position) {
      bool is_ptmx = position == 2;
      uint64_t ino = is_ptmx ? DevptsSuperblock::kPtmxIno : DevptsSuperblock::kRootIno;
      if (!sink({kFixed[position], ino, static_cast<uint8_t>(is_ptmx ? DT_CHR : DT_DIR), position + 1}))
        return position;
    }
    for (;;) {
      int index = position - 3 > INT32_MAX ? -1 : sb.NextIndex(static_cast<int>(position - 3));
      if (index < 0) return position;
      std::string name = std::to_string(index);
      if (!sink({name, DevptsSuperblock::kFirstSlaveIno + static_cast<uint64_t>(index), DT_CHR, index + 4}))
        return position;
      position = index + 4;
    }
  }
};

}  // namespace

Result<Options> ParseOptions(std::string_view text) {
  Options options;
  while (!text.empty()) {
    size_t comma = std::min(text.find(','), text.size());
    std::string_view item = text.substr(0, comma);
    text.remove_prefix(std::min(comma + 1, text.size()));
    if (item.empty() || item == "newinstance") continue;
    size_t equals = std::min(item.find('='), item.size());
    std::string_view key = item.substr(0, equals);
    std::string_view value = equals < item.size() ? item.substr(equals + 1) : std::string_view();
    if (key == "mode") {
      options.mode = TRY(ParseNumber(value, 8, 0777));
    } else if (key == "ptmxmode") {
      options.ptmx_mode = TRY(ParseNumber(value, 8, 0777));
    } else if (key == "uid") {
      options.uid = TRY(ParseNumber(value, 10, UINT32_MAX));
      options.set_uid = true;
    } else if (key == "gid") {
      options.gid = TRY(ParseNumber(value, 10, UINT32_MAX));
      options.set_gid = true;
    } else if (key == "max") {
      options.max = std::min(options.max, static_cast<int>(TRY(ParseNumber(value, 10, 1 << 20))));
    } else {
      return Errno(EINVAL);
    }
  }
  return options;
}

DevptsInode::DevptsInode(RefPtr<Superblock> sb, uint64_t ino, uint32_t mode, uint32_t uid, uint32_t gid, uint64_t rdev)
    : Inode(std::move(sb), ino, static_cast<FileType>(mode & S_IFMT)) {
  attr_.ino = ino;
  attr_.dev = superblock().dev();
  attr_.mode = mode;
  attr_.nlink = (mode & S_IFMT) == S_IFDIR ? 2 : 1;
  attr_.uid = uid;
  attr_.gid = gid;
  attr_.rdev = rdev;
  attr_.blksize = 1024;
  attr_.atime = attr_.mtime = attr_.ctime = vfs::FileNow();
}

Result<Attr> DevptsInode::GetAttr() {
  base::MutexLock lock(mu_);
  return attr_;
}

Result<void> DevptsInode::SetAttr(const AttrChange& change) {
  if (change.size) return Errno(EINVAL);
  base::MutexLock lock(mu_);
  ApplyAttrChange(attr_, change, vfs::FileNow());
  return {};
}

Result<FsStat> DevptsSuperblock::StatFs() {
  FsStat stat;
  stat.type = 0x1cd1;  // DEVPTS_SUPER_MAGIC
  return stat;
}

std::string DevptsSuperblock::MountOptions() const {
  std::string text;
  if (options_.set_uid) text += "uid=" + std::to_string(options_.uid) + ",";
  if (options_.set_gid) text += "gid=" + std::to_string(options_.gid) + ",";
  char modes[48];
  snprintf(modes, sizeof(modes), "mode=%03o,ptmxmode=%03o", options_.mode, options_.ptmx_mode);
  return text + modes;
}

RefPtr<SlaveInode> DevptsSuperblock::FindSlave(int index) {
  base::MutexLock lock(mu_);
  auto it = slaves_.find(index);
  return it == slaves_.end() ? nullptr : it->second;
}

int DevptsSuperblock::NextIndex(int from) {
  base::MutexLock lock(mu_);
  auto it = slaves_.lower_bound(from);
  return it == slaves_.end() ? -1 : it->first;
}

void DevptsSuperblock::Remove(int index) {
  RefPtr<SlaveInode> inode;
  {
    base::MutexLock lock(mu_);
    auto it = slaves_.find(index);
    if (it == slaves_.end()) return;
    inode = std::move(it->second);
    slaves_.erase(it);
  }
  inode->Forget();
}

Result<int> DevptsSuperblock::FreeIndex() const {
  int index = 0;
  for (auto& [used, inode] : slaves_) {
    if (used != index) break;
    ++index;
  }
  if (index >= options_.max) return Errno(ENOSPC);
  return index;
}

Result<int> DevptsSuperblock::AddTerminal(Terminal& terminal, uint32_t uid) {
  RefPtr<DevptsSuperblock> self(this);
  base::MutexLock lock(mu_);
  int index = TRY(FreeIndex());
  terminal.SetOnEnd([self, index] { self->Remove(index); });
  slaves_.emplace(index, base::MakeRef<SlaveInode>(self, kFirstSlaveIno + static_cast<uint64_t>(index),
                                                   S_IFCHR | options_.mode, uid, options_.set_gid ? options_.gid : 0,
                                                   makedev(Pty::kSlaveMajor, index), terminal));
  return index;
}

Result<RefPtr<FileDescription>> DevptsSuperblock::OpenPtmx(const VfsPath& path, Dentry& root, uint32_t flags,
                                                           VfsContext& ctx) {
  TRY(base::ChargedMemory::Admit());
  RefPtr<DevptsSuperblock> self(this);
  RefPtr<SlaveInode> slave;
  RefPtr<Pty> pty;
  uint32_t uid = options_.set_uid ? options_.uid : ctx.creds->fsuid;
  uint32_t gid = options_.set_gid ? options_.gid : ctx.creds->fsgid;
  {
    base::MutexLock lock(mu_);
    int index = TRY(FreeIndex());
    pty = base::MakeRef<Pty>(kernel_, index, [self, index] { self->Remove(index); });
    slave = base::MakeRef<SlaveInode>(self, kFirstSlaveIno + static_cast<uint64_t>(index), S_IFCHR | options_.mode, uid,
                                      gid, makedev(Pty::kSlaveMajor, index), *pty);
    slaves_.emplace(index, slave);
  }
  // Where the slave is, as TIOCGPTPEER's descriptor shows it: in the mount through which ptmx was reached.
  VfsPath slave_path{&path.dentry->superblock() == this ? path.mount : nullptr, nullptr};
  root.Invalidate();
  slave_path.dentry = root.AddChild(std::to_string(pty->index()), slave);
  pty->SetSlavePath(std::move(slave_path));
  return pty->OpenMaster(path, flags);
}

RootInode::RootInode(RefPtr<DevptsSuperblock> sb, uint32_t ptmx_mode)
    : DevptsInode(sb, DevptsSuperblock::kRootIno, S_IFDIR | 0755, 0, 0, 0),
      ptmx_(base::MakeRef<DevptsInode>(std::move(sb), DevptsSuperblock::kPtmxIno, S_IFCHR | ptmx_mode, 0, 0,
                                       makedev(5, 2))) {}

Result<RefPtr<Inode>> RootInode::Lookup(std::string_view name) {
  if (name == "ptmx") return RefPtr<Inode>(ptmx_);
  int index = ParseIndex(name);
  RefPtr<SlaveInode> slave = index < 0 ? nullptr : sb().FindSlave(index);
  if (slave == nullptr) return Errno(ENOENT);
  return RefPtr<Inode>(std::move(slave));
}

Result<bool> RootInode::Revalidate(std::string_view name, Inode* child) {
  auto now = Lookup(name);
  if (now.ok()) return now->get() == child;
  return child == nullptr;
}

Result<RefPtr<FileDescription>> RootInode::Open(const VfsPath& path, uint32_t flags, VfsContext&) {
  return RefPtr<FileDescription>(TRY(base::TryMakeRef<RootDirectory>(path, flags)));
}

}  // namespace sentry::devpts

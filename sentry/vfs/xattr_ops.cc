// Extended attributes: who may see and change which (fs/xattr.c: xattr_permission; security/commoncap.c).
#include <linux/limits.h>
#include <linux/xattr.h>
#include <sys/inotify.h>

#include "sentry/vfs/inotify.h"
#include "sentry/vfs/permission.h"
#include "sentry/vfs/vfs.h"

namespace sentry::vfs {
namespace {

bool HasPrefix(std::string_view name, std::string_view prefix) { return name.substr(0, prefix.size()) == prefix; }

Result<void> CheckName(std::string_view name) {
  if (name.empty() || name.size() > XATTR_NAME_MAX) return Errno(ERANGE);
  return {};
}

Result<void> CheckPermission(const Credentials& creds, Inode& inode, std::string_view name, bool write) {
  if (HasPrefix(name, XATTR_SECURITY_PREFIX)) {
    if (!write) return {};
    if (name == XATTR_NAME_CAPS) {
      if (!creds.Capable(CAP_SETFCAP)) return Errno(EPERM);
    } else if (!creds.Capable(CAP_SYS_ADMIN)) {
      return Errno(EPERM);
    }
    return {};
  }
  if (HasPrefix(name, XATTR_SYSTEM_PREFIX)) return {};
  if (HasPrefix(name, XATTR_TRUSTED_PREFIX)) {
    if (!creds.Capable(CAP_SYS_ADMIN)) return Errno(write ? EPERM : ENODATA);
    return {};
  }
  if (HasPrefix(name, XATTR_USER_PREFIX)) {
    if (name.size() == XATTR_USER_PREFIX_LEN) return Errno(EINVAL);
    if (inode.type() != FileType::kRegular && !inode.is_dir()) return Errno(write ? EPERM : ENODATA);
    if (inode.is_dir() && write) {
      Attr attr = TRY(inode.GetOwnership());
      if ((attr.mode & S_ISVTX) && !OwnerOrCapable(creds, attr.uid)) return Errno(EPERM);
    }
    return inode.CheckAccess(creds, write ? kMayWrite : kMayRead);
  }
  return Errno(EOPNOTSUPP);
}

Result<RefPtr<Inode>> Existing(const VfsPath& path) {
  RefPtr<Inode> inode = path.inode();
  if (!inode) return Errno(ENOENT);
  return inode;
}

}  // namespace

Result<std::string> GetXattr(VfsContext& ctx, const VfsPath& path, std::string_view name) {
  TRY(CheckName(name));
  RefPtr<Inode> inode = TRY(Existing(path));
  TRY(CheckPermission(*ctx.creds, *inode, name, false));
  return inode->GetXattr(name);
}

Result<void> SetXattr(VfsContext& ctx, const VfsPath& path, std::string_view name, std::string_view value,
                      uint32_t flags) {
  if (flags & ~uint32_t{XATTR_CREATE | XATTR_REPLACE}) return Errno(EINVAL);
  TRY(CheckName(name));
  if (value.size() > XATTR_SIZE_MAX) return Errno(E2BIG);
  RefPtr<Inode> inode = TRY(Existing(path));
  if (path.mount) TRY(WantWrite(*path.mount));
  {
    base::WriterLock l(inode->dir_lock);
    TRY(CheckPermission(*ctx.creds, *inode, name, true));
    TRY(inode->SetXattr(name, value, flags));
  }
  NotifyDentry(*path.dentry, IN_ATTRIB);
  return {};
}

Result<std::vector<std::string>> ListXattr(VfsContext& ctx, const VfsPath& path) {
  RefPtr<Inode> inode = TRY(Existing(path));
  std::vector<std::string> names = TRY(inode->ListXattr());
  if (!ctx.creds->Capable(CAP_SYS_ADMIN)) {
    std::erase_if(names, [](const std::string& n) { return HasPrefix(n, XATTR_TRUSTED_PREFIX); });
  }
  return names;
}

Result<void> RemoveXattr(VfsContext& ctx, const VfsPath& path, std::string_view name) {
  TRY(CheckName(name));
  RefPtr<Inode> inode = TRY(Existing(path));
  if (path.mount) TRY(WantWrite(*path.mount));
  {
    base::WriterLock l(inode->dir_lock);
    TRY(CheckPermission(*ctx.creds, *inode, name, true));
    TRY(inode->RemoveXattr(name));
  }
  NotifyDentry(*path.dentry, IN_ATTRIB);
  return {};
}

}  // namespace sentry::vfs

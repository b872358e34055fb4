#include "sentry/kernel/exec_credentials.h"

#include <sys/mount.h>
#include <sys/stat.h>

#include <array>
#include <cstring>

namespace sentry {

namespace {

constexpr uint32_t kSecNoRoot = 1 << 0, kSecKeepCaps = 1 << 4;

struct FileCapabilities {
  bool present = false;
  bool effective = false;
  uint64_t permitted = 0, inheritable = 0;
};

// struct vfs_cap_data and vfs_ns_cap_data (include/uapi/linux/capability.h).
Result<FileCapabilities> ReadFileCapabilities(Inode& inode) {
  Result<std::string> raw = inode.GetXattr("security.capability");
  if (!raw.ok()) return FileCapabilities{};
  uint32_t words[6] = {};
  if (raw->size() < 12 || raw->size() > sizeof(words)) return Errno(EINVAL);
  std::memcpy(words, raw->data(), raw->size());
  const uint32_t revision = words[0] & 0xff000000;
  FileCapabilities f;
  f.present = true;
  f.effective = words[0] & 1;
  f.permitted = words[1];
  f.inheritable = words[2];
  switch (revision) {
    case 0x01000000:
      if (raw->size() != 12) return Errno(EINVAL);
      break;
    case 0x02000000:
      if (raw->size() != 20) return Errno(EINVAL);
      f.permitted |= uint64_t{words[3]} << 32;
      f.inheritable |= uint64_t{words[4]} << 32;
      break;
    case 0x03000000:
      // For the root of a user namespace: only ours, uid 0, counts.
      if (raw->size() != 24) return Errno(EINVAL);
      if (words[5] != 0) return FileCapabilities{};
      f.permitted |= uint64_t{words[3]} << 32;
      f.inheritable |= uint64_t{words[4]} << 32;
      break;
    default:
      return Errno(EINVAL);
  }
  f.permitted &= kAllCapabilities;
  f.inheritable &= kAllCapabilities;
  return f;
}

}  // namespace

Result<ExecCredentials> CredentialsAfterExec(const Credentials& old, FileDescription& executable, bool watched) {
  RefPtr<Credentials> fresh = TRY(base::TryMakeRef<Credentials>(old));
  const bool nosuid = executable.path().mount && (executable.path().mount->flags() & MS_NOSUID);
  Attr attr = TRY(executable.GetAttr());
  if (!nosuid && !old.no_new_privs) {
    if (attr.mode & S_ISUID) fresh->euid = attr.uid;
    // Without group execute permission the bit means mandatory locking, not set-group-ID.
    if ((attr.mode & S_ISGID) && (attr.mode & S_IXGRP)) fresh->egid = attr.gid;
  }
  FileCapabilities file;
  if (!nosuid) file = TRY(ReadFileCapabilities(*executable.inode()));
  const uint64_t file_permitted = file.permitted;
  const bool root_rules = !(old.securebits & kSecNoRoot);
  // A set-user-ID-root program with file capabilities gets just those (man 7 capabilities).
  const bool suid_root_with_caps = file.present && fresh->euid == 0 && old.ruid != 0;
  if (root_rules && !suid_root_with_caps && (fresh->euid == 0 || old.ruid == 0)) {
    file.permitted = file.inheritable = kAllCapabilities;
    if (fresh->euid == 0) file.effective = true;
  }
  bool ids_changed = fresh->euid != old.ruid || fresh->egid != old.rgid;
  const bool privileged = fresh->euid != old.euid || fresh->egid != old.egid || file.present;
  fresh->ambient = privileged ? 0 : old.ambient;
  fresh->permitted = (old.inheritable & file.inheritable) | (file.permitted & old.bounding);
  if (file.present && file.effective && !(fresh->euid == 0 && root_rules) && (file_permitted & ~fresh->permitted)) {
    return Errno(EPERM);
  }
  if (old.no_new_privs) fresh->permitted &= old.permitted;
  if (watched && (ids_changed || (fresh->permitted & ~old.permitted) != 0)) {
    // cap_bprm_creds_from_file, LSM_UNSAFE_PTRACE.
    if (!old.Capable(CAP_SETUID)) {
      fresh->euid = fresh->ruid;
      fresh->egid = fresh->rgid;
    }
    fresh->permitted &= old.permitted;
  }
  ids_changed = fresh->euid != old.ruid || fresh->egid != old.rgid;
  fresh->permitted |= fresh->ambient;
  fresh->effective = file.effective ? fresh->permitted : fresh->ambient;
  fresh->suid = fresh->fsuid = fresh->euid;
  fresh->sgid = fresh->fsgid = fresh->egid;
  fresh->securebits &= ~kSecKeepCaps;
  ExecCredentials out;
  out.ids_changed = fresh->euid != old.euid || fresh->egid != old.egid;
  out.secure = ids_changed || (old.ruid != 0 && fresh->permitted != fresh->ambient && (file.effective || file.present));
  auto ids = [](const Credentials& c) {
    return std::array{c.ruid, c.euid, c.suid, c.fsuid, c.rgid, c.egid, c.sgid, c.fsgid};
  };
  out.gains = out.secure || ids(*fresh) != ids(old) || (fresh->permitted & ~old.permitted) != 0;
  out.creds = CredentialsRef(std::move(fresh));
  return out;
}

}  // namespace sentry

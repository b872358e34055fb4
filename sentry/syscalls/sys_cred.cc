#include "sentry/syscalls/sys_cred.h"

#include <algorithm>

#include "sentry/kernel/kernel.h"

namespace sentry {

namespace {

constexpr uint32_t kUnchanged = UINT32_MAX;
constexpr uint32_t kSecNoSetuidFixup = 1 << 2, kSecKeepCaps = 1 << 4;
// Capabilities that go and come with fsuid 0 (man 7 capabilities).
constexpr uint64_t kFsCaps = (uint64_t{1} << CAP_CHOWN) | (uint64_t{1} << CAP_DAC_OVERRIDE) |
                             (uint64_t{1} << CAP_DAC_READ_SEARCH) | (uint64_t{1} << CAP_FOWNER) |
                             (uint64_t{1} << CAP_FSETID) | (uint64_t{1} << CAP_LINUX_IMMUTABLE) |
                             (uint64_t{1} << CAP_MKNOD) | (uint64_t{1} << CAP_MAC_OVERRIDE);

// man 7 capabilities, "Effect of user ID changes" (security/commoncap.c, cap_emulate_setxuid).
void FixCapabilities(Credentials& fresh, const Credentials& old) {
  if (fresh.securebits & kSecNoSetuidFixup) return;
  const bool had_root = old.ruid == 0 || old.euid == 0 || old.suid == 0;
  const bool has_root = fresh.ruid == 0 || fresh.euid == 0 || fresh.suid == 0;
  if (had_root && !has_root) {
    if (!(fresh.securebits & kSecKeepCaps)) {
      fresh.permitted = 0;
      fresh.effective = 0;
    }
    fresh.ambient = 0;
  }
  if (old.euid == 0 && fresh.euid != 0) fresh.effective = 0;
  if (old.euid != 0 && fresh.euid == 0) fresh.effective = fresh.permitted;
}

// A copy to edit and publish. Changing ids makes a process undumpable (man 2 prctl).
template <typename F>
Result<void> Edit(Task& task, F&& change) {
  RefPtr<Credentials> fresh = TRY(base::TryMakeRef<Credentials>(task.creds()));
  TRY(change(*fresh));
  const Credentials& old = task.creds();
  if (fresh->euid != old.euid || fresh->egid != old.egid || fresh->fsuid != old.fsuid || fresh->fsgid != old.fsgid) {
    task.mm().dumpable.store(0);
  }
  task.SetCredentials(CredentialsRef(std::move(fresh)));
  return {};
}

}  // namespace

Result<uint32_t> SysGetuid(Task& task) { return uint32_t{task.creds().ruid}; }
Result<uint32_t> SysGeteuid(Task& task) { return uint32_t{task.creds().euid}; }
Result<uint32_t> SysGetgid(Task& task) { return uint32_t{task.creds().rgid}; }
Result<uint32_t> SysGetegid(Task& task) { return uint32_t{task.creds().egid}; }

Result<void> SysGetresuid(Task& task, UserPtr<uint32_t> r, UserPtr<uint32_t> e, UserPtr<uint32_t> s) {
  TRY(task.mm().Write(r, task.creds().ruid));
  TRY(task.mm().Write(e, task.creds().euid));
  return task.mm().Write(s, task.creds().suid);
}

Result<void> SysGetresgid(Task& task, UserPtr<uint32_t> r, UserPtr<uint32_t> e, UserPtr<uint32_t> s) {
  TRY(task.mm().Write(r, task.creds().rgid));
  TRY(task.mm().Write(e, task.creds().egid));
  return task.mm().Write(s, task.creds().sgid);
}

Result<void> SysSetuid(Task& task, uint32_t uid) {
  if (uid == kUnchanged) return Errno(EINVAL);
  return Edit(task, [&](Credentials& c) -> Result<void> {
    const Credentials old(c);
    if (task.Capable(CAP_SETUID)) {
      c.ruid = c.suid = uid;
    } else if (uid != c.ruid && uid != c.suid) {
      return Errno(EPERM);
    }
    c.euid = c.fsuid = uid;
    FixCapabilities(c, old);
    return {};
  });
}

Result<void> SysSetgid(Task& task, uint32_t gid) {
  if (gid == kUnchanged) return Errno(EINVAL);
  return Edit(task, [&](Credentials& c) -> Result<void> {
    if (task.Capable(CAP_SETGID)) {
      c.rgid = c.sgid = gid;
    } else if (gid != c.rgid && gid != c.sgid) {
      return Errno(EPERM);
    }
    c.egid = c.fsgid = gid;
    return {};
  });
}

Result<void> SysSetreuid(Task& task, uint32_t r, uint32_t e) {
  return Edit(task, [&](Credentials& c) -> Result<void> {
    const Credentials old(c);
    const bool may = task.Capable(CAP_SETUID);
    if (r != kUnchanged) {
      if (!may && r != old.ruid && r != old.euid) return Errno(EPERM);
      c.ruid = r;
    }
    if (e != kUnchanged) {
      if (!may && e != old.ruid && e != old.euid && e != old.suid) return Errno(EPERM);
      c.euid = e;
    }
    if (r != kUnchanged || (e != kUnchanged && e != old.ruid)) c.suid = c.euid;
    c.fsuid = c.euid;
    FixCapabilities(c, old);
    return {};
  });
}

Result<void> SysSetregid(Task& task, uint32_t r, uint32_t e) {
  return Edit(task, [&](Credentials& c) -> Result<void> {
    const Credentials old(c);
    const bool may = task.Capable(CAP_SETGID);
    if (r != kUnchanged) {
      if (!may && r != old.rgid && r != old.egid) return Errno(EPERM);
      c.rgid = r;
    }
    if (e != kUnchanged) {
      if (!may && e != old.rgid && e != old.egid && e != old.sgid) return Errno(EPERM);
      c.egid = e;
    }
    if (r != kUnchanged || (e != kUnchanged && e != old.rgid)) c.sgid = c.egid;
    c.fsgid = c.egid;
    return {};
  });
}

Result<void> SysSetresuid(Task& task, uint32_t r, uint32_t e, uint32_t s) {
  return Edit(task, [&](Credentials& c) -> Result<void> {
    const Credentials old(c);
    auto allowed = [&](uint32_t id) {
      return id == kUnchanged || task.Capable(CAP_SETUID) || id == old.ruid || id == old.euid || id == old.suid;
    };
    if (!allowed(r) || !allowed(e) || !allowed(s)) return Errno(EPERM);
    if (r != kUnchanged) c.ruid = r;
    if (e != kUnchanged) c.euid = e;
    if (s != kUnchanged) c.suid = s;
    c.fsuid = c.euid;
    FixCapabilities(c, old);
    return {};
  });
}

Result<void> SysSetresgid(Task& task, uint32_t r, uint32_t e, uint32_t s) {
  return Edit(task, [&](Credentials& c) -> Result<void> {
    const Credentials old(c);
    auto allowed = [&](uint32_t id) {
      return id == kUnchanged || task.Capable(CAP_SETGID) || id == old.rgid || id == old.egid || id == old.sgid;
    };
    if (!allowed(r) || !allowed(e) || !allowed(s)) return Errno(EPERM);
    if (r != kUnchanged) c.rgid = r;
    if (e != kUnchanged) c.egid = e;
    if (s != kUnchanged) c.sgid = s;
    c.fsgid = c.egid;
    return {};
  });
}

Result<uint32_t> SysSetfsuid(Task& task, uint32_t uid) {
  const uint32_t old = task.creds().fsuid;
  (void)Edit(task, [&](Credentials& c) -> Result<void> {
    if (uid == kUnchanged) return Errno(EINVAL);
    if (!task.Capable(CAP_SETUID) && uid != c.ruid && uid != c.euid && uid != c.suid && uid != c.fsuid)
      return Errno(EPERM);
    if (!(c.securebits & kSecNoSetuidFixup)) {
      if (old == 0 && uid != 0) c.effective &= ~kFsCaps;
      if (old != 0 && uid == 0) c.effective |= c.permitted & kFsCaps;
    }
    c.fsuid = uid;
    return {};
  });
  return old;
}

Result<uint32_t> SysSetfsgid(Task& task, uint32_t gid) {
  const uint32_t old = task.creds().fsgid;
  (void)Edit(task, [&](Credentials& c) -> Result<void> {
    if (gid == kUnchanged) return Errno(EINVAL);
    if (!task.Capable(CAP_SETGID) && gid != c.rgid && gid != c.egid && gid != c.sgid && gid != c.fsgid)
      return Errno(EPERM);
    c.fsgid = gid;
    return {};
  });
  return old;
}

Result<int> SysGetgroups(Task& task, int size, UserPtr<uint32_t> list) {
  const auto& groups = task.creds().groups;
  if (size < 0) return Errno(EINVAL);
  if (size != 0) {
    if (static_cast<size_t>(size) < groups.size()) return Errno(EINVAL);
    TRY(task.mm().WriteArray(list, std::span<const uint32_t>(groups)));
  }
  return static_cast<int>(groups.size());
}

Result<void> SysSetgroups(Task& task, int size, UserPtr<uint32_t> list) {
  if (!task.Capable(CAP_SETGID)) return Errno(EPERM);
  if (size < 0 || size > 65536) return Errno(EINVAL);
  std::vector<uint32_t> groups = TRY(task.mm().ReadArray(list, size));
  std::sort(groups.begin(), groups.end());
  return Edit(task, [&](Credentials& c) -> Result<void> {
    c.groups.assign(groups.begin(), groups.end());
    return {};
  });
}

namespace {

// Number of 32-bit words of each set; EINVAL after telling the preferred version (man 2 capget).
Result<int> CheckVersion(Task& task, UserPtr<CapHeader> header, CapHeader& h) {
  h = TRY(task.mm().Read(header));
  switch (h.version) {
    case _LINUX_CAPABILITY_VERSION_1:
      return 1;
    case _LINUX_CAPABILITY_VERSION_2:
    case _LINUX_CAPABILITY_VERSION_3:
      return 2;
    default:
      TRY(task.mm().Write(UserPtr<uint32_t>{header.addr}, _LINUX_CAPABILITY_VERSION_3));
      return Errno(EINVAL);
  }
}

}  // namespace

Result<void> SysCapget(Task& task, UserPtr<CapHeader> header, UserPtr<CapData> data) {
  CapHeader h;
  Result<int> words = CheckVersion(task, header, h);
  if (!words.ok()) return (!data && words.failed_with(EINVAL)) ? Result<void>() : words.error();
  if (h.pid < 0) return Errno(EINVAL);
  CredentialsRef creds = task.creds_ref();
  if (h.pid != 0 && h.pid != task.tid()) {
    RefPtr<Task> target = task.kernel().FindTask(h.pid, task.pid_namespace());
    if (!target) return Errno(ESRCH);
    creds = target->SnapshotCreds();
  }
  if (!data) return {};
  CapData out[2];
  for (int i = 0; i < 2; ++i) {
    out[i] = {static_cast<uint32_t>(creds->effective >> (32 * i)), static_cast<uint32_t>(creds->permitted >> (32 * i)),
              static_cast<uint32_t>(creds->inheritable >> (32 * i))};
  }
  return task.mm().WriteArray(data, std::span<const CapData>(out, *words));
}

Result<void> SysCapset(Task& task, UserPtr<CapHeader> header, UserPtr<CapData> data) {
  CapHeader h;
  const int words = TRY(CheckVersion(task, header, h));
  if (h.pid != 0 && h.pid != task.tid()) return Errno(EPERM);
  std::vector<CapData> in = TRY(task.mm().ReadArray(data, words));
  uint64_t effective = 0, permitted = 0, inheritable = 0;
  for (int i = 0; i < words; ++i) {
    effective |= uint64_t{in[i].effective} << (32 * i);
    permitted |= uint64_t{in[i].permitted} << (32 * i);
    inheritable |= uint64_t{in[i].inheritable} << (32 * i);
  }
  effective &= kAllCapabilities;
  permitted &= kAllCapabilities;
  inheritable &= kAllCapabilities;
  return Edit(task, [&](Credentials& c) -> Result<void> {
    // man 2 capset, EPERM (security/commoncap.c, cap_capset).
    if (!task.Capable(CAP_SETPCAP) && (inheritable & ~(c.inheritable | c.permitted))) return Errno(EPERM);
    if (inheritable & ~(c.inheritable | c.bounding)) return Errno(EPERM);
    if (permitted & ~c.permitted) return Errno(EPERM);
    if (effective & ~permitted) return Errno(EPERM);
    c.effective = effective;
    c.permitted = permitted;
    c.inheritable = inheritable;
    c.ambient &= permitted & inheritable;
    return {};
  });
}

}  // namespace sentry

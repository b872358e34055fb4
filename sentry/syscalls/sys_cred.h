// User and group ids, capabilities.
#ifndef SENTRY_SYSCALLS_SYS_CRED_H_
#define SENTRY_SYSCALLS_SYS_CRED_H_

#include "sentry/syscalls/table.h"

namespace sentry {

struct CapHeader {
  uint32_t version;
  int32_t pid;
};
struct CapData {
  uint32_t effective, permitted, inheritable;
};

Result<uint32_t> SysGetuid(Task& task);
Result<uint32_t> SysGeteuid(Task& task);
Result<uint32_t> SysGetgid(Task& task);
Result<uint32_t> SysGetegid(Task& task);
Result<void> SysGetresuid(Task& task, UserPtr<uint32_t> r, UserPtr<uint32_t> e, UserPtr<uint32_t> s);
Result<void> SysGetresgid(Task& task, UserPtr<uint32_t> r, UserPtr<uint32_t> e, UserPtr<uint32_t> s);
Result<void> SysSetuid(Task& task, uint32_t uid);
Result<void> SysSetgid(Task& task, uint32_t gid);
Result<void> SysSetreuid(Task& task, uint32_t r, uint32_t e);
Result<void> SysSetregid(Task& task, uint32_t r, uint32_t e);
Result<void> SysSetresuid(Task& task, uint32_t r, uint32_t e, uint32_t s);
Result<void> SysSetresgid(Task& task, uint32_t r, uint32_t e, uint32_t s);
Result<uint32_t> SysSetfsuid(Task& task, uint32_t uid);
Result<uint32_t> SysSetfsgid(Task& task, uint32_t gid);
Result<int> SysGetgroups(Task& task, int size, UserPtr<uint32_t> list);
Result<void> SysSetgroups(Task& task, int size, UserPtr<uint32_t> list);
Result<void> SysCapget(Task& task, UserPtr<CapHeader> header, UserPtr<CapData> data);
Result<void> SysCapset(Task& task, UserPtr<CapHeader> header, UserPtr<CapData> data);

inline constexpr Row kCredRows[] = {
    SYSCALL(getuid, SysGetuid),       SYSCALL(geteuid, SysGeteuid),     SYSCALL(getgid, SysGetgid),
    SYSCALL(getegid, SysGetegid),     SYSCALL(getresuid, SysGetresuid), SYSCALL(getresgid, SysGetresgid),
    SYSCALL(setuid, SysSetuid),       SYSCALL(setgid, SysSetgid),       SYSCALL(setreuid, SysSetreuid),
    SYSCALL(setregid, SysSetregid),   SYSCALL(setresuid, SysSetresuid), SYSCALL(setresgid, SysSetresgid),
    SYSCALL(setfsuid, SysSetfsuid),   SYSCALL(setfsgid, SysSetfsgid),   SYSCALL(getgroups, SysGetgroups),
    SYSCALL(setgroups, SysSetgroups), SYSCALL(capget, SysCapget),       SYSCALL(capset, SysCapset),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_CRED_H_

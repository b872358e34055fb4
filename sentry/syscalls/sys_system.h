// The system: its names, its state, its log, its random numbers.
#ifndef SENTRY_SYSCALLS_SYS_SYSTEM_H_
#define SENTRY_SYSCALLS_SYS_SYSTEM_H_

#include "sentry/syscalls/table.h"

namespace sentry {

struct Sysinfo {
  int64_t uptime;
  uint64_t loads[3], totalram, freeram, sharedram, bufferram, totalswap, freeswap;
  uint16_t procs, pad;
  uint32_t pad2;
  uint64_t totalhigh, freehigh;
  uint32_t mem_unit, pad3;
};
static_assert(sizeof(Sysinfo) == 112);

Result<void> SysUname(Task& task, UserPtr<Utsname> out);
Result<void> SysSethostname(Task& task, uint64_t name, int length);
Result<void> SysSetdomainname(Task& task, uint64_t name, int length);
Result<void> SysSysinfo(Task& task, UserPtr<Sysinfo> out);
Result<size_t> SysGetrandom(Task& task, uint64_t buffer, uint64_t length, uint32_t flags);
Result<int64_t> SysSyslog(Task& task, int type, uint64_t buffer, int length);
Result<void> SysVhangup(Task& task);

inline constexpr Row kSystemRows[] = {
    SYSCALL(uname, SysUname),
    SYSCALL(sethostname, SysSethostname),
    SYSCALL(setdomainname, SysSetdomainname),
    SYSCALL(sysinfo, SysSysinfo),
    SYSCALL(getrandom, SysGetrandom),
    SYSCALL_PARTIAL(syslog, SysSyslog, "an empty log"),
    SYSCALL_PARTIAL(vhangup, SysVhangup, "does nothing"),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_SYSTEM_H_

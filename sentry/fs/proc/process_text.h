// Text of /proc/<pid>/…: everything is a snapshot taken with the locks of its owner, formatted without any.
#ifndef SENTRY_FS_PROC_PROCESS_TEXT_H_
#define SENTRY_FS_PROC_PROCESS_TEXT_H_

#include <string>

#include "sentry/kernel/kernel.h"

namespace sentry::proc {

// `whole`: the process (/proc/<pid>), else the one thread (task/<tid>).
// `permitted`: the reader may inspect the task, and sees its addresses.
std::string StatText(Task& task, const PidNamespace& ns, bool whole, bool permitted);
std::string StatusText(Task& task, const PidNamespace& ns, bool whole);
std::string StatmText(Task& task);
// Parts of some hundred mappings; `cursor` as TextFile::Generate has it: the address to go on at.
std::string MapsText(Task& task, uint64_t& cursor);
std::string SmapsText(Task& task, uint64_t& cursor);
std::string SmapsRollupText(Task& task);
std::string LimitsText(Task& task);
// Bytes between two addresses of the task's layout (cmdline, environ); at most 4 MiB, more than execve(2) takes.
Result<std::string> ArgumentsText(Task& task, bool environment);
std::string AuxvText(Task& task);

// "0-3,7" and "8f", the kernel's two ways to print a set of the first `count` processors.
std::string CpuList(uint64_t mask, int count);
std::string CpuMask(uint64_t mask, int count);

// ptrace_may_access(PTRACE_MODE_READ_FSCREDS), with ctx.creds: the own process, or same ids, dumpable and no more
// capabilities than the reader's, or CAP_SYS_PTRACE. EACCES.
Result<void> MayInspect(VfsContext& ctx, Task& target);

}  // namespace sentry::proc

#endif  // SENTRY_FS_PROC_PROCESS_TEXT_H_

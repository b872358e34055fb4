// Text of /proc/<pid>/…: everything is a snapshot taken with the locks of its owner, formatted without any.
#ifndef SENTRY_FS_PROC_PROCESS_TEXT_H_
#define SENTRY_FS_PROC_PROCESS_TEXT_H_

#include <string>

#include "sentry/kernel/kernel.h"

namespace sentry::proc {

// `whole`: the process (/proc/<pid>), else the one thread (task/<tid>).
std::string StatText(Task& task, const PidNamespace& ns, bool whole);
std::string StatusText(Task& task, const PidNamespace& ns, bool whole);
std::string StatmText(Task& task);
std::string MapsText(Task& task, VfsContext& ctx);
std::string SmapsText(Task& task, VfsContext& ctx, bool rollup);
std::string LimitsText(Task& task);
// Bytes between two addresses of the task's layout (cmdline, environ); at most 1 MiB.
Result<std::string> ArgumentsText(Task& task, bool environment);
std::string AuxvText(Task& task);

// PTRACE_MODE_READ as far as proc needs it: same ids and dumpable, or CAP_SYS_PTRACE. EACCES.
Result<void> MayInspect(VfsContext& ctx, Task& target);

}  // namespace sentry::proc

#endif  // SENTRY_FS_PROC_PROCESS_TEXT_H_

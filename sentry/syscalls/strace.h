// `--strace`: a line in the debug log for every system call, with arguments as their types say.
#ifndef SENTRY_SYSCALLS_STRACE_H_
#define SENTRY_SYSCALLS_STRACE_H_

#include "sentry/syscalls/table.h"

namespace sentry {

// `row` null: an unknown number.
void StraceEnter(Task& task, const Row* row, uint64_t number, const uint64_t args[6]);
void StraceExit(Task& task, const Row* row, uint64_t number, const uint64_t args[6], const Result<int64_t>& result);

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_STRACE_H_

#include "sentry/syscalls/table.h"

#include <limits.h>

#include <cstdio>
#include <span>

#include "sentry/kernel/kernel.h"
#include "sentry/syscalls/strace.h"
#include "sentry/syscalls/sys_cred.h"
#include "sentry/syscalls/sys_dir.h"
#include "sentry/syscalls/sys_epoll.h"
#include "sentry/syscalls/sys_eventfd.h"
#include "sentry/syscalls/sys_fd.h"
#include "sentry/syscalls/sys_futex.h"
#include "sentry/syscalls/sys_inotify.h"
#include "sentry/syscalls/sys_inspect.h"
#include "sentry/syscalls/sys_ioctl.h"
#include "sentry/syscalls/sys_ipc.h"
#include "sentry/syscalls/sys_lock.h"
#include "sentry/syscalls/sys_memfd.h"
#include "sentry/syscalls/sys_mm.h"
#include "sentry/syscalls/sys_mount.h"
#include "sentry/syscalls/sys_mqueue.h"
#include "sentry/syscalls/sys_open.h"
#include "sentry/syscalls/sys_path.h"
#include "sentry/syscalls/sys_pipe.h"
#include "sentry/syscalls/sys_poll.h"
#include "sentry/syscalls/sys_priority.h"
#include "sentry/syscalls/sys_process.h"
#include "sentry/syscalls/sys_ptrace.h"
#include "sentry/syscalls/sys_read_write.h"
#include "sentry/syscalls/sys_sched.h"
#include "sentry/syscalls/sys_seccomp.h"
#include "sentry/syscalls/sys_signal.h"
#include "sentry/syscalls/sys_signalfd.h"
#include "sentry/syscalls/sys_socket.h"
#include "sentry/syscalls/sys_splice.h"
#include "sentry/syscalls/sys_stat.h"
#include "sentry/syscalls/sys_sync.h"
#include "sentry/syscalls/sys_system.h"
#include "sentry/syscalls/sys_time.h"
#include "sentry/syscalls/sys_timerfd.h"
#include "sentry/syscalls/sys_unserved.h"
#include "sentry/syscalls/sys_xattr.h"

namespace sentry {

namespace {

// A line each, so that families can be added side by side.
constexpr std::span<const Row> kFamilies[] = {
    kCredRows,       //
    kDirRows,        //
    kEpollRows,      //
    kEventfdRows,    //
    kFdRows,         //
    kFutexRows,      //
    kInotifyRows,    //
    kInspectRows,    //
    kIoctlRows,      //
    kIpcRows,        //
    kLockRows,       //
    kMemfdRows,      //
    kMmRows,         //
    kMountRows,      //
    kMqueueRows,     //
    kOpenRows,       //
    kPathRows,       //
    kPipeRows,       //
    kPollRows,       //
    kPriorityRows,   //
    kProcessRows,    //
    kPtraceRows,     //
    kReadWriteRows,  //
    kSchedRows,      //
    kSeccompRows,    //
    kSignalRows,     //
    kSignalfdRows,   //
    kSocketRows,     //
    kSpliceRows,     //
    kStatRows,       //
    kSyncRows,       //
    kSystemRows,     //
    kTimeRows,       //
    kTimerfdRows,    //
    kUnservedRows,   //
    kXattrRows,      //
};

constexpr std::array<Row, kTableSize> MakeTable() {
  std::array<Row, kTableSize> table{};
  for (std::span<const Row> family : kFamilies) {
    for (const Row& row : family) {
      if (row.number >= kTableSize) throw "a number beyond the table";
      if (!table[row.number].name.empty()) throw "two rows for one number";
      table[row.number] = row;
    }
  }
  // Every number that Linux has on amd64: 0 to 334, and from 424 on those that all architectures share.
  for (int n = 0; n < kTableSize; ++n) {
    if ((n <= 334 || n >= 424) && table[n].name.empty()) throw "a number without a row";
  }
  return table;
}

constexpr std::array<Row, kTableSize> kTable = MakeTable();

}  // namespace

const Row* FindRow(uint64_t number) {
  if (number >= kTableSize || kTable[number].name.empty()) return nullptr;
  return &kTable[number];
}

Result<int64_t> ServeSystemCall(Task& task, uint64_t number, const uint64_t args[6]) {
  const Row* row = FindRow(number);
  const bool strace = task.kernel().options().strace;
  if (strace) StraceEnter(task, row, number, args);
  Result<int64_t> result = row == nullptr            ? Result<int64_t>(Errno(ENOSYS))
                           : row->handler == nullptr ? Result<int64_t>(Errno(row->error))
                                                     : row->handler(task, args);
  if (strace) StraceExit(task, row, number, args, result);
  return result;
}

Result<std::string> UserPath::Read(Task& task) const { return task.mm().ReadString(addr, PATH_MAX); }

}  // namespace sentry

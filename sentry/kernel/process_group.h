// Sessions, process groups, and the terminal that controls a session. (man 7 credentials, man 4 tty; kernel/sys.c,
// drivers/tty/tty_jobctrl.c)
#ifndef SENTRY_KERNEL_PROCESS_GROUP_H_
#define SENTRY_KERNEL_PROCESS_GROUP_H_

#include <list>
#include <utility>
#include <vector>

#include "base/errno.h"
#include "base/ref_ptr.h"

namespace sentry {

using base::Errno;
using base::RefPtr;
using base::Result;
class Kernel;
class PidNamespace;
class ProcessGroup;
class Task;
class ThreadGroup;
class Tty;

// All fields of both are guarded by TaskSet::mu.
class Session final : public base::RefCounted {
 public:
  explicit Session(ThreadGroup* leader);
  ThreadGroup* leader;  // null once it is reaped
  Tty* tty = nullptr;   // controlling terminal; cleared by Tty::Orphan
  int IdIn(const PidNamespace& ns) const;
  std::vector<std::pair<const PidNamespace*, int>> ids;
};

class ProcessGroup final : public base::RefCounted {
 public:
  ProcessGroup(RefPtr<Session> session, ThreadGroup* originator);
  ~ProcessGroup() override;
  RefPtr<Session> session;
  std::list<ThreadGroup*> members;
  // The id, as the pid of the process that made the group, in `ns` (0 if it is not visible there).
  int IdIn(const PidNamespace& ns) const;
  int root_id = 0;  // in the root namespace
  std::vector<std::pair<const PidNamespace*, int>> ids;

  // No living member has a parent in another group of the session, so that nobody could continue a stopped one (POSIX
  // 3.264, "Orphaned Process Group"; kernel: will_become_orphaned_pgrp). `except`: a member that is about to end.
  bool IsOrphaned(const ThreadGroup* except = nullptr) const;
  // Whether that a child of `parent` is a member keeps the group from being orphaned.
  bool IsConnectedBy(const ThreadGroup& parent) const;
  // To every member.
  void SendSignalLocked(int signo);
  // SIGHUP and SIGCONT: what a terminal that goes away, or the loss of the last connection, sends.
  void HangUpLocked();
};

// The job-control half of a terminal: the line discipline and the devices are in fs/. A terminal object derives from
// it.
class Tty : public virtual base::RefCounted {
 public:
  ~Tty() override;
  // TIOCSCTTY: `force` steals with CAP_SYS_ADMIN. EPERM.
  Result<void> SetControlling(Task& task, bool force);
  // TIOCNOTTY.
  Result<void> ReleaseControlling(Task& task);
  // TIOCGPGRP / TIOCSPGRP / TIOCGSID, ids in the caller's pid namespace. ENOTTY, EPERM, ESRCH; SIGTTOU for background
  // callers of Set.
  Result<int> ForegroundGroup(Task& task);
  Result<void> SetForegroundGroup(Task& task, int pgid);
  Result<int> SessionId(Task& task);
  // To the foreground group (INTR, QUIT, SUSP characters, window change).
  void SignalForeground(Kernel& kernel, int signo);
  // SIGHUP and SIGCONT to the session's leader and foreground group, when the other end hangs up.
  void Hangup(Kernel& kernel);
  // Cuts the ties to its session. Called by the terminal's owner before it goes (a destructor may run with TaskSet::mu
  // held).
  void Orphan(Kernel& kernel);
  // Called before a read, write (TOSTOP) or change by a background process: sends SIGTTIN/SIGTTOU to its group and
  // returns ERESTARTSYS_, or EIO when orphaned or ignoring, or success for the foreground.
  Result<void> CheckBackground(Task& task, int signo);
  // With TaskSet::mu held: the foreground group's id in `ns`, −1 without one.
  int ForegroundIdLocked(const PidNamespace& ns) const { return foreground_ ? foreground_->IdIn(ns) : -1; }
  // What the master of a pty may ask without being of the session. −1: none. With TaskSet::mu held.
  struct Ids {
    int foreground, session;
  };
  Ids IdsLocked(const PidNamespace& ns) const {
    return {foreground_ ? foreground_->IdIn(ns) : -1, session_ != nullptr ? session_->IdIn(ns) : -1};
  }
  virtual int device_number() const = 0;  // tty_nr for /proc/pid/stat

 private:
  friend class ThreadGroup;
  friend class Task;
  Session* session_ = nullptr;       // TaskSet::mu
  RefPtr<ProcessGroup> foreground_;  // TaskSet::mu
};

}  // namespace sentry

#endif  // SENTRY_KERNEL_PROCESS_GROUP_H_

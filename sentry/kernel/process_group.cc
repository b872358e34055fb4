#include "sentry/kernel/process_group.h"

#include <algorithm>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"

namespace sentry {

ProcessGroup::ProcessGroup(RefPtr<Session> s, ThreadGroup* originator) : session(std::move(s)) {
  // The ids of the process that makes it, in every namespace that sees it.
  for (PidNamespace* ns = &originator->pid_namespace(); ns != nullptr; ns = ns->parent()) {
    int id = originator->PidIn(*ns);
    ids.emplace_back(ns, id);
    ns->groups[id] = this;
    root_id = id;
  }
}

ProcessGroup::~ProcessGroup() {
  // Dropped with TaskSet::mu held: the last reference is a member's or the terminal's.
  for (auto& [ns, id] : ids) {
    auto& groups = const_cast<PidNamespace*>(ns)->groups;
    auto it = groups.find(id);
    if (it != groups.end() && it->second == this) groups.erase(it);
  }
}

int ProcessGroup::IdIn(const PidNamespace& ns) const {
  for (auto& [space, id] : ids) {
    if (space == &ns) return id;
  }
  return 0;
}

bool ProcessGroup::IsConnectedBy(const ThreadGroup& parent) const {
  return parent.process_group && parent.process_group.get() != this && parent.process_group->session == session;
}

bool ProcessGroup::IsOrphaned(const ThreadGroup* except) const {
  return std::none_of(members.begin(), members.end(), [&](const ThreadGroup* member) {
    return member != except && member->live_count != 0 && member->parent != nullptr && IsConnectedBy(*member->parent);
  });
}

void ProcessGroup::SendSignalLocked(int signo) {
  // A copy: a signal may end a member, or take it out of the group.
  for (ThreadGroup* member : std::list<ThreadGroup*>(members)) {
    (void)Task::SendGroupSignalLocked(*member, KernelSignal(signo));
  }
}

void ProcessGroup::HangUpLocked() {
  SendSignalLocked(kSIGHUP);
  SendSignalLocked(kSIGCONT);
}

Result<int> Task::SetSid() {
  base::MutexLock tree(kernel_.tasks().mu);
  ThreadGroup& tg = *thread_group_;
  // man 2 setsid: EPERM if a process group with the caller's pid exists.
  if (pid_namespace().groups.contains(tg.PidIn(pid_namespace()))) return Errno(EPERM);
  RefPtr<Session> session = TRY(base::TryMakeRef<Session>(&tg));
  RefPtr<ProcessGroup> group = TRY(base::TryMakeRef<ProcessGroup>(session, &tg));
  if (tg.process_group) tg.process_group->members.remove(&tg);
  tg.process_group = group;
  group->members.push_back(&tg);
  tg.ChangeAnswersLocked();
  return tg.PidIn(pid_namespace());
}

Result<void> Task::SetPgid(int pid, int pgid) {
  // In this order: a pgid of 0 means the pid, whatever it is (kernel/sys.c).
  if (pgid < 0 || (pgid == 0 && pid < 0)) return Errno(EINVAL);
  base::MutexLock tree(kernel_.tasks().mu);
  ThreadGroup* target = thread_group_.get();
  if (pid != 0 && pid != target->PidIn(pid_namespace())) {
    auto it = pid_namespace().tasks.find(pid);
    if (it == pid_namespace().tasks.end() || it->second->thread_group().leader != it->second) return Errno(ESRCH);
    target = &it->second->thread_group();
    if (target->parent != thread_group_.get()) return Errno(ESRCH);
    if (target->process_group->session != thread_group_->process_group->session) return Errno(EPERM);
    if (target->has_execed) return Errno(EACCES);
  }
  if (target->process_group->session->leader == target) return Errno(EPERM);
  const int target_pid = target->PidIn(pid_namespace());
  if (pgid == 0) pgid = target_pid;
  RefPtr<ProcessGroup> group;
  auto it = pid_namespace().groups.find(pgid);
  if (it != pid_namespace().groups.end()) {
    group = RefPtr<ProcessGroup>(it->second);
    if (group->session != target->process_group->session) return Errno(EPERM);
  } else {
    if (pgid != target_pid) return Errno(EPERM);
    group = TRY(base::TryMakeRef<ProcessGroup>(target->process_group->session, target));
  }
  if (group == target->process_group) return {};
  RefPtr<ProcessGroup> old = target->process_group;
  old->members.remove(target);
  target->process_group = group;
  group->members.push_back(target);
  target->ChangeAnswersLocked();
  old.reset();
  return {};
}

// The group of the process with that pid; of the caller's own for 0. Tree held.
Result<ProcessGroup*> Task::ProcessGroupOfLocked(int pid) {
  ThreadGroup* target = thread_group_.get();
  if (pid != 0) {
    auto it = pid_namespace().tasks.find(pid);
    if (it == pid_namespace().tasks.end()) return Errno(ESRCH);
    target = &it->second->thread_group();
  }
  return target->process_group.get();
}

Result<int> Task::GetPgid(int pid) {
  base::MutexLock tree(kernel_.tasks().mu);
  ProcessGroup* group = TRY(ProcessGroupOfLocked(pid));
  return group != nullptr ? group->IdIn(pid_namespace()) : 0;
}

Result<int> Task::GetSid(int pid) {
  base::MutexLock tree(kernel_.tasks().mu);
  ProcessGroup* group = TRY(ProcessGroupOfLocked(pid));
  return group != nullptr ? group->session->IdIn(pid_namespace()) : 0;
}

int Session::IdIn(const PidNamespace& ns) const {
  for (auto& [space, id] : ids) {
    if (space == &ns) return id;
  }
  return 0;
}

Session::Session(ThreadGroup* l) : leader(l) {
  for (PidNamespace* ns = &l->pid_namespace(); ns != nullptr; ns = ns->parent()) ids.emplace_back(ns, l->PidIn(*ns));
}

// --- The terminal.

Tty::~Tty() = default;

namespace {
Session* SessionOf(Task& task) {
  return task.thread_group().process_group ? task.thread_group().process_group->session.get() : nullptr;
}
}  // namespace

Result<void> Tty::SetControlling(Task& task, bool force) {
  base::MutexLock tree(task.kernel().tasks().mu);
  Session* session = SessionOf(task);
  if (session == nullptr || session->leader != &task.thread_group()) return Errno(EPERM);
  if (session->tty == this) return {};
  if (session->tty != nullptr) return Errno(EPERM);
  if (session_ != nullptr) {
    if (!force || !task.Capable(CAP_SYS_ADMIN)) return Errno(EPERM);
    session_->tty = nullptr;
  }
  session_ = session;
  session->tty = this;
  foreground_ = task.thread_group().process_group;
  return {};
}

Result<void> Tty::ReleaseControlling(Task& task) {
  base::MutexLock tree(task.kernel().tasks().mu);
  Session* session = SessionOf(task);
  if (session == nullptr || session_ != session) return Errno(ENOTTY);
  if (session->leader == &task.thread_group()) {
    if (foreground_) foreground_->HangUpLocked();
    session->tty = nullptr;
    session_ = nullptr;
    foreground_.reset();
  }
  return {};
}

Result<int> Tty::ForegroundGroup(Task& task) {
  base::MutexLock tree(task.kernel().tasks().mu);
  Session* session = SessionOf(task);
  if (session == nullptr || session_ != session) return Errno(ENOTTY);
  return foreground_ ? foreground_->IdIn(task.pid_namespace()) : 0;
}

Result<void> Tty::SetForegroundGroup(Task& task, int pgid) {
  TRY(CheckBackground(task, kSIGTTOU));
  if (pgid < 0) return Errno(EINVAL);
  base::MutexLock tree(task.kernel().tasks().mu);
  Session* session = SessionOf(task);
  if (session == nullptr || session_ != session) return Errno(ENOTTY);
  auto it = task.pid_namespace().groups.find(pgid);
  if (it == task.pid_namespace().groups.end()) return Errno(ESRCH);
  if (it->second->session.get() != session) return Errno(EPERM);
  foreground_ = RefPtr<ProcessGroup>(it->second);
  return {};
}

Result<int> Tty::SessionId(Task& task) {
  base::MutexLock tree(task.kernel().tasks().mu);
  Session* session = SessionOf(task);
  if (session == nullptr || session_ != session) return Errno(ENOTTY);
  return session->IdIn(task.pid_namespace());
}

void Tty::SignalForeground(Kernel& kernel, int signo) {
  base::MutexLock tree(kernel.tasks().mu);
  if (foreground_) foreground_->SendSignalLocked(signo);
}

void Tty::Hangup(Kernel& kernel) {
  base::MutexLock tree(kernel.tasks().mu);
  if (session_ != nullptr) {
    if (session_->leader != nullptr) {
      (void)Task::SendGroupSignalLocked(*session_->leader, KernelSignal(kSIGHUP));
      (void)Task::SendGroupSignalLocked(*session_->leader, KernelSignal(kSIGCONT));
    }
    session_->tty = nullptr;
    session_ = nullptr;
  }
  if (foreground_) {
    foreground_->HangUpLocked();
    foreground_.reset();
  }
}

void Tty::Orphan(Kernel& kernel) {
  base::MutexLock tree(kernel.tasks().mu);
  if (session_ != nullptr) session_->tty = nullptr;
  session_ = nullptr;
  foreground_.reset();
}

Result<void> Tty::CheckBackground(Task& task, int signo) {
  base::MutexLock tree(task.kernel().tasks().mu);
  Session* session = SessionOf(task);
  // Not its controlling terminal: no job control (kernel: __tty_check_change).
  if (session == nullptr || session_ != session || !foreground_) return {};
  ProcessGroup& group = *task.thread_group().process_group;
  if (foreground_.get() == &group) return {};
  bool ignored;
  {
    base::MutexLock sig(task.thread_group().handlers->mu);
    ignored = task.blocked().Has(signo) || task.thread_group().handlers->actions[signo - 1].handler == kSigIgn;
  }
  if (ignored) {
    if (signo == kSIGTTIN) return Errno(EIO);
    return {};
  }
  if (group.IsOrphaned()) return Errno(EIO);
  group.SendSignalLocked(signo);
  return Errno(base::ERESTARTSYS_);
}

}  // namespace sentry

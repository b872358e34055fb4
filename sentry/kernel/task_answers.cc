// What a platform may answer in the kernel's place (platform::CallAnswers).
//
// Whoever changes something that they say calls ChangeAnswers for every task that it is about, after the change and
// before anybody can know of it: from then on these tasks' calls come here, until their own fibers have told the
// platform again.
#include <algorithm>
#include <cstring>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"

namespace sentry {

void Task::ChangeAnswers() {
  answers_stale_.store(true, std::memory_order_seq_cst);
  context_->WithdrawAnswers();
}

void Task::UpdateAnswers() {
  // What changes while this is put together is stale again when the platform has been told.
  while (answers_stale_.exchange(false, std::memory_order_seq_cst)) {
    platform::CallAnswers answers;
    answers.valid = !NeedsSlowSyscalls() && !kernel_.options().strace;
    if (answers.valid) FillAnswers(answers);
    context_->SetAnswers(answers);
  }
}

void Task::FillAnswers(platform::CallAnswers& answers) {
  answers.tid = static_cast<uint32_t>(tid());
  answers.pid = static_cast<uint32_t>(thread_group_->pid());
  {
    base::MutexLock tree(kernel_.tasks().mu);
    const PidNamespace& ns = pid_namespace();
    const ThreadGroup* parent = thread_group_->parent;
    answers.ppid = parent == nullptr ? 0 : static_cast<uint32_t>(parent->PidIn(ns));
    if (const ProcessGroup* group = thread_group_->process_group.get()) {
      answers.pgid = static_cast<uint32_t>(group->IdIn(ns));
      answers.sid = static_cast<uint32_t>(group->session->IdIn(ns));
    }
  }
  answers.uid = creds_->ruid;
  answers.euid = creds_->euid;
  answers.gid = creds_->rgid;
  answers.egid = creds_->egid;
  const uint64_t cpus = kernel_.cpu_mask();
  const uint64_t wanted = affinity.load() & cpus;
  answers.affinity = wanted != 0 ? wanted : cpus;
  answers.affinity_bytes = static_cast<uint32_t>((kernel_.cpus() + 63) / 64 * 8);
  static_assert(kRlimits == platform::CallAnswers::kLimits);
  const Limits limits = thread_group_->limits();
  for (int i = 0; i < kRlimits; ++i) answers.limits[i] = {limits.values[i].rlim_cur, limits.values[i].rlim_max};
  static_assert(sizeof(Utsname) == platform::CallAnswers::kUtsname);
  const Utsname uname = uts_->Describe();
  std::memcpy(answers.uname.data(), &uname, sizeof(uname));
}

void Kernel::ChangeAnswers() {
  base::MutexLock tree(tasks_.mu);
  for (auto& [tid, task] : tasks_.root->tasks) task->ChangeAnswers();
}

}  // namespace sentry

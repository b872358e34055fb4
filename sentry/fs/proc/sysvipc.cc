// /proc/sysvipc: the objects of the reader's IPC namespace. (ipc/util.c, sysvipc_proc_show)
#include "absl/strings/str_format.h"
#include "sentry/fs/proc/system_text.h"
#include "sentry/kernel/ipc/ipc_namespace.h"

namespace sentry::proc {

namespace {

template <typename T>
std::vector<RefPtr<T>> List(IpcIds<T>& ids) {
  base::MutexLock lock(ids.mu);
  return ids.ListLocked();
}

// Copied with the lock held: permissions change.
template <typename T>
auto StatOf(IpcIds<T>& ids, T& object) {
  base::MutexLock lock(ids.mu);
  return object.Stat();
}

std::string Msg(IpcNamespace& ns) {
  std::string out =
      "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime    "
      " "
      " ctime\n";
  for (const RefPtr<MsgQueue>& queue : List(ns.msg)) {
    const MsqidDs ds = StatOf(ns.msg, *queue);
    absl::StrAppendFormat(&out, "%10d %10d  %4o  %10d %10d %5d %5d %5u %5u %5u %5u %10d %10d %10d\n", ds.perm.key,
                          queue->perm.id, ds.perm.mode, ds.cbytes, ds.qnum, ds.lspid, ds.lrpid, ds.perm.uid,
                          ds.perm.gid, ds.perm.cuid, ds.perm.cgid, ds.stime, ds.rtime, ds.ctime);
  }
  return out;
}

std::string Sem(IpcNamespace& ns) {
  std::string out = "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n";
  for (const RefPtr<SemSet>& set : List(ns.sem)) {
    const SemidDs ds = StatOf(ns.sem, *set);
    absl::StrAppendFormat(&out, "%10d %10d  %4o %10d %5u %5u %5u %5u %10d %10d\n", ds.perm.key, set->perm.id,
                          ds.perm.mode, ds.nsems, ds.perm.uid, ds.perm.gid, ds.perm.cuid, ds.perm.cgid, ds.otime,
                          ds.ctime);
  }
  return out;
}

std::string Shm(IpcNamespace& ns) {
  std::string out =
      "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      "
      "dtime      ctime                   rss                  swap\n";
  for (const RefPtr<ShmSegment>& segment : List(ns.shm)) {
    const ShmidDs ds = StatOf(ns.shm, *segment);
    absl::StrAppendFormat(&out, "%10d %10d  %4o %21d %5d %5d  %5d %5u %5u %5u %5u %10d %10d %10d %21d %21d\n",
                          ds.perm.key, segment->perm.id, ds.perm.mode, ds.segsz, ds.cpid, ds.lpid, ds.nattch,
                          ds.perm.uid, ds.perm.gid, ds.perm.cuid, ds.perm.cgid, ds.atime, ds.dtime, ds.ctime,
                          PageRoundUp(ds.segsz), 0);
  }
  return out;
}

template <std::string (*F)(IpcNamespace&)>
std::string OfReader() {
  Task* reader = Task::Current();
  return reader == nullptr ? "" : F(reader->ipc());
}

}  // namespace

void AddSysvIpcFiles(const RefPtr<ProcSuperblock>& sb, kernfs::StaticDir& dir) {
  dir.Add("msg", kernfs::NewText(sb, std::function<std::string()>(OfReader<Msg>)));
  dir.Add("sem", kernfs::NewText(sb, std::function<std::string()>(OfReader<Sem>)));
  dir.Add("shm", kernfs::NewText(sb, std::function<std::string()>(OfReader<Shm>)));
}

}  // namespace sentry::proc

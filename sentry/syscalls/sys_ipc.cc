#include "sentry/syscalls/sys_ipc.h"

#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "base/time.h"
#include "sentry/kernel/ipc/ipc_namespace.h"
#include "sentry/kernel/kernel.h"

namespace sentry {

namespace {

int64_t Seconds(Task& task) { return task.kernel().time().RealtimeNow() / 1'000'000'000; }
int Pid(Task& task) { return task.thread_group().pid(); }

// The object of an identifier, if the task may use it so.
template <typename T>
Result<RefPtr<T>> Use(Task& task, IpcIds<T>& ids, int id, uint32_t mode) {
  base::MutexLock lock(ids.mu);
  RefPtr<T> object = TRY(ids.FindLocked(id));
  TRY(object->perm.Check(task.creds(), mode));
  return object;
}

// IPC_STAT, …_STAT (by place in the table) and …_STAT_ANY (the same, for anybody).
enum class StatBy { kId, kIndex, kIndexAny };
template <typename T>
Result<int> Stat(Task& task, IpcIds<T>& ids, int id, StatBy by, uint64_t buffer) {
  RefPtr<T> object;
  decltype(object->Stat()) ds;
  {
    base::MutexLock lock(ids.mu);
    object = TRY(by == StatBy::kId ? ids.FindLocked(id) : ids.FindIndexLocked(id));
    if (by != StatBy::kIndexAny) TRY(object->perm.Check(task.creds(), 0444));
    ds = object->Stat();
  }
  TRY(task.mm().Write(UserPtr<decltype(ds)>{buffer}, ds));
  return by == StatBy::kId ? 0 : object->perm.id;
}

template <typename T>
Result<RefPtr<T>> Remove(Task& task, IpcIds<T>& ids, int id) {
  base::MutexLock lock(ids.mu);
  RefPtr<T> object = TRY(ids.FindLocked(id));
  TRY(object->perm.CheckOwner(task.creds()));
  return ids.RemoveLocked(*object);
}

}  // namespace

// --- Shared memory.

Result<int> SysShmget(Task& task, int32_t key, uint64_t size, int flags) {
  constexpr int kShmHugetlb = 04000;
  constexpr uint64_t kMaxBytes = uint64_t{1} << 46;  // what a memory file can be asked for
  IpcNamespace& ns = task.ipc();
  return ns.shm.Get(
      key, flags, task.creds(),
      [&]() -> Result<RefPtr<ShmSegment>> {
        if (size == 0) return Errno(EINVAL);
        if (size > kMaxBytes) return Errno(size > UINT64_MAX - (uint64_t{1} << 24) ? EINVAL : ENOSPC);
        if (flags & kShmHugetlb) return Errno(ENOMEM);  // as on a host with no huge pages reserved
        RefPtr<SharedAnonymous> memory =
            TRY(SharedAnonymous::Create(task.kernel().memory_file(), PageRoundUp(size), /*congruent_to=*/0));
        return base::TryMakeRef<ShmSegment>(ns, key, static_cast<uint32_t>(flags), task.creds(), size,
                                            std::move(memory), Pid(task), Seconds(task));
      },
      [&](ShmSegment& there) -> Result<void> {
        if (there.bytes() < size) return Errno(EINVAL);
        return {};
      });
}

Result<uint64_t> SysShmat(Task& task, int id, uint64_t addr, int flags) {
  constexpr int kReadOnly = 010000, kRound = 020000, kRemap = 040000, kExecutable = 0100000;
  if (id < 0) return Errno(EINVAL);
  if (addr & kPageMask) {
    if (!(flags & kRound)) return Errno(EINVAL);
    addr = PageRoundDown(addr);
    if (addr == 0 && (flags & kRemap)) return Errno(EINVAL);
  } else if (addr == 0 && (flags & kRemap)) {
    return Errno(EINVAL);
  }
  MMapOptions options;
  options.prot = PROT_READ;
  uint32_t mode = 0444;
  if (flags & kReadOnly) {
    options.max_prot = PROT_READ | PROT_EXEC;
  } else {
    options.prot |= PROT_WRITE;
    mode |= 0222;
  }
  if (flags & kExecutable) {
    options.prot |= PROT_EXEC;
    mode |= 0111;
  }
  RefPtr<ShmSegment> segment = TRY(Use(task, task.ipc().shm, id, mode));
  options.addr = addr;
  options.length = segment->bytes();
  options.shared = true;
  options.fixed = addr != 0;
  options.fixed_noreplace = addr != 0 && !(flags & kRemap);
  TRY(base::ChargedMemory::Admit());
  options.mappable = segment->Attach(Pid(task), Seconds(task));
  Result<Addr> at = task.mm().MMap(options, task.mm_limits());
  if (at.failed_with(EEXIST)) return Errno(EINVAL);
  return at;
}

Result<void> SysShmdt(Task& task, uint64_t addr) {
  RefPtr<ShmSegment> segment;
  TRY(task.mm().UnmapFileAt(addr, [&](Mappable& file) {
    auto* attachment = dynamic_cast<ShmAttachment*>(&file);
    if (attachment == nullptr) return false;
    segment = RefPtr<ShmSegment>(&attachment->segment());
    return true;
  }));
  segment->NoteDetach(Pid(task), Seconds(task));
  return {};
}

Result<int> SysShmctl(Task& task, int id, int command, uint64_t buffer) {
  enum { kLock = 11, kUnlock = 12, kShmStat = 13, kShmInfo = 14, kShmStatAny = 15 };
  IpcIds<ShmSegment>& ids = task.ipc().shm;
  if (id < 0 || command < 0) return Errno(EINVAL);
  switch (command) {
    case kIpcInfo: {
      const uint64_t info[9] = {UINT64_MAX - (uint64_t{1} << 24), 1, ShmSegment::kMaxSegments, ShmSegment::kMaxSegments,
                                UINT64_MAX - (uint64_t{1} << 24)};
      TRY(task.mm().WriteArray(UserPtr<uint64_t>{buffer}, std::span<const uint64_t>(info)));
      base::MutexLock lock(ids.mu);
      return ids.max_index();
    }
    case kShmInfo: {
      uint64_t info[6] = {};
      int top;
      {
        base::MutexLock lock(ids.mu);
        info[0] = ids.size();
        for (const auto& segment : ids.ListLocked()) info[1] += PageRoundUp(segment->bytes()) / kPageSize;
        top = ids.max_index();
      }
      TRY(task.mm().WriteArray(UserPtr<uint64_t>{buffer}, std::span<const uint64_t>(info)));
      return top;
    }
    case kIpcStat:
      return Stat(task, ids, id, StatBy::kId, buffer);
    case kShmStat:
      return Stat(task, ids, id, StatBy::kIndex, buffer);
    case kShmStatAny:
      return Stat(task, ids, id, StatBy::kIndexAny, buffer);
    case kIpcSet: {
      const ShmidDs ds = TRY(task.mm().Read(UserPtr<ShmidDs>{buffer}));
      base::MutexLock lock(ids.mu);
      RefPtr<ShmSegment> segment = TRY(ids.FindLocked(id));
      TRY(segment->perm.CheckOwner(task.creds()));
      TRY(segment->perm.Set(ds.perm));
      segment->SetChangeTime(Seconds(task));
      return 0;
    }
    case kIpcRmid: {
      RefPtr<ShmSegment> segment;  // dropped after the lock
      RefPtr<ShmSegment> removed;
      base::MutexLock lock(ids.mu);
      segment = TRY(ids.FindLocked(id));
      TRY(segment->perm.CheckOwner(task.creds()));
      ids.ForgetKeyLocked(*segment);
      segment->perm.mode |= ShmSegment::kDest;
      if (segment->unused()) {
        removed = ids.RemoveLocked(*segment);
        segment->NamespaceGone();
      }
      return 0;
    }
    case kLock:
    case kUnlock: {
      RefPtr<ShmSegment> segment;
      base::MutexLock lock(ids.mu);
      segment = TRY(ids.FindLocked(id));
      if (!task.Capable(CAP_IPC_LOCK)) {
        const Credentials& creds = task.creds();
        if (creds.euid != segment->perm.uid && creds.euid != segment->perm.cuid) return Errno(EPERM);
        if (command == kLock && task.thread_group().Limit(RLIMIT_MEMLOCK) == 0) return Errno(EPERM);
      }
      if (command == kLock) {
        segment->perm.mode |= ShmSegment::kLocked;
      } else {
        segment->perm.mode &= ~ShmSegment::kLocked;
      }
      return 0;
    }
    default:
      return Errno(EINVAL);
  }
}

// --- Semaphores.

Result<int> SysSemget(Task& task, int32_t key, int count, int flags) {
  if (count < 0 || count > SemSet::kMaxPerSet) return Errno(EINVAL);
  return task.ipc().sem.Get(
      key, flags, task.creds(),
      [&]() -> Result<RefPtr<SemSet>> {
        if (count == 0) return Errno(EINVAL);
        return SemSet::Create(key, static_cast<uint32_t>(flags), task.creds(), count, Seconds(task));
      },
      [&](SemSet& there) -> Result<void> {
        if (static_cast<size_t>(count) > there.count()) return Errno(EINVAL);
        return {};
      });
}

namespace {

Result<void> Operate(Task& task, int id, uint64_t ops, uint32_t count, base::MonotonicNs deadline) {
  if (count < 1 || id < 0) return Errno(EINVAL);
  if (count > static_cast<uint32_t>(SemSet::kMaxOps)) return Errno(E2BIG);
  const std::vector<SemBuf> list = TRY(task.mm().ReadArray(UserPtr<SemBuf>{ops}, count));
  bool changes = false;
  for (const SemBuf& op : list) changes |= op.op != 0;
  RefPtr<SemSet> set;
  {
    base::MutexLock lock(task.ipc().sem.mu);
    set = TRY(task.ipc().sem.FindLocked(id));
    for (const SemBuf& op : list) {
      if (op.number >= set->count()) return Errno(EFBIG);
    }
    TRY(set->perm.Check(task.creds(), changes ? 0222 : 0444));
  }
  return set->Operate(task, list, deadline);
}

}  // namespace

Result<void> SysSemop(Task& task, int id, uint64_t ops, uint32_t count) {
  return Operate(task, id, ops, count, base::kNever);
}

Result<void> SysSemtimedop(Task& task, int id, uint64_t ops, uint32_t count, UserPtr<abi::Timespec> timeout) {
  if (!timeout) return Operate(task, id, ops, count, base::kNever);
  const abi::Timespec t = TRY(task.mm().Read(timeout));
  if (t.tv_sec < 0 || t.tv_nsec < 0 || t.tv_nsec >= 1'000'000'000) return Errno(EINVAL);
  constexpr int64_t kMaxSeconds = 1'000'000'000;  // some thirty years
  const int64_t ns = std::min<int64_t>(t.tv_sec, kMaxSeconds) * 1'000'000'000 + t.tv_nsec;
  return Operate(task, id, ops, count, base::MonotonicNow() + ns);
}

Result<int> SysSemctl(Task& task, int id, int number, int command, uint64_t argument) {
  enum {
    kGetPid = 11,
    kGetVal,
    kGetAll,
    kGetNcnt,
    kGetZcnt,
    kSetVal,
    kSetAll,
    kSemStat,
    kSemInfo,
    kSemStatAny,
  };
  IpcIds<SemSet>& ids = task.ipc().sem;
  if (id < 0) return Errno(EINVAL);
  switch (command) {
    case kIpcInfo:
    case kSemInfo: {
      int top;
      int32_t used, semaphores = 0;
      {
        base::MutexLock lock(ids.mu);
        top = ids.max_index();
        used = static_cast<int32_t>(ids.size());
        for (const auto& set : ids.ListLocked()) semaphores += static_cast<int32_t>(set->count());
      }
      // struct seminfo: map, mni, mns, mnu, msl, opm, ume, usz, vmx, aem. What is dynamic stands in two of them.
      int32_t info[10] = {1024000000,      SemSet::kMaxSets, 1024000000, 1024000000,        SemSet::kMaxPerSet,
                          SemSet::kMaxOps, SemSet::kMaxOps,  20,         SemSet::kMaxValue, SemSet::kMaxValue};
      if (command == kSemInfo) {
        info[7] = used;
        info[9] = semaphores;
      }
      TRY(task.mm().WriteArray(UserPtr<int32_t>{argument}, std::span<const int32_t>(info)));
      return top;
    }
    case kIpcStat:
      return Stat(task, ids, id, StatBy::kId, argument);
    case kSemStat:
      return Stat(task, ids, id, StatBy::kIndex, argument);
    case kSemStatAny:
      return Stat(task, ids, id, StatBy::kIndexAny, argument);
    case kGetVal:
      return TRY(Use(task, ids, id, 0444))->Value(static_cast<uint32_t>(number));
    case kGetPid:
      return TRY(Use(task, ids, id, 0444))->LastPid(static_cast<uint32_t>(number));
    case kGetNcnt:
    case kGetZcnt:
      return TRY(Use(task, ids, id, 0444))->Waiters(static_cast<uint32_t>(number), command == kGetZcnt);
    case kGetAll: {
      const std::vector<uint16_t> values = TRY(Use(task, ids, id, 0444))->Values();
      TRY(task.mm().WriteArray(UserPtr<uint16_t>{argument}, std::span<const uint16_t>(values)));
      return 0;
    }
    case kSetVal: {
      const int value = static_cast<int32_t>(argument);
      if (value < 0 || value > SemSet::kMaxValue) return Errno(ERANGE);
      RefPtr<SemSet> set;
      {
        base::MutexLock lock(ids.mu);
        set = TRY(ids.FindLocked(id));
        if (static_cast<uint32_t>(number) >= set->count()) return Errno(EINVAL);
        TRY(set->perm.Check(task.creds(), 0222));
      }
      TRY(set->SetValue(static_cast<uint32_t>(number), value, Pid(task), Seconds(task)));
      return 0;
    }
    case kSetAll: {
      RefPtr<SemSet> set = TRY(Use(task, ids, id, 0222));
      const std::vector<uint16_t> values = TRY(task.mm().ReadArray(UserPtr<uint16_t>{argument}, set->count()));
      TRY(set->SetValues(values, Pid(task), Seconds(task)));
      return 0;
    }
    case kIpcSet: {
      const SemidDs ds = TRY(task.mm().Read(UserPtr<SemidDs>{argument}));
      base::MutexLock lock(ids.mu);
      RefPtr<SemSet> set = TRY(ids.FindLocked(id));
      TRY(set->perm.CheckOwner(task.creds()));
      TRY(set->perm.Set(ds.perm));
      set->SetChangeTime(Seconds(task));
      return 0;
    }
    case kIpcRmid:
      TRY(Remove(task, ids, id))->Removed();
      return 0;
    default:
      return Errno(EINVAL);
  }
}

// --- Message queues.

Result<int> SysMsgget(Task& task, int32_t key, int flags) {
  return task.ipc().msg.Get(
      key, flags, task.creds(),
      [&]() -> Result<RefPtr<MsgQueue>> {
        return base::TryMakeRef<MsgQueue>(key, static_cast<uint32_t>(flags), task.creds(), Seconds(task));
      },
      [](MsgQueue&) -> Result<void> { return {}; });
}

Result<void> SysMsgsnd(Task& task, int id, uint64_t message, uint64_t size, int flags) {
  Message m;
  m.type = TRY(task.mm().Read(UserPtr<int64_t>{message}));
  if (size > MsgQueue::kMaxMessage || static_cast<int64_t>(size) < 0 || id < 0) return Errno(EINVAL);
  if (m.type < 1) return Errno(EINVAL);
  m.data.resize(size);
  if (size != 0 && TRY(task.mm().CopyIn(m.data, message + sizeof(int64_t))) != size) return Errno(EFAULT);
  RefPtr<MsgQueue> queue = TRY(Use(task, task.ipc().msg, id, 0222));
  if (size > queue->max_bytes()) return Errno(EINVAL);
  return queue->Send(task, std::move(m), (flags & kIpcNoWait) != 0);
}

Result<uint64_t> SysMsgrcv(Task& task, int id, uint64_t message, uint64_t size, int64_t type, int flags) {
  if (id < 0 || static_cast<int64_t>(size) < 0) return Errno(EINVAL);
  if ((flags & MsgQueue::kCopy) && ((flags & MsgQueue::kExcept) || !(flags & kIpcNoWait))) return Errno(EINVAL);
  RefPtr<MsgQueue> queue = TRY(Use(task, task.ipc().msg, id, 0444));
  Message m = TRY(queue->Receive(task, type, size, flags));
  TRY(task.mm().Write(UserPtr<int64_t>{message}, m.type));
  if (!m.data.empty() && TRY(task.mm().CopyOut(message + sizeof(int64_t), m.data)) != m.data.size()) {
    return Errno(EFAULT);  // the message is lost, as on Linux
  }
  return m.data.size();
}

Result<int> SysMsgctl(Task& task, int id, int command, uint64_t buffer) {
  enum { kMsgStat = 11, kMsgInfo = 12, kMsgStatAny = 13 };
  IpcIds<MsgQueue>& ids = task.ipc().msg;
  if (id < 0 || command < 0) return Errno(EINVAL);
  switch (command) {
    case kIpcInfo:
    case kMsgInfo: {
      struct Info {  // struct msginfo
        int32_t pool, map, max, mnb, mni, ssz, tql;
        uint16_t seg, pad;
      } info = {512000, 16384, MsgQueue::kMaxMessage, MsgQueue::kDefaultBytes, MsgQueue::kMaxQueues, 16, 16384,
                0xffff, 0};
      int top;
      {
        base::MutexLock lock(ids.mu);
        top = ids.max_index();
        if (command == kMsgInfo) {
          info.pool = static_cast<int32_t>(ids.size());
          info.map = info.tql = 0;
          for (const auto& queue : ids.ListLocked()) {
            const MsqidDs ds = queue->Stat();
            info.map += static_cast<int32_t>(ds.qnum);
            info.tql += static_cast<int32_t>(ds.cbytes);
          }
        }
      }
      TRY(task.mm().Write(UserPtr<Info>{buffer}, info));
      return top;
    }
    case kIpcStat:
      return Stat(task, ids, id, StatBy::kId, buffer);
    case kMsgStat:
      return Stat(task, ids, id, StatBy::kIndex, buffer);
    case kMsgStatAny:
      return Stat(task, ids, id, StatBy::kIndexAny, buffer);
    case kIpcSet: {
      const MsqidDs ds = TRY(task.mm().Read(UserPtr<MsqidDs>{buffer}));
      RefPtr<MsgQueue> queue;
      {
        base::MutexLock lock(ids.mu);
        queue = TRY(ids.FindLocked(id));
        TRY(queue->perm.CheckOwner(task.creds()));
        if (ds.qbytes > MsgQueue::kDefaultBytes && !task.Capable(CAP_SYS_RESOURCE)) return Errno(EPERM);
        TRY(queue->perm.Set(ds.perm));
      }
      queue->Set(ds.qbytes, Seconds(task));
      return 0;
    }
    case kIpcRmid:
      TRY(Remove(task, ids, id))->Removed();
      return 0;
    default:
      return Errno(EINVAL);
  }
}

}  // namespace sentry

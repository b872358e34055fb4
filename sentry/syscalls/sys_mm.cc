#include "sentry/syscalls/sys_mm.h"

#include <fcntl.h>
#include <linux/membarrier.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/ptrace_access.h"

namespace sentry {

Result<Addr> SysMmap(Task& task, uint64_t addr, uint64_t length, int prot, uint32_t flags, FdArg fd, uint64_t offset) {
  if (offset & kPageMask) return Errno(EINVAL);
  MMapOptions options;
  options.addr = addr;
  options.caller = task.registers().rip;
  options.length = length;
  options.prot = static_cast<uint8_t>(prot & 7);
  options.offset = offset;
  options.fixed_noreplace = flags & MAP_FIXED_NOREPLACE;
  options.fixed = (flags & MAP_FIXED) || options.fixed_noreplace;
  options.grows_down = flags & MAP_GROWSDOWN;
  options.populate = flags & MAP_POPULATE;
  options.locked = flags & MAP_LOCKED;
  options.noreserve = flags & MAP_NORESERVE;
  options.stack = flags & MAP_STACK;
  options.map_32bit = flags & MAP_32BIT;
  switch (flags & MAP_TYPE) {
    case MAP_PRIVATE:
      break;
    case MAP_SHARED:
      options.shared = true;
      break;
    case MAP_SHARED_VALIDATE: {
      constexpr uint32_t kKnown = MAP_TYPE | MAP_FIXED | MAP_ANONYMOUS | MAP_32BIT | MAP_GROWSDOWN | MAP_DENYWRITE |
                                  MAP_EXECUTABLE | MAP_LOCKED | MAP_NORESERVE | MAP_POPULATE | MAP_NONBLOCK |
                                  MAP_STACK | MAP_HUGETLB | MAP_FIXED_NOREPLACE;
      if (flags & ~kKnown) return Errno(EOPNOTSUPP);
      options.shared = true;
      break;
    }
    default:
      return Errno(EINVAL);
  }
  if (flags & MAP_HUGETLB) return Errno(ENOMEM);  // as on a host with no huge pages reserved
  if (!(flags & MAP_ANONYMOUS)) {
    RefPtr<FileDescription> file = TRY(task.GetFile(static_cast<Fd>(fd)));
    if (length == 0) return Errno(EINVAL);
    // man 2 mmap, EACCES: a descriptor that cannot be read, a shared writable mapping of one not open for both, or an
    // append-only file.
    if (!file->readable()) return Errno(EACCES);
    if (options.shared) {
      if ((prot & PROT_WRITE) && (!file->writable() || (file->flags() & O_APPEND))) return Errno(EACCES);
      if (!file->writable() || !file->MayBeMappedForWriting()) options.max_prot &= static_cast<uint8_t>(~PROT_WRITE);
    }
    if (file->path().mount && (file->path().mount->flags() & 8 /* MS_NOEXEC */)) {
      if (prot & PROT_EXEC) return Errno(EPERM);
      options.max_prot &= static_cast<uint8_t>(~PROT_EXEC);
    }
    if (length == 0) return Errno(EINVAL);
    options.mappable = TRY(file->GetMappable(options.prot, options.shared));
  } else if (options.shared) {
    options.offset = 0;
  }
  return task.mm().MMap(options, task.mm_limits());
}

Result<void> SysMunmap(Task& task, uint64_t addr, uint64_t length) { return task.mm().Munmap(addr, length); }

Result<void> SysMprotect(Task& task, uint64_t addr, uint64_t length, uint64_t prot) {
  const bool down = prot & PROT_GROWSDOWN;
  const bool up = prot & PROT_GROWSUP;
  if (down && up) return Errno(EINVAL);
  prot &= ~uint64_t{PROT_GROWSDOWN | PROT_GROWSUP};
  if (prot & ~uint64_t{PROT_READ | PROT_WRITE | PROT_EXEC | 0x8 /* PROT_SEM */}) return Errno(EINVAL);
  return task.mm().Mprotect(addr, length, static_cast<uint8_t>(prot & 7), down, up);
}

Result<void> SysPkeyMprotect(Task& task, uint64_t addr, uint64_t length, uint64_t prot, int pkey) {
  if (pkey != -1) return Errno(EINVAL);
  return SysMprotect(task, addr, length, prot);
}

Result<Addr> SysMremap(Task& task, uint64_t old_addr, uint64_t old_length, uint64_t new_length, uint64_t flags,
                       uint64_t new_addr) {
  if (flags & ~uint64_t{MREMAP_MAYMOVE | MREMAP_FIXED | 4 /* MREMAP_DONTUNMAP */}) return Errno(EINVAL);
  return task.mm().Mremap(old_addr, old_length, new_length, static_cast<uint32_t>(flags), new_addr, task.mm_limits());
}

Result<Addr> SysBrk(Task& task, uint64_t addr) { return task.mm().Brk(addr, task.mm_limits()); }
Result<void> SysMadvise(Task& task, uint64_t addr, uint64_t length, int advice) {
  return task.mm().Madvise(addr, length, advice);
}
Result<void> SysMsync(Task& task, uint64_t addr, uint64_t length, int flags) {
  return task.mm().Msync(addr, length, flags);
}

Result<void> SysMincore(Task& task, uint64_t addr, uint64_t length, UserPtr<uint8_t> vec) {
  if (addr & kPageMask) return Errno(EINVAL);
  if (length > (uint64_t{1} << 47)) return Errno(ENOMEM);
  // In pieces, so that a guest cannot make the sentry hold a vector of its whole address space.
  constexpr uint64_t kPiece = 64 << 20;
  for (uint64_t done = 0; done < length;) {
    const uint64_t n = std::min(kPiece, length - done);
    std::vector<uint8_t> pages = TRY(task.mm().Mincore(addr + done, n));
    TRY(task.mm().WriteArray(vec + done / kPageSize, std::span<const uint8_t>(pages)));
    done += n;
  }
  return {};
}

Result<void> SysMlock(Task& task, uint64_t addr, uint64_t length) {
  return task.mm().Mlock(addr, length, 0, task.Capable(CAP_IPC_LOCK), task.mm_limits());
}

Result<void> SysMlock2(Task& task, uint64_t addr, uint64_t length, int flags) {
  if (flags & ~1 /* MLOCK_ONFAULT */) return Errno(EINVAL);
  return task.mm().Mlock(addr, length, flags, task.Capable(CAP_IPC_LOCK), task.mm_limits());
}

Result<void> SysMunlock(Task& task, uint64_t addr, uint64_t length) { return task.mm().Munlock(addr, length); }

Result<void> SysMlockall(Task& task, int flags) {
  if (flags == 0 || (flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)) || flags == MCL_ONFAULT) return Errno(EINVAL);
  return task.mm().MlockAll(flags, task.Capable(CAP_IPC_LOCK), task.mm_limits());
}

Result<void> SysMunlockall(Task& task) { return task.mm().MunlockAll(); }

namespace {

Result<std::vector<abi::Iovec>> ReadIovecs(Task& task, UserPtr<abi::Iovec> p, uint64_t count) {
  if (count > 1024) return Errno(EINVAL);
  std::vector<abi::Iovec> v = TRY(task.mm().ReadArray(p, count));
  for (const abi::Iovec& i : v) {
    if (static_cast<int64_t>(i.iov_len) < 0) return Errno(EINVAL);
  }
  return v;
}

Result<size_t> Transfer(Task& task, int pid, UserPtr<abi::Iovec> local, uint64_t local_count,
                        UserPtr<abi::Iovec> remote, uint64_t remote_count, uint64_t flags, bool write) {
  if (flags != 0) return Errno(EINVAL);
  std::vector<abi::Iovec> here = TRY(ReadIovecs(task, local, local_count));
  std::vector<abi::Iovec> there = TRY(ReadIovecs(task, remote, remote_count));
  RefPtr<Task> target = task.kernel().FindTask(pid, task.pid_namespace());
  if (!target) return Errno(ESRCH);
  RefPtr<MemoryManager> mm = target->SnapshotMm();
  if (!mm) return Errno(ESRCH);
  TRY(CheckPtraceAccess(task, *target));  // man 2 process_vm_readv: PTRACE_MODE_ATTACH_REALCREDS
  size_t total = 0, i = 0, j = 0, at_i = 0, at_j = 0;
  std::vector<std::byte> bounce(64 << 10);
  while (i < here.size() && j < there.size()) {
    if (at_i == here[i].iov_len) {
      ++i, at_i = 0;
      continue;
    }
    if (at_j == there[j].iov_len) {
      ++j, at_j = 0;
      continue;
    }
    const size_t n = std::min({here[i].iov_len - at_i, there[j].iov_len - at_j, bounce.size()});
    std::span<std::byte> piece = std::span(bounce).first(n);
    const Addr mine = here[i].iov_base + at_i, theirs = there[j].iov_base + at_j;
    Result<size_t> in = write ? task.mm().CopyIn(piece, mine) : mm->CopyIn(piece, theirs);
    if (!in.ok()) return total != 0 ? Result<size_t>(total) : in;
    Result<size_t> out = write ? mm->CopyOut(theirs, piece.first(*in)) : task.mm().CopyOut(mine, piece.first(*in));
    if (!out.ok()) return total != 0 ? Result<size_t>(total) : out;
    total += *out;
    if (*out != n) return total;
    at_i += n;
    at_j += n;
  }
  return total;
}

}  // namespace

Result<size_t> SysProcessVmReadv(Task& task, int pid, UserPtr<abi::Iovec> local, uint64_t local_count,
                                 UserPtr<abi::Iovec> remote, uint64_t remote_count, uint64_t flags) {
  return Transfer(task, pid, local, local_count, remote, remote_count, flags, /*write=*/false);
}

Result<size_t> SysProcessVmWritev(Task& task, int pid, UserPtr<abi::Iovec> local, uint64_t local_count,
                                  UserPtr<abi::Iovec> remote, uint64_t remote_count, uint64_t flags) {
  return Transfer(task, pid, local, local_count, remote, remote_count, flags, /*write=*/true);
}

Result<int> SysMembarrier(Task& task, int command, uint32_t flags, int cpu) {
  constexpr int kOffered = MEMBARRIER_CMD_GLOBAL | MEMBARRIER_CMD_GLOBAL_EXPEDITED |
                           MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED | MEMBARRIER_CMD_PRIVATE_EXPEDITED |
                           MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED;
  if (flags != 0) return Errno(EINVAL);
  switch (command) {
    case MEMBARRIER_CMD_QUERY:
      return kOffered;
    case MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED:
    case MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED:
      task.mm().membarrier_state.fetch_or(static_cast<uint32_t>(command));
      return 0;
    case MEMBARRIER_CMD_PRIVATE_EXPEDITED:
      if (!(task.mm().membarrier_state.load() & MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)) return Errno(EPERM);
      break;
    case MEMBARRIER_CMD_GLOBAL:
    case MEMBARRIER_CMD_GLOBAL_EXPEDITED:
      break;
    default:
      return Errno(EINVAL);
  }
  // The host's barrier over all of its CPUs covers the guest's threads, wherever they run.
  Result<long> done = base::Host(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
  if (!done.ok()) std::atomic_thread_fence(std::memory_order_seq_cst);
  return 0;
}

namespace {
Result<void> CheckPolicy(uint64_t mode) {
  if ((mode & 0xff) > 6) return Errno(EINVAL);
  return {};
}
}  // namespace

Result<void> SysSetMempolicy(Task& task, int mode, UserPtr<uint64_t> nodes, uint64_t max_node) {
  return CheckPolicy(static_cast<uint64_t>(mode));
}

Result<void> SysGetMempolicy(Task& task, UserPtr<int32_t> mode, UserPtr<uint64_t> nodes, uint64_t max_node,
                             uint64_t addr, uint64_t flags) {
  if (flags & ~uint64_t{MPOL_F_NODE | MPOL_F_ADDR | MPOL_F_MEMS_ALLOWED}) return Errno(EINVAL);
  if (mode) TRY(task.mm().Write(mode, 0));
  if (nodes) TRY(task.mm().Write(nodes, (flags & MPOL_F_MEMS_ALLOWED) ? 1 : 0));
  return {};
}

Result<void> SysMbind(Task& task, uint64_t addr, uint64_t length, uint64_t mode, UserPtr<uint64_t> nodes,
                      uint64_t max_node, uint32_t flags) {
  if (addr & kPageMask) return Errno(EINVAL);
  return CheckPolicy(mode);
}

}  // namespace sentry

#include "sentry/syscalls/sys_memfd.h"

#include <sys/mman.h>

#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/kernel/kernel.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#define MFD_EXEC 0x10U
#endif

namespace sentry {

Result<Fd> SysMemfdCreate(Task& task, UserPtr<char> name, uint32_t flags) {
  constexpr uint32_t kHugeShifts = 0x3fu << 26;  // MFD_HUGE_MASK << MFD_HUGE_SHIFT
  constexpr size_t kMaxName = 250;               // MFD_NAME_MAX_LEN + 1
  uint32_t known = MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB | MFD_NOEXEC_SEAL | MFD_EXEC;
  if ((flags & MFD_HUGETLB) != 0) known |= kHugeShifts;
  if ((flags & ~known) != 0) return Errno(EINVAL);
  if ((flags & MFD_EXEC) != 0 && (flags & MFD_NOEXEC_SEAL) != 0) return Errno(EINVAL);
  std::string text = TRY(task.mm().ReadString(name.addr, kMaxName, EINVAL));
  if ((flags & MFD_HUGETLB) != 0) return Errno(ENOSYS);  // as without hugetlbfs
  VfsContext ctx = task.MakeVfsContext();
  auto file = TRY(tmpfs::NewMemfd(task.kernel().memory_file(), ctx, text, flags));
  return task.InstallFile(std::move(file), (flags & MFD_CLOEXEC) != 0);
}

Result<int64_t> AddSeals(FileDescription& file, uint32_t seals) {
  if (!file.writable()) return Errno(EPERM);
  TRY(tmpfs::AddSeals(file, seals));
  return 0;
}

Result<int64_t> GetSeals(FileDescription& file) { return TRY(tmpfs::GetSeals(file)); }

}  // namespace sentry

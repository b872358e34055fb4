#include "sentry/syscalls/sys_system.h"

#include <sys/random.h>

#include <algorithm>
#include <cstring>

#include "base/time.h"
#include "sentry/kernel/kernel.h"

namespace sentry {

namespace {

Result<void> SetName(Task& task, uint64_t name, int length, bool host) {
  if (!task.Capable(CAP_SYS_ADMIN)) return Errno(EPERM);
  if (length < 0 || length > 64) return Errno(EINVAL);
  std::string text(static_cast<size_t>(length), '\0');
  size_t n = TRY(task.mm().CopyIn(std::as_writable_bytes(std::span(text)), name));
  if (n != text.size()) return Errno(EFAULT);
  {
    base::MutexLock l(task.uts().mu);
    (host ? task.uts().hostname : task.uts().domainname) = text.c_str();
  }
  task.kernel().ChangeAnswers();
  return {};
}

}  // namespace

Result<void> SysUname(Task& task, UserPtr<Utsname> out) { return task.mm().Write(out, task.uts().Describe()); }

Result<void> SysSethostname(Task& task, uint64_t name, int length) { return SetName(task, name, length, true); }
Result<void> SysSetdomainname(Task& task, uint64_t name, int length) { return SetName(task, name, length, false); }

Result<void> SysSysinfo(Task& task, UserPtr<Sysinfo> out) {
  Sysinfo info{};
  info.uptime = base::HostClockNs(CLOCK_BOOTTIME) / 1'000'000'000;
  const uint64_t total = task.kernel().options().total_memory;
  const uint64_t used = task.kernel().memory_file().usage() + base::ChargedMemory::used();
  info.totalram = total;
  info.freeram = total > used ? total - used : 0;
  info.mem_unit = 1;
  const LoadAverage::Values loads = task.kernel().SampleLoad();
  for (size_t i = 0; i < loads.size(); ++i) info.loads[i] = loads[i];
  {
    base::MutexLock tree(task.kernel().tasks().mu);
    info.procs = static_cast<uint16_t>(std::min(task.kernel().tasks().live_tasks, 65535));
  }
  return task.mm().Write(out, info);
}

Result<size_t> SysGetrandom(Task& task, uint64_t buffer, uint64_t length, uint32_t flags) {
  if (flags & ~uint32_t{GRND_NONBLOCK | GRND_RANDOM | GRND_INSECURE}) return Errno(EINVAL);
  if ((flags & GRND_RANDOM) && (flags & GRND_INSECURE)) return Errno(EINVAL);
  length = std::min<uint64_t>(length, 0x1ffffff);  // man 2 getrandom: 32 MiB − 1 at most
  std::byte chunk[4096];
  size_t done = 0;
  while (done < length) {
    const size_t n = std::min(sizeof(chunk), length - done);
    task.kernel().GetRandom(std::span(chunk, n));
    Result<size_t> copied = task.mm().CopyOut(buffer + done, std::span<const std::byte>(chunk, n));
    if (!copied.ok()) return done != 0 ? Result<size_t>(done) : copied;
    done += *copied;
    if (*copied != n || task.SignalPending()) break;
  }
  return done;
}

Result<int64_t> SysSyslog(Task& task, int type, uint64_t buffer, int length) {
  if (type < 0 || type > 10) return Errno(EINVAL);
  if (type == 2 || type == 3 || type == 4) {
    if (buffer == 0 || length < 0) return Errno(EINVAL);
  }
  return 0;
}

Result<void> SysVhangup(Task& task) { return task.Capable(CAP_SYS_TTY_CONFIG) ? Result<void>() : Errno(EPERM); }

}  // namespace sentry

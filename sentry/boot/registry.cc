#include "sentry/boot/registry.h"

#include "sentry/fs/anon/pidfd.h"
#include "sentry/fs/dev/dev.h"
#include "sentry/fs/devpts/devpts.h"
#include "sentry/fs/pipe/pipe_file.h"
#include "sentry/fs/proc/proc.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/fs/tty/terminal.h"
#include "sentry/vfs/vfs.h"

namespace sentry::boot {

absl::Status RegisterAll(Kernel& kernel, const BootSpec& spec) {
  vfs::SetFileClock([&kernel] { return kernel.time().RealtimeNow(); });
  tmpfs::Register(kernel.memory_file(), kernel.options().total_memory);
  dev::RegisterMemDevices(kernel.memory_file());
  dev::RegisterDevtmpfs(kernel.memory_file());
  vfs::RegisterFifo(&OpenFifo);
  proc::Register(kernel);
  devpts::Register(kernel);
  RegisterTtyDevice();
  kernel.SetPidfdFactory(&NewPidFd);
  return absl::OkStatus();
}

RefPtr<base::RefCounted> NewNetworkNamespace(Kernel& kernel, const BootSpec& spec) { return nullptr; }

}  // namespace sentry::boot

// What a process from outside needs around its start: descriptors, terminal, HOME.
#ifndef SENTRY_BOOT_PROCESS_IO_H_
#define SENTRY_BOOT_PROCESS_IO_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/unique_fd.h"
#include "sentry/control/process_spec.h"
#include "sentry/kernel/kernel.h"

namespace sentry::boot {

// A description for a host descriptor. With spec.terminal the first one makes `*tty`, and the others are further
// openings of it. The terminal is named in the guest's /dev/pts, if `ctx` has one.
Result<RefPtr<FileDescription>> NewStdio(Kernel& kernel, VfsContext& ctx, base::UniqueFd fd,
                                         const control::ProcessSpec& spec, RefPtr<Tty>* tty);
// Mounts init's terminal on /dev/console, as runc does; nothing if there is no such node.
void BindConsole(VfsContext& ctx, const VfsPath& terminal);
absl::Status SetTerminalSize(Kernel& kernel, Tty& tty, uint16_t rows, uint16_t columns);
// HOME of `uid` by the guest's /etc/passwd, unless `env` has one. "/" for an unknown user.
void AddHome(VfsContext& ctx, uint32_t uid, std::vector<std::string>* env);

}  // namespace sentry::boot

#endif  // SENTRY_BOOT_PROCESS_IO_H_

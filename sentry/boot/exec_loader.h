// The bridge from execve(2) in the kernel to the program loader: opens the files, applies the permission rules, decides
// the new credentials.
#ifndef SENTRY_BOOT_EXEC_LOADER_H_
#define SENTRY_BOOT_EXEC_LOADER_H_

#include "sentry/kernel/kernel.h"
#include "sentry/loader/vdso.h"

namespace sentry::boot {

// For Kernel::SetExecLoader. `vdso` may be null.
ExecLoader MakeExecLoader(Kernel& kernel, RefPtr<loader::Vdso> vdso);

}  // namespace sentry::boot

#endif  // SENTRY_BOOT_EXEC_LOADER_H_

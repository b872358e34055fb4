// The zygote: the process from which helpers are forked. It has no memory but the stub's pages.
#ifndef PLATFORM_SYSTRAP_ZYGOTE_H_
#define PLATFORM_SYSTRAP_ZYGOTE_H_

#include <sys/types.h>

#include "base/errno.h"
#include "base/unique_fd.h"
#include "platform/systrap/slot_file.h"
#include "platform/systrap/stub_filter.h"

namespace platform::systrap {

// Clones it from the calling process; its command pages are those of area 0. It makes itself ready on its own while the
// sandbox starts: the first batch waits for it. `text` becomes the page of code, `params` the page of constants that
// all stubs map: the zygote shares the descriptors and they stay open until it has. Host errors.
base::Result<pid_t> CloneZygote(const StubDescriptors& fds, SlotFile& slots, base::UniqueFd& text,
                                base::UniqueFd& params);

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_ZYGOTE_H_

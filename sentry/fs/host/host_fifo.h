// FIFOs of the host (--host-fifo=open).
#ifndef SENTRY_FS_HOST_HOST_FIFO_H_
#define SENTRY_FS_HOST_HOST_FIFO_H_

#include "base/reactor.h"
#include "sentry/vfs/file_description.h"
#include "sentry/vfs/path.h"

namespace sentry {

// Opens the FIFO at `path` on the host, as open(2): waits for the other end unless O_NONBLOCK says not to.
//
// The host is only ever asked without waiting, and tells nobody when a reader or a silent writer comes: that is looked
// for again and again, 20 times a second at last.
Result<RefPtr<FileDescription>> OpenHostFifo(base::Reactor& reactor, const VfsPath& path, uint32_t flags,
                                             VfsContext& ctx);

}  // namespace sentry

#endif  // SENTRY_FS_HOST_HOST_FIFO_H_

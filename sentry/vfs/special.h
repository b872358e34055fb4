// Opening FIFOs and devices through what boot registered. vfs/ only.
#ifndef SENTRY_VFS_SPECIAL_H_
#define SENTRY_VFS_SPECIAL_H_

#include "sentry/vfs/file_description.h"
#include "sentry/vfs/path.h"

namespace sentry::vfs {

// ENXIO for sockets and for devices that nobody registered.
Result<RefPtr<FileDescription>> OpenSpecial(const VfsPath& path, uint32_t flags, VfsContext& ctx);

}  // namespace sentry::vfs

#endif  // SENTRY_VFS_SPECIAL_H_

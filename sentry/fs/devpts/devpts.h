// devpts: /dev/pts, the names of pseudo terminals. (Documentation/filesystems/devpts.rst, fs/devpts/inode.c)
#ifndef SENTRY_FS_DEVPTS_DEVPTS_H_
#define SENTRY_FS_DEVPTS_DEVPTS_H_

#include "sentry/vfs/vfs.h"

namespace sentry {
class Kernel;
class Terminal;
}  // namespace sentry

namespace sentry::devpts {

// Registers the file system type "devpts" (options newinstance, ptmxmode=, mode=, uid=, gid=, max=; every mount is an
// instance of its own) and the devices 5:2 (ptmx; outside of a devpts it belongs to the first instance) and 136:*
// (slaves, by what devpts they are in). Once, by boot.
void Register(Kernel& kernel);

// Gives a terminal of the host a name in the devpts at /dev/pts, "/dev/pts/N", for as long as it lives. ENODEV if there
// is none.
Result<VfsPath> NameTerminal(VfsContext& ctx, Terminal& terminal, uint32_t uid);

}  // namespace sentry::devpts

#endif  // SENTRY_FS_DEVPTS_DEVPTS_H_

// /dev: the devices of the sandbox and the nodes that name them. (Documentation/admin-guide/devices.txt; the OCI
// runtime specification's default devices and symlinks)
#ifndef SENTRY_FS_DEV_DEV_H_
#define SENTRY_FS_DEV_DEV_H_

#include "platform/memory_file.h"
#include "sentry/vfs/vfs.h"

namespace sentry::dev {

// Opens of 1:3 null, 1:5 zero, 1:7 full, 1:8 random, 1:9 urandom. Once, by boot; `memory` outlives the sandbox.
// Terminals register theirs themselves (sentry/fs/tty).
void RegisterMemDevices(platform::MemoryFile& memory);

// Makes the nodes null zero full random urandom tty console ptmx (→ pts/ptmx), the directories pts and shm, and the
// links fd, stdin, stdout, stderr, core in an empty directory that is the root of a file system (a tmpfs mounted at
// /dev). What exists already is left alone.
Result<void> Populate(Inode& root);

// The file system type "devtmpfs": a tmpfs that has been populated.
void RegisterDevtmpfs(platform::MemoryFile& memory);

}  // namespace sentry::dev

#endif  // SENTRY_FS_DEV_DEV_H_

// The gofer file system: the files of the host that the gofer serves (DESIGN.md §7).
//
// Exclusive: nobody else changes the files. Names, missing names and attributes are cached as long as there is room,
// and an open of a file whose descriptor is cached asks nobody. Shared: the host may change anything at any time. Every
// walk asks the gofer again, with one message for the whole path; attributes are believed for a millisecond (those of
// directories that a walk starts from: for a second, when permission to search them is checked).
//
// Regular files come as donated descriptors: reads and writes are preadv and pwritev between them and guest memory,
// mappings map them. Descriptors are shared by all opens of a file and kept after the last close, up to a limit
// (HostFileCache).
//
// FIFOs and sockets that a guest makes are files on the host, and what goes through them stays in the sandbox, unless
// the gofer was told otherwise: then sockets of the host can be connected to (--host-uds=open), sockets that are bound
// here can be connected to from the host (--host-uds=create), and FIFOs are the host's (--host-fifo=open).
//
// Host calls on donated descriptors, besides those of mm: fstat, ftruncate, fallocate, lseek, fsync, fdatasync, close.
#ifndef SENTRY_FS_GOFER_GOFER_FS_H_
#define SENTRY_FS_GOFER_GOFER_FS_H_

#include "base/ref_ptr.h"
#include "gofer/client/client.h"
#include "sentry/vfs/vfs.h"

namespace sentry::goferfs {

enum class Access { kExclusive, kShared };

struct Options {
  Access access = Access::kExclusive;
};

// The tree `index` of the gofer's list. Its root may be a single file. Errors are the gofer's: EIO for a broken
// connection, EINVAL for an index that it does not have.
Result<vfs::NewMount> Create(RefPtr<gofer::Client> client, uint32_t index, const Options& options);

// Host descriptors that may stay open without being used, over all gofer file systems. Initially a quarter of
// RLIMIT_NOFILE, at most 4096.
void SetIdleDescriptorLimit(size_t limit);
size_t IdleDescriptors();

}  // namespace sentry::goferfs

#endif  // SENTRY_FS_GOFER_GOFER_FS_H_

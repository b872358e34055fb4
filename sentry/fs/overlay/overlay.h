// overlay: a writable upper file system over a lower one that is only read (Documentation/filesystems/overlayfs.rst).
//
// What is changed is copied up first; what is deleted leaves a whiteout (a character device 0:0) in the upper
// directory; a new directory where a lower one was is opaque (trusted.overlay.opaque). Works on the inodes of both
// layers: nobody else may change them, and their own dentries are not used.
//
// Like Linux with redirect_dir=off, index=off, metacopy=off:
//  * rename(2) of a directory that has a lower part fails with EXDEV, and mv, apt and git copy instead.
//  * Copying up one of several hard links of a lower file breaks the link.
//  * A file that was opened for reading shows what is written through other descriptors after a copy-up; a mapping made
//  before does not.
// st_ino and st_dev of a file stay what they were over a copy-up.
#ifndef SENTRY_FS_OVERLAY_OVERLAY_H_
#define SENTRY_FS_OVERLAY_OVERLAY_H_

#include <string>

#include "sentry/vfs/vfs.h"

namespace sentry::overlay {

struct Options {
  // An empty file system for the overlay alone, with xattrs, hard links and RENAME_WHITEOUT: a tmpfs.
  vfs::NewMount upper;
  // What is seen at first: a directory. Nobody changes it while the overlay lives.
  vfs::NewMount lower;
};

// ENOTDIR if a root is not a directory; errors of the upper file system.
Result<vfs::NewMount> Create(const Options& options);

}  // namespace sentry::overlay

#endif  // SENTRY_FS_OVERLAY_OVERLAY_H_

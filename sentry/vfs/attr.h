// Attributes of an inode, and changes to them.
#ifndef SENTRY_VFS_ATTR_H_
#define SENTRY_VFS_ATTR_H_

#include <sys/stat.h>

#include <cstdint>
#include <optional>

#include "sentry/abi/types.h"

namespace sentry {

enum class FileType : uint32_t {
  kFifo = S_IFIFO,
  kCharDevice = S_IFCHR,
  kDirectory = S_IFDIR,
  kBlockDevice = S_IFBLK,
  kRegular = S_IFREG,
  kSymlink = S_IFLNK,
  kSocket = S_IFSOCK,
  kAnonymous = 0,  // anon_inode: no type bits
};

// Nanoseconds since the epoch.
using FileTimeNs = int64_t;
abi::Timespec FileTimeToTimespec(FileTimeNs ns);

struct Attr {
  uint64_t ino = 0;
  uint64_t dev = 0;   // makedev of the superblock, as stat shows it
  uint32_t mode = 0;  // type and permission bits
  uint32_t nlink = 1;
  uint32_t uid = 0, gid = 0;
  uint64_t rdev = 0;
  int64_t size = 0;
  int64_t blocks = 0;  // of 512 bytes
  int64_t blksize = 4096;
  FileTimeNs atime = 0, mtime = 0, ctime = 0, btime = 0;

  FileType type() const { return static_cast<FileType>(mode & S_IFMT); }
  abi::Stat ToStat() const;
};

// What SetAttr changes. Permission has been checked by the vfs (kernel: setattr_prepare); a file system applies it,
// updates ctime, and clears nothing else by itself.
struct AttrChange {
  std::optional<uint32_t> mode;  // permission bits (07777)
  std::optional<uint32_t> uid, gid;
  std::optional<int64_t> size;
  std::optional<FileTimeNs> atime, mtime;  // explicit times; "now" is filled in by the vfs
};

}  // namespace sentry

#endif  // SENTRY_VFS_ATTR_H_

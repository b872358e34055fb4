// Path arguments of system calls: from a descriptor and a string in guest memory to a place in the tree. (man 7
// path_resolution)
#ifndef SENTRY_SYSCALLS_PATH_ARGS_H_
#define SENTRY_SYSCALLS_PATH_ARGS_H_

#include <fcntl.h>

#include <string>

#include "sentry/syscalls/table.h"
#include "sentry/vfs/vfs.h"

namespace sentry {

constexpr uint32_t operator|(WalkFlag a, WalkFlag b) { return static_cast<uint32_t>(a) | static_cast<uint32_t>(b); }
constexpr uint32_t operator|(uint32_t a, WalkFlag b) { return a | static_cast<uint32_t>(b); }
constexpr uint32_t WalkBits(WalkFlag flag) { return static_cast<uint32_t>(flag); }
inline constexpr uint32_t kFollowLinks = WalkBits(WalkFlag::kFollow);

// What a path system call starts from. The context lives as long as the call.
struct PathArgs {
  VfsContext ctx;
  VfsPath start;
  std::string path;
};
// ENOENT for an empty path unless `may_be_empty`; EFAULT, ENAMETOOLONG, EBADF, ENOTDIR.
Result<PathArgs> ReadPathArgs(Task& task, Fd dirfd, UserPath path, bool may_be_empty = false);

struct ResolvedPath {
  VfsContext ctx;
  VfsPath path;
};
// Reads and walks. `walk_flags` of WalkFlag; an empty path is allowed with kEmptyPath.
Result<ResolvedPath> ResolvePath(Task& task, Fd dirfd, UserPath path, uint32_t walk_flags);
// The walk flags of AT_SYMLINK_NOFOLLOW and AT_EMPTY_PATH for a call that follows by default.
uint32_t WalkFlagsOfAt(uint32_t at_flags);

// The kernel's O_LARGEFILE: glibc's is 0 on amd64, but fcntl(F_GETFL) shows the bit (include/uapi/asm-generic/fcntl.h).
inline constexpr uint32_t kOpenLargeFile = 0100000;

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_PATH_ARGS_H_

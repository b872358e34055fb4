#include "sentry/syscalls/path_args.h"

namespace sentry {

Result<PathArgs> ReadPathArgs(Task& task, Fd dirfd, UserPath path, bool may_be_empty) {
  PathArgs args;
  args.path = TRY(path.Read(task));
  if (args.path.empty() && !may_be_empty) return Errno(ENOENT);
  args.ctx = task.MakeVfsContext();
  args.start = TRY(task.PathStart(dirfd, args.path));
  return args;
}

Result<ResolvedPath> ResolvePath(Task& task, Fd dirfd, UserPath path, uint32_t walk_flags) {
  PathArgs args = TRY(ReadPathArgs(task, dirfd, path, (walk_flags & WalkBits(WalkFlag::kEmptyPath)) != 0));
  WalkResult walk = TRY(WalkPath(args.ctx, args.start, args.path, walk_flags));
  return ResolvedPath{std::move(args.ctx), std::move(walk.path)};
}

uint32_t WalkFlagsOfAt(uint32_t at_flags) {
  uint32_t walk = 0;
  if ((at_flags & AT_SYMLINK_NOFOLLOW) == 0) walk |= WalkBits(WalkFlag::kFollow);
  if ((at_flags & AT_EMPTY_PATH) != 0) walk |= WalkBits(WalkFlag::kEmptyPath);
  return walk;
}

}  // namespace sentry

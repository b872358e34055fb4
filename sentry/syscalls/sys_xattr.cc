#include "sentry/syscalls/sys_xattr.h"

#include <linux/limits.h>
#include <linux/xattr.h>

#include "sentry/syscalls/path_args.h"
#include "sentry/vfs/vfs.h"

namespace sentry {
namespace {

// strncpy_from_user into XATTR_NAME_MAX + 1: ERANGE for empty and for too long.
Result<std::string> ReadName(Task& task, UserPtr<char> name) {
  std::string text = TRY(task.mm().ReadString(name.addr, XATTR_NAME_MAX + 1, ERANGE));
  if (text.empty()) return Errno(ERANGE);
  return text;
}

// A path, followed or not, or a descriptor.
Result<ResolvedPath> At(Task& task, UserPath path, bool follow) {
  return ResolvePath(task, AT_FDCWD, path, follow ? kFollowLinks : 0);
}
Result<ResolvedPath> At(Task& task, FdArg fd) {
  auto file = TRY(task.GetFile(Fd(fd)));
  return ResolvedPath{task.MakeVfsContext(), file->path()};
}

// The name and value are read before the path is looked at (fs/xattr.c, setxattr_copy).
template <typename... Where>
Result<void> Set(Task& task, UserPtr<char> name, UserPtr<char> value, size_t size, uint32_t flags, Where... where) {
  if ((flags & ~uint32_t{XATTR_CREATE | XATTR_REPLACE}) != 0) return Errno(EINVAL);
  std::string text = TRY(ReadName(task, name));
  if (size > XATTR_SIZE_MAX) return Errno(E2BIG);
  auto bytes = TRY(task.mm().ReadArray(value, size));
  ResolvedPath at = TRY(At(task, where...));
  return vfs::SetXattr(at.ctx, at.path, text, std::string_view(bytes.data(), bytes.size()), flags);
}

// The length alone with size 0; ERANGE if the buffer is too small.
Result<size_t> CopyOutValue(Task& task, UserPtr<char> out, size_t size, std::string_view value) {
  if (size == 0) return value.size();
  if (value.size() > size) return Errno(ERANGE);
  TRY(task.mm().WriteArray(out, std::span<const char>(value)));
  return value.size();
}

template <typename... Where>
Result<size_t> Get(Task& task, UserPtr<char> name, UserPtr<char> value, size_t size, Where... where) {
  std::string text = TRY(ReadName(task, name));
  ResolvedPath at = TRY(At(task, where...));
  return CopyOutValue(task, value, size, TRY(vfs::GetXattr(at.ctx, at.path, text)));
}

template <typename... Where>
Result<size_t> List(Task& task, UserPtr<char> list, size_t size, Where... where) {
  ResolvedPath at = TRY(At(task, where...));
  std::string names;
  for (const std::string& name : TRY(vfs::ListXattr(at.ctx, at.path))) names.append(name).push_back('\0');
  if (names.size() > XATTR_LIST_MAX) return Errno(E2BIG);
  return CopyOutValue(task, list, size, names);
}

template <typename... Where>
Result<void> Remove(Task& task, UserPtr<char> name, Where... where) {
  std::string text = TRY(ReadName(task, name));
  ResolvedPath at = TRY(At(task, where...));
  return vfs::RemoveXattr(at.ctx, at.path, text);
}

}  // namespace

Result<void> SysSetxattr(Task& task, UserPath path, UserPtr<char> name, UserPtr<char> value, size_t size,
                         uint32_t flags) {
  return Set(task, name, value, size, flags, path, true);
}
Result<void> SysLsetxattr(Task& task, UserPath path, UserPtr<char> name, UserPtr<char> value, size_t size,
                          uint32_t flags) {
  return Set(task, name, value, size, flags, path, false);
}
Result<void> SysFsetxattr(Task& task, FdArg fd, UserPtr<char> name, UserPtr<char> value, size_t size, uint32_t flags) {
  return Set(task, name, value, size, flags, fd);
}
Result<size_t> SysGetxattr(Task& task, UserPath path, UserPtr<char> name, UserPtr<char> value, size_t size) {
  return Get(task, name, value, size, path, true);
}
Result<size_t> SysLgetxattr(Task& task, UserPath path, UserPtr<char> name, UserPtr<char> value, size_t size) {
  return Get(task, name, value, size, path, false);
}
Result<size_t> SysFgetxattr(Task& task, FdArg fd, UserPtr<char> name, UserPtr<char> value, size_t size) {
  return Get(task, name, value, size, fd);
}
Result<size_t> SysListxattr(Task& task, UserPath path, UserPtr<char> list, size_t size) {
  return List(task, list, size, path, true);
}
Result<size_t> SysLlistxattr(Task& task, UserPath path, UserPtr<char> list, size_t size) {
  return List(task, list, size, path, false);
}
Result<size_t> SysFlistxattr(Task& task, FdArg fd, UserPtr<char> list, size_t size) {
  return List(task, list, size, fd);
}
Result<void> SysRemovexattr(Task& task, UserPath path, UserPtr<char> name) { return Remove(task, name, path, true); }
Result<void> SysLremovexattr(Task& task, UserPath path, UserPtr<char> name) { return Remove(task, name, path, false); }
Result<void> SysFremovexattr(Task& task, FdArg fd, UserPtr<char> name) { return Remove(task, name, fd); }

}  // namespace sentry

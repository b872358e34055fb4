// Every host call that the server makes, and nothing else: gofer/server/host_calls.h lists them for the filter. Names
// are copied into NUL-terminated buffers here.
#ifndef GOFER_SERVER_HOST_UNSAFE_H_
#define GOFER_SERVER_HOST_UNSAFE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/errno.h"
#include "base/unique_fd.h"
#include "gofer/protocol/messages.h"

namespace gofer::host {

// The soft RLIMIT_NOFILE.
base::Result<uint64_t> DescriptorLimit();
base::Result<base::UniqueFd> OpenProcSelfFd();
// Gives this thread, and those it starts, a working directory of its own: /proc/self/fd, for ConnectUnix.
base::Result<void> EnterProcSelfFd(int proc_self_fd);

// Lets the calling thread run on that CPU only. EINVAL if it may not.
base::Result<void> BindToCpu(unsigned cpu);

// openat(directory, name, O_PATH | O_NOFOLLOW): the inode that has this name, a symbolic link itself included.
base::Result<base::UniqueFd> OpenPath(int directory, std::string_view name);
// Opens the inode behind `fd` through /proc/self/fd, whatever its name is now. The caller knows its type.
base::Result<base::UniqueFd> Reopen(int proc_self_fd, int fd, int flags);
// The same for reading the entries of a directory.
base::Result<base::UniqueFd> OpenDirectory(int proc_self_fd, int fd);
base::Result<base::UniqueFd> CreateFile(int directory, std::string_view name, int flags, uint32_t mode);
// A regular file without a name in the file system of the directory that `directory` is.
base::Result<base::UniqueFd> CreateNameless(int proc_self_fd, int directory, int flags, uint32_t mode);
base::Result<base::UniqueFd> Duplicate(int fd);

base::Result<Attributes> GetAttributes(int fd);
// Of the file `name` in `directory`, not following a link.
base::Result<Attributes> GetAttributesAt(int directory, std::string_view name);
base::Result<StatFsReply> GetStatFs(int fd);

// May be given O_PATH descriptors. SetMode does not work on symbolic links.
base::Result<void> SetOwner(int fd, uint32_t uid, uint32_t gid);
base::Result<void> SetMode(int proc_self_fd, int fd, uint32_t mode);
// `which` as in SetAttrRequest; times it does not name stay.
base::Result<void> SetTimes(int fd, uint32_t which, int64_t atime_ns, int64_t mtime_ns);
// Needs a descriptor open for writing.
base::Result<void> SetSize(int fd, uint64_t size);

base::Result<void> MakeDirectory(int directory, std::string_view name, uint32_t mode);
base::Result<void> MakeNode(int directory, std::string_view name, uint32_t mode, uint64_t rdev);
base::Result<void> MakeSymlink(std::string_view target, int directory, std::string_view name);
base::Result<void> MakeLink(int proc_self_fd, int fd, int directory, std::string_view name);
base::Result<void> Remove(int directory, std::string_view name, bool is_directory);
base::Result<void> Rename(int old_directory, std::string_view old_name, int new_directory, std::string_view new_name,
                          uint32_t flags);
// The target of the symbolic link that `fd` is, in `buffer`.
base::Result<std::string_view> ReadLink(int fd, std::span<char> buffer);

base::Result<void> Seek(int fd, uint64_t offset);
// Raw struct linux_dirent64 records; 0 at the end.
base::Result<size_t> GetDents(int fd, std::span<uint8_t> buffer);
base::Result<void> Sync(int fd, bool data_only);
base::Result<void> SyncFileSystem(int fd);

base::Result<size_t> GetXattr(int fd, std::string_view name, std::span<char> buffer);
base::Result<void> SetXattr(int fd, std::string_view name, std::string_view value, uint32_t flags);
base::Result<size_t> ListXattr(int fd, std::span<char> buffer);
base::Result<void> RemoveXattr(int fd, std::string_view name);

// A non-blocking socket connected to the socket file that the O_PATH descriptor `fd` is. After EnterProcSelfFd.
base::Result<base::UniqueFd> ConnectUnix(int fd, int socket_type);
// A non-blocking socket bound to the new name `name` in `directory`. EEXIST. After EnterProcSelfFd.
base::Result<base::UniqueFd> BindUnix(int directory, std::string_view name, int socket_type);

// bind(2) to an internet address; EAFNOSUPPORT for any other, and EINVAL for sockets of other families.
base::Result<void> BindPort(int socket, std::string_view address);

}  // namespace gofer::host

#endif  // GOFER_SERVER_HOST_UNSAFE_H_

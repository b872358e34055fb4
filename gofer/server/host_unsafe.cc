#include "gofer/server/host_unsafe.h"

#include <fcntl.h>
#include <linux/stat.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/vfs.h>

#include <cstdio>
#include <cstring>

#include "base/syscall_unsafe.h"

#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif

namespace gofer::host {

namespace {

// A NUL-terminated copy of a name or link target, cut off at its capacity (callers have checked the length).
template <size_t kCapacity>
class CString {
 public:
  explicit CString(std::string_view text) {
    size_t size = std::min(text.size(), kCapacity);
    memcpy(text_, text.data(), size);
    text_[size] = '\0';
  }
  const char* get() const { return text_; }

 private:
  char text_[kCapacity + 1];
};
using CName = CString<kMaxNameBytes>;

// "17": the name of a descriptor in /proc/self/fd.
class FdName {
 public:
  explicit FdName(int fd) {
    char* at = text_ + sizeof(text_) - 1;
    *at = '\0';
    unsigned value = static_cast<unsigned>(fd);
    do {
      *--at = static_cast<char>('0' + value % 10);
      value /= 10;
    } while (value != 0);
    start_ = at;
  }
  const char* get() const { return start_; }

 private:
  char text_[12];
  const char* start_;
};

base::Result<base::UniqueFd> ToFd(base::Result<long> raw) {
  return base::UniqueFd(static_cast<int>(TRY(std::move(raw))));
}

base::Result<void> ToVoid(base::Result<long> raw) {
  TRY(std::move(raw));
  return {};
}

// Saturates: a file system may hold times that do not fit.
int64_t ToNs(const statx_timestamp& t) {
  int64_t ns;
  if (__builtin_mul_overflow(t.tv_sec, int64_t{1'000'000'000}, &ns) ||
      __builtin_add_overflow(ns, int64_t{t.tv_nsec}, &ns)) {
    return t.tv_sec < 0 ? INT64_MIN : INT64_MAX;
  }
  return ns;
}

timespec ToTimespec(int64_t ns) {
  int64_t seconds = ns / 1'000'000'000;
  int64_t rest = ns % 1'000'000'000;
  if (rest < 0) {
    rest += 1'000'000'000;
    --seconds;
  }
  return {.tv_sec = seconds, .tv_nsec = rest};
}

base::Result<Attributes> StatX(int fd, const char* name, int flags) {
  struct statx st;
  TRY(base::HostRetry(SYS_statx, fd, name, flags | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
                      STATX_BASIC_STATS | STATX_BTIME, &st));
  Attributes a;
  a.ino = st.stx_ino;
  a.dev = makedev(st.stx_dev_major, st.stx_dev_minor);
  a.rdev = makedev(st.stx_rdev_major, st.stx_rdev_minor);
  a.size = std::min<uint64_t>(st.stx_size, INT64_MAX);
  a.blocks = st.stx_blocks;
  a.atime_ns = ToNs(st.stx_atime);
  a.mtime_ns = ToNs(st.stx_mtime);
  a.ctime_ns = ToNs(st.stx_ctime);
  a.btime_ns = (st.stx_mask & STATX_BTIME) != 0 ? ToNs(st.stx_btime) : 0;
  a.mode = st.stx_mode;
  a.nlink = st.stx_nlink;
  a.uid = st.stx_uid;
  a.gid = st.stx_gid;
  a.blksize = st.stx_blksize;
  // An inode of no type (some pseudo file systems) has no place in a mount.
  if (!Attributes::ValidMode(a.mode)) return base::Errno(EIO);
  return a;
}

}  // namespace

base::Result<uint64_t> DescriptorLimit() {
  rlimit limit = {};
  TRY(base::Host(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, &limit));
  return uint64_t{limit.rlim_cur};
}

base::Result<base::UniqueFd> OpenProcSelfFd() {
  return ToFd(base::HostRetry(SYS_openat, AT_FDCWD, "/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC, 0));
}

base::Result<void> EnterProcSelfFd(int proc_self_fd) {
  TRY(base::Host(SYS_unshare, CLONE_FS));
  return ToVoid(base::HostRetry(SYS_fchdir, proc_self_fd));
}

base::Result<void> BindToCpu(unsigned cpu) {
  if (cpu >= CPU_SETSIZE) return base::Errno(EINVAL);
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return ToVoid(base::Host(SYS_sched_setaffinity, 0, sizeof(set), &set));
}

base::Result<base::UniqueFd> OpenPath(int directory, std::string_view name) {
  return ToFd(base::HostRetry(SYS_openat, directory, CName(name).get(), O_PATH | O_NOFOLLOW | O_CLOEXEC, 0));
}

base::Result<base::UniqueFd> Reopen(int proc_self_fd, int fd, int flags) {
  return ToFd(base::HostRetry(SYS_openat, proc_self_fd, FdName(fd).get(), flags | O_CLOEXEC | O_NOCTTY, 0));
}

base::Result<base::UniqueFd> OpenDirectory(int proc_self_fd, int fd) {
  // The directory's own "." names nothing but itself, and costs half of what the link does.
  auto opened = base::HostRetry(SYS_openat, fd, ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY, 0);
  // Who may list a directory may not always search it.
  if (opened.failed_with(EACCES)) return Reopen(proc_self_fd, fd, O_RDONLY | O_DIRECTORY);
  return ToFd(std::move(opened));
}

base::Result<base::UniqueFd> CreateNameless(int proc_self_fd, int directory, int flags, uint32_t mode) {
  return ToFd(base::HostRetry(SYS_openat, proc_self_fd, FdName(directory).get(),
                              flags | O_TMPFILE | O_CLOEXEC | O_NOCTTY, mode));
}
base::Result<base::UniqueFd> CreateFile(int directory, std::string_view name, int flags, uint32_t mode) {
  int all_flags = flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY;
  return ToFd(base::HostRetry(SYS_openat, directory, CName(name).get(), all_flags, mode));
}

base::Result<base::UniqueFd> Duplicate(int fd) { return ToFd(base::HostRetry(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0)); }

base::Result<Attributes> GetAttributes(int fd) { return StatX(fd, "", AT_EMPTY_PATH); }

base::Result<Attributes> GetAttributesAt(int directory, std::string_view name) {
  return StatX(directory, CName(name).get(), 0);
}

base::Result<StatFsReply> GetStatFs(int fd) {
  struct statfs st = {};
  TRY(base::HostRetry(SYS_fstatfs, fd, &st));
  StatFsReply reply;
  reply.type = static_cast<uint64_t>(st.f_type);
  reply.block_size = static_cast<uint64_t>(st.f_bsize);
  reply.blocks = st.f_blocks;
  reply.blocks_free = st.f_bfree;
  reply.blocks_available = st.f_bavail;
  reply.files = st.f_files;
  reply.files_free = st.f_ffree;
  reply.fragment_size = static_cast<uint64_t>(st.f_frsize);
  reply.name_length = static_cast<uint32_t>(st.f_namelen);
  reply.flags = static_cast<uint32_t>(st.f_flags);
  return reply;
}

base::Result<void> SetOwner(int fd, uint32_t uid, uint32_t gid) {
  return ToVoid(base::HostRetry(SYS_fchownat, fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
}

base::Result<void> SetMode(int proc_self_fd, int fd, uint32_t mode) {
  return ToVoid(base::HostRetry(SYS_fchmodat, proc_self_fd, FdName(fd).get(), mode));
}

base::Result<void> SetTimes(int fd, uint32_t which, int64_t atime_ns, int64_t mtime_ns) {
  timespec times[2] = {ToTimespec(atime_ns), ToTimespec(mtime_ns)};
  if ((which & kSetAtime) == 0) times[0] = {.tv_sec = 0, .tv_nsec = UTIME_OMIT};
  if ((which & kSetMtime) == 0) times[1] = {.tv_sec = 0, .tv_nsec = UTIME_OMIT};
  if ((which & kSetAtimeNow) != 0) times[0] = {.tv_sec = 0, .tv_nsec = UTIME_NOW};
  if ((which & kSetMtimeNow) != 0) times[1] = {.tv_sec = 0, .tv_nsec = UTIME_NOW};
  return ToVoid(base::HostRetry(SYS_utimensat, fd, "", times, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
}

base::Result<void> SetSize(int fd, uint64_t size) { return ToVoid(base::HostRetry(SYS_ftruncate, fd, size)); }

base::Result<void> MakeDirectory(int directory, std::string_view name, uint32_t mode) {
  return ToVoid(base::HostRetry(SYS_mkdirat, directory, CName(name).get(), mode));
}

base::Result<void> MakeNode(int directory, std::string_view name, uint32_t mode, uint64_t rdev) {
  return ToVoid(base::HostRetry(SYS_mknodat, directory, CName(name).get(), mode, rdev));
}

base::Result<void> MakeSymlink(std::string_view target, int directory, std::string_view name) {
  return ToVoid(base::HostRetry(SYS_symlinkat, CString<kMaxLinkBytes>(target).get(), directory, CName(name).get()));
}

base::Result<void> MakeLink(int proc_self_fd, int fd, int directory, std::string_view name) {
  // Not AT_EMPTY_PATH, which wants CAP_DAC_READ_SEARCH on hosts before 6.10.
  return ToVoid(
      base::HostRetry(SYS_linkat, proc_self_fd, FdName(fd).get(), directory, CName(name).get(), AT_SYMLINK_FOLLOW));
}

base::Result<void> Remove(int directory, std::string_view name, bool is_directory) {
  return ToVoid(base::HostRetry(SYS_unlinkat, directory, CName(name).get(), is_directory ? AT_REMOVEDIR : 0));
}

base::Result<void> Rename(int old_directory, std::string_view old_name, int new_directory, std::string_view new_name,
                          uint32_t flags) {
  return ToVoid(base::HostRetry(SYS_renameat2, old_directory, CName(old_name).get(), new_directory,
                                CName(new_name).get(), flags));
}

base::Result<std::string_view> ReadLink(int fd, std::span<char> buffer) {
  long size = TRY(base::HostRetry(SYS_readlinkat, fd, "", buffer.data(), buffer.size()));
  return std::string_view(buffer.data(), static_cast<size_t>(size));
}

base::Result<void> Seek(int fd, uint64_t offset) { return ToVoid(base::HostRetry(SYS_lseek, fd, offset, SEEK_SET)); }

base::Result<size_t> GetDents(int fd, std::span<uint8_t> buffer) {
  return static_cast<size_t>(TRY(base::HostRetry(SYS_getdents64, fd, buffer.data(), buffer.size())));
}

base::Result<void> Sync(int fd, bool data_only) {
  return ToVoid(base::HostRetry(data_only ? SYS_fdatasync : SYS_fsync, fd));
}

base::Result<void> SyncFileSystem(int fd) { return ToVoid(base::HostRetry(SYS_syncfs, fd)); }

base::Result<size_t> GetXattr(int fd, std::string_view name, std::span<char> buffer) {
  return static_cast<size_t>(TRY(base::HostRetry(SYS_fgetxattr, fd, CName(name).get(), buffer.data(), buffer.size())));
}

base::Result<void> SetXattr(int fd, std::string_view name, std::string_view value, uint32_t flags) {
  return ToVoid(base::HostRetry(SYS_fsetxattr, fd, CName(name).get(), value.data(), value.size(), flags));
}

base::Result<size_t> ListXattr(int fd, std::span<char> buffer) {
  return static_cast<size_t>(TRY(base::HostRetry(SYS_flistxattr, fd, buffer.data(), buffer.size())));
}

base::Result<void> RemoveXattr(int fd, std::string_view name) {
  return ToVoid(base::HostRetry(SYS_fremovexattr, fd, CName(name).get()));
}

base::Result<base::UniqueFd> ConnectUnix(int fd, int socket_type) {
  base::UniqueFd socket = TRY(ToFd(base::Host(SYS_socket, AF_UNIX, socket_type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)));
  // A name relative to the working directory, because connect has no *at form: /proc/self/fd/17 → the socket file.
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  FdName name(fd);
  static_assert(sizeof(name) < sizeof(address.sun_path));
  memcpy(address.sun_path, name.get(), strlen(name.get()));
  TRY(base::HostRetry(SYS_connect, socket.get(), &address, sizeof(address)));
  return socket;
}

base::Result<base::UniqueFd> BindUnix(int directory, std::string_view name, int socket_type) {
  if (name.size() > kMaxBindNameBytes) return base::Errno(EINVAL);
  base::UniqueFd socket = TRY(ToFd(base::Host(SYS_socket, AF_UNIX, socket_type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)));
  // 17/name, where 17 in /proc/self/fd is the directory itself; bind never follows a link in the last component.
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  int length = snprintf(address.sun_path, sizeof(address.sun_path), "%s/%.*s", FdName(directory).get(),
                        static_cast<int>(name.size()), name.data());
  if (length < 0 || static_cast<size_t>(length) >= sizeof(address.sun_path)) return base::Errno(EINVAL);
  auto bound = base::HostRetry(SYS_bind, socket.get(), &address, sizeof(address));
  if (bound.failed_with(EADDRINUSE)) return base::Errno(EEXIST);
  TRY(ToVoid(bound));
  return socket;
}

base::Result<void> BindPort(int socket, std::string_view address) {
  sockaddr_storage copy = {};
  if (address.size() > sizeof(copy)) return base::Errno(EINVAL);
  memcpy(&copy, address.data(), address.size());
  const size_t wanted = copy.ss_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  if (copy.ss_family != AF_INET && copy.ss_family != AF_INET6) return base::Errno(EAFNOSUPPORT);
  if (address.size() != wanted) return base::Errno(EINVAL);
  // A UNIX socket would take a name of the host's, an internet socket's address it refuses.
  return ToVoid(base::HostRetry(SYS_bind, socket, &copy, static_cast<socklen_t>(wanted)));
}

}  // namespace gofer::host

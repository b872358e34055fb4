// Structures of the Linux system call interface on amd64, as guests lay them out (include/uapi). Constants come from
// the host's <linux/*.h> where a header has them; structures are ours, so that a guest's and a host's can never be
// mixed up.
#ifndef SENTRY_ABI_TYPES_H_
#define SENTRY_ABI_TYPES_H_

#include <cstdint>

namespace sentry::abi {

struct Timespec {
  int64_t tv_sec;
  int64_t tv_nsec;
};
struct Timeval {
  int64_t tv_sec;
  int64_t tv_usec;
};
struct Itimerval {
  Timeval it_interval;
  Timeval it_value;
};
struct Itimerspec {
  Timespec it_interval;
  Timespec it_value;
};
struct Stat {  // arch/x86/include/uapi/asm/stat.h
  uint64_t st_dev, st_ino, st_nlink;
  uint32_t st_mode, st_uid, st_gid, pad0;
  uint64_t st_rdev;
  int64_t st_size, st_blksize, st_blocks;
  Timespec st_atim, st_mtim, st_ctim;
  int64_t unused[3];
};
static_assert(sizeof(Stat) == 144);
struct StatxTimestamp {
  int64_t tv_sec;
  uint32_t tv_nsec;
  int32_t reserved;
};
struct Statx {  // include/uapi/linux/stat.h
  uint32_t stx_mask, stx_blksize;
  uint64_t stx_attributes;
  uint32_t stx_nlink, stx_uid, stx_gid;
  uint16_t stx_mode, spare0;
  uint64_t stx_ino, stx_size, stx_blocks, stx_attributes_mask;
  StatxTimestamp stx_atime, stx_btime, stx_ctime, stx_mtime;
  uint32_t stx_rdev_major, stx_rdev_minor, stx_dev_major, stx_dev_minor;
  uint64_t stx_mnt_id;
  uint32_t stx_dio_mem_align, stx_dio_offset_align;
  uint64_t spare3[12];
};
static_assert(sizeof(Statx) == 256);
struct Statfs {
  int64_t f_type, f_bsize;
  uint64_t f_blocks, f_bfree, f_bavail, f_files, f_ffree;
  int32_t f_fsid[2];
  int64_t f_namelen, f_frsize, f_flags, f_spare[4];
};
static_assert(sizeof(Statfs) == 120);
struct Iovec {
  uint64_t iov_base, iov_len;
};
struct Rlimit {
  uint64_t rlim_cur, rlim_max;
};
struct Rusage {
  Timeval ru_utime, ru_stime;
  int64_t ru_maxrss, ru_ixrss, ru_idrss, ru_isrss, ru_minflt, ru_majflt, ru_nswap, ru_inblock, ru_oublock, ru_msgsnd,
      ru_msgrcv, ru_nsignals, ru_nvcsw, ru_nivcsw;
};
struct Pollfd {
  int32_t fd;
  int16_t events, revents;
};
struct EpollEvent {
  uint32_t events;
  uint64_t data;
} __attribute__((packed));
struct KSigaction {  // the kernel's, with sa_restorer
  uint64_t handler;
  uint64_t flags;
  uint64_t restorer;
  uint64_t mask;
};
struct StackT {
  uint64_t ss_sp;
  int32_t ss_flags;
  int32_t pad;
  uint64_t ss_size;
};
struct Siginfo {  // 128 bytes; the union's parts by offset (include/uapi/asm-generic/siginfo.h)
  int32_t si_signo, si_errno, si_code, pad0;
  union {
    struct {
      int32_t pid;
      uint32_t uid;
      uint64_t value;
    } rt;  // kill, rt
    struct {
      int32_t tid, overrun;
      uint64_t value;
      int32_t sys_private;
    } timer;
    struct {
      int32_t pid;
      uint32_t uid;
      int32_t status, pad;
      int64_t utime, stime;
    } chld;
    struct {
      uint64_t addr;
      int16_t addr_lsb, pad[3];
      uint64_t lower, upper;
    } fault;
    struct {
      int64_t band;
      int32_t fd;
    } poll;
    struct {
      uint64_t call_addr;
      int32_t syscall;
      uint32_t arch;
    } sys;
    uint8_t raw[112];
  };
};
static_assert(sizeof(Siginfo) == 128);
struct CloneArgs {
  uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

}  // namespace sentry::abi

#endif  // SENTRY_ABI_TYPES_H_

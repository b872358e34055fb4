// FileDescription: an open file (Linux: struct file). Descriptors, SCM_RIGHTS and mappings share it by reference.
#ifndef SENTRY_VFS_FILE_DESCRIPTION_H_
#define SENTRY_VFS_FILE_DESCRIPTION_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include "base/errno.h"
#include "base/fiber_lock.h"
#include "base/ref_ptr.h"
#include "base/wait_queue.h"
#include "sentry/mm/mappable.h"
#include "sentry/mm/user_memory.h"
#include "sentry/vfs/path.h"

namespace sentry {

// An entry of getdents64(2). `next` is the offset (d_off) to continue after it.
struct Dirent {
  std::string_view name;
  uint64_t ino;
  uint8_t type;  // DT_*
  int64_t next;
};
// False: the buffer is full, stop; the entry was not taken.
using DirentSink = std::function<bool(const Dirent&)>;

struct IoctlArgs {
  uint32_t command;
  uint64_t argument;
  UserMemory& memory;
  VfsContext& ctx;
};

// What a read or write needs beyond the buffer.
struct IoFlags {
  bool nonblock = false;  // the description's O_NONBLOCK or RWF_NOWAIT; nothing here waits anyway (see below)
  bool append = false;    // O_APPEND or RWF_APPEND
  bool dsync = false;
  uint64_t file_size_limit = UINT64_MAX;  // EFBIG beyond (the caller sends SIGXFSZ)
  bool timed_out = false;  // a read has waited until ReadDeadline: what is there, perhaps nothing, is the answer
};

// What close(2) waits for when a description has ended (a socket's SO_LINGER).
class Lingering : public base::RefCounted {
 public:
  virtual bool Over() = 0;                         // also as long as somebody still has the description
  virtual base::WaitQueue& wait_queue() = 0;       // tells kEventOut when Over() may have become true
  virtual base::MonotonicNs deadline() const = 0;  // the host's monotonic time
};

// Operations never wait for a guest event: they return EAGAIN, and the system call layer waits on wait_queue() and
// tries again. They may park for the host or the gofer. Thread-safe: several tasks may call at once.
class FileDescription : public virtual base::RefCounted {
 public:
  // --- Implemented by file types. Defaults are what Linux returns for a file type without the operation.
  // At the description's own position; for seekable files the default takes the position lock and calls PRead/PWrite.
  virtual Result<size_t> Read(IoBuffer& to, const IoFlags& flags);
  virtual Result<size_t> Write(IoBuffer& from, const IoFlags& flags);
  // ESPIPE for what has no positions.
  virtual Result<size_t> PRead(IoBuffer& to, int64_t offset, const IoFlags& flags) { return Errno(EINVAL); }
  virtual Result<size_t> PWrite(IoBuffer& from, int64_t offset, const IoFlags& flags) { return Errno(EINVAL); }
  virtual bool Seekable() const { return false; }
  // SEEK_SET/CUR/END/DATA/HOLE; the default uses the inode's size.
  virtual Result<int64_t> Seek(int64_t offset, int whence);
  // Emits entries from `position` on until the sink is full; returns the new position.
  virtual Result<int64_t> ReadDir(int64_t position, const DirentSink& sink) { return Errno(ENOTDIR); }
  virtual Result<int64_t> Ioctl(const IoctlArgs& args) { return Errno(ENOTTY); }
  // What mmap maps. `prot`, `shared` as asked; ENODEV by default.
  virtual Result<RefPtr<Mappable>> GetMappable(uint8_t prot, bool shared) { return Errno(ENODEV); }
  // False: a shared mapping cannot be made writable later (mprotect: EACCES), as with F_SEAL_WRITE.
  virtual bool MayBeMappedForWriting() const { return true; }
  // Events that are ready now. The default: always readable and writable (regular files).
  virtual base::EventMask Readiness() {
    return base::kEventIn | base::kEventOut | base::kEventRdNorm | base::kEventWrNorm;
  }
  // Notified when Readiness may have changed. Null: never changes (and epoll_ctl gives EPERM).
  virtual base::WaitQueue* wait_queue() { return nullptr; }
  virtual Result<void> Fsync(bool data_only) { return Errno(EINVAL); }
  virtual Result<void> Allocate(int mode, int64_t offset, int64_t length) { return Errno(EOPNOTSUPP); }
  virtual Result<void> Truncate(int64_t size);  // default: inode SetAttr
  virtual Result<Attr> GetAttr();               // default: the inode's
  // O_NONBLOCK, O_APPEND, O_DIRECT, O_NOATIME, O_ASYNC changed by F_SETFL.
  virtual Result<void> SetStatusFlags(uint32_t flags);
  // A descriptor of it was closed (Linux: flush); the last reference's end is the destructor. Releases the POSIX record
  // locks of ctx.lock_owner; an override calls this one too.
  virtual void OnDescriptorClosed(VfsContext& ctx);
  // Asked before a task that closes a descriptor drops its reference, which may be the last one. Null: nothing to wait
  // for.
  virtual RefPtr<Lingering> Linger() { return nullptr; }
  // A write that fails with EPIPE raises SIGPIPE (pipes, sockets).
  virtual bool RaisesSigpipe() const { return false; }
  // A blocking write(2) goes on until everything is written (pipes, sockets, terminals) instead of returning what the
  // first Write took.
  virtual bool WritesUntilDone() const { return RaisesSigpipe(); }
  // Until when a blocking read, begun at `started` (host's monotonic time), may wait; asked again after every wake-up.
  // At its end Read is called with timed_out, and its EAGAIN is the result (SO_RCVTIMEO; a terminal's VTIME returns 0).
  // The same for writes.
  virtual base::MonotonicNs ReadDeadline(base::MonotonicNs started) { return base::kNever; }
  virtual base::MonotonicNs WriteDeadline(base::MonotonicNs started) { return base::kNever; }
  // For /proc/self/fdinfo, beyond pos, flags and mnt_id.
  virtual std::string FdInfo() { return ""; }
  // The host descriptor that a splice-like path may use directly; −1 if there is none.
  virtual int HostFd() const { return -1; }

  // --- Common.
  const VfsPath& path() const { return path_; }
  RefPtr<Inode> inode() const { return inode_; }
  // O_CREAT has made the file (F_CREATED_QUERY).
  bool created = false;  // set before anybody else knows the description
  uint32_t flags() const { return flags_.load(std::memory_order_relaxed); }  // O_ACCMODE and status flags
  void set_flags(uint32_t flags) { flags_.store(flags, std::memory_order_relaxed); }
  bool readable() const { return readable_; }
  bool writable() const { return writable_; }
  bool nonblocking() const;
  bool path_only() const;  // O_PATH
  int64_t position() const { return position_.load(std::memory_order_relaxed); }

  // No opens for writing as long as this description lives: it is being executed. Once. ETXTBSY.
  Result<void> DenyWrites();

  // Signal-driven I/O owner (F_SETOWN, F_SETSIG): words kept for F_GETOWN; delivery is the kernel's.
  struct AsyncOwner {
    int type = 0, id = 0, signal = 0;
    int fd = -1;                      // under which O_ASYNC was asked for: si_fd
    RefPtr<base::RefCounted> target;  // the kernel's: who gets the signal
  };
  base::Mutex owner_mu;
  AsyncOwner owner GUARDED_BY(owner_mu);
  // O_ASYNC: `entry` stays on the wait queue until it is replaced (null: by nothing) or the description ends.
  void SetAsyncEntry(std::unique_ptr<base::WaitEntry> entry) EXCLUDES(async_mu_);
  // Sets of epoll instances that watch this description unregister through this queue at its end (kernel:
  // eventpoll_release).
  std::atomic<bool> watched_by_epoll{false};
  // What unregisters it there; set by the epoll implementation (sentry/fs/anon), called with the count at zero and the
  // object whole.
  static inline std::atomic<void (*)(FileDescription&)> epoll_release_hook{nullptr};

  // getdents64(2): ReadDir at the own position, under the position lock. The position moves on when `deliver` has given
  // what the sink took to the guest.
  Result<void> Iterate(const DirentSink& sink, const std::function<Result<void>()>& deliver) EXCLUDES(position_lock_) {
    base::FiberMutexLock lock(position_lock_);
    int64_t next = TRY(ReadDir(position(), sink));
    TRY(deliver());
    position_.store(next, std::memory_order_relaxed);
    return {};
  }

 protected:
  void OnLastUnref() const override {
    if (has_async_entry_.load(std::memory_order_acquire)) const_cast<FileDescription*>(this)->SetAsyncEntry(nullptr);
    if (watched_by_epoll.load(std::memory_order_acquire)) {
      if (auto* release = epoll_release_hook.load(std::memory_order_acquire))
        release(const_cast<FileDescription&>(*this));
    }
    base::RefCounted::OnLastUnref();
  }
  // Takes the write count of the inode for writable regular files; releases locks (flock, OFD) in the destructor.
  FileDescription(VfsPath path, uint32_t flags);
  // An anonymous one (pipe, socket, eventfd): path has no mount.
  ~FileDescription() override;
  base::FiberMutex position_lock_;    // f_pos_lock: held across Read, Write, Seek, ReadDir at the own position
  std::atomic<int64_t> position_{0};  // written under position_lock_

 private:
  VfsPath path_;
  RefPtr<Inode> inode_;
  std::atomic<uint32_t> flags_;
  bool readable_, writable_;
  bool denies_writes_ = false;  // set before anybody else sees the description
  base::Mutex async_mu_;        // before the wait queue's lock; owner_mu comes after that
  std::unique_ptr<base::WaitEntry> async_entry_ GUARDED_BY(async_mu_);
  std::atomic<bool> has_async_entry_{false};
};

// An inode for objects outside of any file system (anon_inodefs, pipefs, sockfs): mode, and an ino unique in the
// sandbox.
RefPtr<Inode> NewAnonymousInode(uint32_t mode, const Credentials* creds = nullptr);
// A path for one: Dentry::MakeAnonymous of a new anonymous inode. `name` like "pipe:" gets "[ino]" appended when it
// ends with ':'.
VfsPath NewAnonymousPath(std::string_view name, uint32_t mode, const Credentials* creds = nullptr);

}  // namespace sentry

#endif  // SENTRY_VFS_FILE_DESCRIPTION_H_

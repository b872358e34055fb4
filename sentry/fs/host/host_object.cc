#include "sentry/fs/host/host_object.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>

#include "base/syscall_unsafe.h"

namespace sentry {
namespace {

constexpr size_t kSharedPipeWrite = 4096;  // POLLOUT on a pipe means a free page (fs/pipe.c); on a socket much more
constexpr size_t kSharedTtyWrite = 256;    // WAKEUP_CHARS of drivers/tty/n_tty.c

}  // namespace

Result<RefPtr<HostObject>> HostObject::Create(base::Reactor& reactor, base::UniqueFd fd, Options options) {
  auto object = base::MakeRef<HostObject>(std::move(fd), options);
  struct stat st;
  TRY(base::Host(SYS_fstat, object->fd(), &st));
  object->type_ = static_cast<FileType>(st.st_mode & S_IFMT);
  object->host_flags_ = static_cast<uint32_t>(TRY(base::Host(SYS_fcntl, object->fd(), F_GETFL)));
  object->nonblocking_ = (object->host_flags_ & O_NONBLOCK) != 0;
  struct termios ignored;
  object->is_tty_ =
      object->type_ == FileType::kCharDevice && base::Host(SYS_ioctl, object->fd(), TCGETS, &ignored).ok();
  bool regular = object->type_ == FileType::kRegular || object->type_ == FileType::kBlockDevice;
  object->seekable_ = regular || (object->type_ == FileType::kCharDevice && !object->is_tty_ &&
                                  base::Host(SYS_lseek, object->fd(), 0, SEEK_CUR).ok());
  if (options.exclusive && !regular && !object->nonblocking_) {
    object->nonblocking_ = base::Host(SYS_fcntl, object->fd(), F_SETFL, object->host_flags_ | O_NONBLOCK).ok();
  }
  if (!regular) {
    HostObject* self = object.get();
    auto watch =
        std::make_unique<base::FdWatch>(reactor, object->fd(), EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLET,
                                        [self](uint32_t events) { self->queue_.Notify(events); });
    if (watch->supported()) object->watch_ = std::move(watch);
  }
  return object;
}

HostObject::~HostObject() { watch_.reset(); }

base::EventMask HostObject::Poll(base::EventMask events) const {
  if (watch_ == nullptr) return base::kEventIn | base::kEventRdNorm | base::kEventOut | base::kEventWrNorm;
  struct pollfd p = {fd_.get(), static_cast<short>(events), 0};
  struct timespec zero = {0, 0};
  auto n = base::HostRetry(SYS_ppoll, &p, 1, &zero, nullptr, 8);
  if (!n.ok()) return base::kEventErr;
  return static_cast<base::EventMask>(static_cast<unsigned short>(p.revents));
}

size_t HostObject::WriteLimit() const {
  if (nonblocking_ || watch_ == nullptr) return SIZE_MAX;
  return is_tty_ ? kSharedTtyWrite : kSharedPipeWrite;
}

Result<size_t> HostObject::Read(IoBuffer& to) {
  if (to.remaining() == 0) return 0;
  if (watch_ != nullptr && !nonblocking_ &&
      (Poll(base::kEventIn) & (base::kEventIn | base::kEventHup | base::kEventErr)) == 0) {
    return Errno(EAGAIN);
  }
  for (;;) {
    auto n = to.ReadFromHost(fd_.get(), -1, to.remaining());
    if (!n.failed_with(EINTR)) return n;
  }
}

Result<size_t> HostObject::Write(IoBuffer& from, bool append) {
  if (from.remaining() == 0) return 0;
  size_t total = 0;
  size_t limit = WriteLimit();
  while (from.remaining() != 0) {
    if (limit != SIZE_MAX && (Poll(base::kEventOut) & (base::kEventOut | base::kEventHup | base::kEventErr)) == 0) {
      if (total != 0) return total;
      return Errno(EAGAIN);
    }
    int64_t offset = -1;
    if (append && type_ == FileType::kRegular && (host_flags_ & O_APPEND) == 0) {
      struct stat st;
      TRY(base::Host(SYS_fstat, fd_.get(), &st));
      offset = st.st_size;
    }
    size_t wanted = std::min(limit, from.remaining());
    auto n = from.WriteToHost(fd_.get(), offset, wanted);
    if (n.failed_with(EINTR)) continue;
    if (!n.ok()) {
      if (total != 0) return total;
      return n;
    }
    total += *n;
    if (*n < wanted) break;
  }
  return total;
}

Result<Attr> HostObject::GetAttr() const {
  struct stat st;
  TRY(base::Host(SYS_fstat, fd_.get(), &st));
  auto ns = [](const timespec& ts) { return ts.tv_sec * 1'000'000'000 + ts.tv_nsec; };
  Attr attr;
  attr.ino = st.st_ino;
  attr.dev = st.st_dev;
  attr.mode = st.st_mode;
  attr.nlink = static_cast<uint32_t>(st.st_nlink);
  attr.uid = options_.uid;
  attr.gid = options_.gid;
  attr.rdev = st.st_rdev;
  attr.size = st.st_size;
  attr.blocks = st.st_blocks;
  attr.blksize = st.st_blksize;
  attr.atime = ns(st.st_atim);
  attr.mtime = ns(st.st_mtim);
  attr.ctime = ns(st.st_ctim);
  return attr;
}

}  // namespace sentry

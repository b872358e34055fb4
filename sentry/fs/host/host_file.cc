#include "sentry/fs/host/host_file.h"

#include <asm/termbits.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/syscall_unsafe.h"
#include "sentry/fs/host/host_mapping.h"
#include "sentry/vfs/path.h"

namespace sentry {
namespace {

class HostSuperblock final : public Superblock {
 public:
  std::string_view type_name() const override { return "host"; }
  Result<FsStat> StatFs() override {
    FsStat stat;
    stat.type = 0x50495045;  // PIPEFS_MAGIC: it is a file system without a tree
    return stat;
  }
};

// Lets /dev/stdout and /proc/self/fd/1 be opened: the new description shares the host's.
class HostInode final : public Inode {
 public:
  // The type is kAnonymous unless the file is regular: opening must come to us and not to the vfs' device and FIFO
  // registry.
  HostInode(RefPtr<Superblock> superblock, RefPtr<HostObject> object, uint64_t ino, RefPtr<Terminal> terminal)
      : Inode(std::move(superblock), ino,
              object->type() == FileType::kRegular ? FileType::kRegular : FileType::kAnonymous),
        object_(std::move(object)),
        terminal_(std::move(terminal)) {}
  Result<Attr> GetAttr() override { return object_->GetAttr(); }
  // Mode, owner and times of a host file are not the guest's to change; succeeding silently would lie.
  Result<void> SetAttr(const AttrChange& change) override {
    if (!change.size.has_value() || object_->type() != FileType::kRegular) return Errno(EPERM);
    return object_->SetSize(*change.size);
  }
  Result<RefPtr<FileDescription>> Open(const VfsPath& path, uint32_t flags, VfsContext& ctx) override {
    uint32_t have = object_->host_flags() & O_ACCMODE, want = flags & O_ACCMODE;
    if (have != O_RDWR && have != want) return Errno(EACCES);
    if (terminal_ != nullptr) return terminal_->OpenTerminal(path, flags);
    return RefPtr<FileDescription>(TRY(base::TryMakeRef<HostFile>(path, flags, object_)));
  }

 private:
  RefPtr<HostObject> object_;
  RefPtr<Terminal> terminal_;
};

}  // namespace

HostFile::HostFile(VfsPath path, uint32_t flags, RefPtr<HostObject> object)
    : FileDescription(std::move(path), flags), object_(std::move(object)) {}

Result<size_t> HostFile::Read(IoBuffer& to, const IoFlags& flags) { return object_->Read(to); }

Result<size_t> HostFile::Write(IoBuffer& from, const IoFlags& flags) { return object_->Write(from, flags.append); }

Result<size_t> HostFile::PRead(IoBuffer& to, int64_t offset, const IoFlags& flags) {
  if (!Seekable()) return Errno(ESPIPE);
  return to.ReadFromHost(object_->fd(), offset, to.remaining());
}

Result<size_t> HostFile::PWrite(IoBuffer& from, int64_t offset, const IoFlags& flags) {
  if (!Seekable()) return Errno(ESPIPE);
  return from.WriteToHost(object_->fd(), offset, from.remaining());
}

Result<int64_t> HostFile::Seek(int64_t offset, int whence) {
  if (!Seekable()) return Errno(ESPIPE);
  return TRY(base::HostRetry(SYS_lseek, object_->fd(), offset, whence));
}

base::EventMask HostFile::Readiness() {
  return object_->Poll(base::kEventIn | base::kEventPri | base::kEventOut | base::kEventRdNorm | base::kEventWrNorm |
                       base::kEventRdHup);
}

Result<void> HostFile::Fsync(bool data_only) {
  TRY(base::HostRetry(data_only ? SYS_fdatasync : SYS_fsync, object_->fd()));
  return {};
}

Result<void> HostFile::Truncate(int64_t size) { return object_->SetSize(size); }

Result<RefPtr<Mappable>> HostFile::GetMappable(uint8_t prot, bool shared) {
  if (object_->type() != FileType::kRegular) return Errno(ENODEV);
  if (!readable() || (object_->host_flags() & O_ACCMODE) == O_WRONLY) return Errno(EACCES);
  return RefPtr<Mappable>(TRY(object_->Mapping(path().dentry->name())));
}

Result<int64_t> HostTerminalIoctl(int fd, const IoctlArgs& args) {
  UserMemory& memory = args.memory;
  switch (args.command) {
    case TCGETS: {
      struct termios value {};
      TRY(base::Host(SYS_ioctl, fd, TCGETS, &value));
      TRY(memory.Write(UserPtr<struct termios>{args.argument}, value));
      return 0;
    }
    case TCSETS:
    case TCSETSW:
    case TCSETSF: {
      struct termios value = TRY(memory.Read(UserPtr<struct termios>{args.argument}));
      // TCSETSW would wait for the output to drain and with it hold an executor: the host's buffer drains without us.
      TRY(base::Host(SYS_ioctl, fd, args.command == TCSETSF ? TCSETSF : TCSETS, &value));
      return 0;
    }
    case TIOCGWINSZ: {
      struct winsize value {};
      TRY(base::Host(SYS_ioctl, fd, TIOCGWINSZ, &value));
      TRY(memory.Write(UserPtr<struct winsize>{args.argument}, value));
      return 0;
    }
    case TIOCSWINSZ: {
      struct winsize value = TRY(memory.Read(UserPtr<struct winsize>{args.argument}));
      TRY(base::Host(SYS_ioctl, fd, TIOCSWINSZ, &value));
      return 0;
    }
    case FIONREAD:
    case TIOCOUTQ: {
      int value = 0;
      TRY(base::Host(SYS_ioctl, fd, args.command, &value));
      TRY(memory.Write(UserPtr<int32_t>{args.argument}, value));
      return 0;
    }
    case TCFLSH:
    case TCXONC:
      return TRY(base::Host(SYS_ioctl, fd, args.command, static_cast<long>(args.argument & 3)));
    case TCSBRK:
    case TCSBRKP:
      return 0;  // draining, see above; a break means nothing on a pseudo terminal
    default:
      return Errno(ENOTTY);
  }
}

Result<int64_t> HostFile::Ioctl(const IoctlArgs& args) {
  if (object_->is_tty()) return HostTerminalIoctl(object_->fd(), args);
  if (args.command == FIONREAD && (object_->type() == FileType::kFifo || object_->type() == FileType::kSocket)) {
    int value = 0;
    TRY(base::Host(SYS_ioctl, object_->fd(), FIONREAD, &value));
    TRY(args.memory.Write(UserPtr<int32_t>{args.argument}, value));
    return 0;
  }
  return Errno(ENOTTY);
}

Result<VfsPath> NewHostPath(const RefPtr<HostObject>& object, RefPtr<Terminal> terminal) {
  Attr attr = TRY(object->GetAttr());
  auto inode = base::MakeRef<HostInode>(base::MakeRef<HostSuperblock>(), object, attr.ino, std::move(terminal));
  return VfsPath{nullptr, Dentry::MakeAnonymous(std::move(inode), "host:[" + std::to_string(attr.ino) + "]")};
}

Result<RefPtr<FileDescription>> NewHostFile(base::Reactor& reactor, base::UniqueFd fd, HostObject::Options options) {
  auto object = TRY(HostObject::Create(reactor, std::move(fd), options));
  VfsPath path = TRY(NewHostPath(object));
  uint32_t flags = object->host_flags() & (O_ACCMODE | O_APPEND | O_NONBLOCK);
  return RefPtr<FileDescription>(TRY(base::TryMakeRef<HostFile>(std::move(path), flags, std::move(object))));
}

}  // namespace sentry

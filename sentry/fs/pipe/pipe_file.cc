#include "sentry/fs/pipe/pipe_file.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

namespace sentry {

PipeFile::PipeFile(VfsPath path, uint32_t flags, RefPtr<Pipe> pipe, RefPtr<Inode> inode)
    : FileDescription(std::move(path), flags), pipe_(std::move(pipe)), attached_to_(std::move(inode)) {
  pipe_->AddEnds(readable(), writable());
}

PipeFile::~PipeFile() {
  pipe_->DropEnds(readable(), writable());
  // The last to leave takes the pipe, and what is in it, along.
  RefPtr<base::RefCounted> gone;
  base::MutexLock lock(attached_to_->special_mu);
  if (--pipe_->files == 0) gone.swap(attached_to_->special);
}

Result<size_t> PipeFile::Read(IoBuffer& to, const IoFlags& flags) { return pipe_->Read(to); }

Result<size_t> PipeFile::Write(IoBuffer& from, const IoFlags& io) {
  return pipe_->Write(from, (flags() & O_DIRECT) != 0);
}

Result<int64_t> PipeFile::Ioctl(const IoctlArgs& args) {
  if (args.command != FIONREAD) return Errno(ENOTTY);
  TRY(args.memory.Write(UserPtr<int32_t>{args.argument}, static_cast<int32_t>(pipe_->bytes())));
  return 0;
}

base::EventMask PipeFile::Readiness() {
  base::EventMask events = 0;
  if (readable()) events |= pipe_->ReadReadiness(hangup_after_ != pipe_->writer_opens());
  if (writable()) events |= pipe_->WriteReadiness();
  return events;
}

Result<std::pair<RefPtr<FileDescription>, RefPtr<FileDescription>>> NewPipe(uint32_t flags, const Credentials* creds) {
  RefPtr<Pipe> pipe = TRY(Pipe::Create());
  VfsPath path = NewAnonymousPath("pipe:", S_IFIFO | 0600, creds);
  uint32_t status = flags & (O_NONBLOCK | O_DIRECT);
  // Attached to its inode like a FIFO's, so that /proc/self/fd/N can be opened.
  RefPtr<Inode> inode = path.inode();
  pipe->files = 2;
  {
    base::MutexLock lock(inode->special_mu);
    inode->special = pipe;
  }
  RefPtr<FileDescription> reader = TRY(base::TryMakeRef<PipeFile>(path, O_RDONLY | status, pipe, inode));
  RefPtr<FileDescription> writer = TRY(base::TryMakeRef<PipeFile>(path, O_WRONLY | status, pipe, inode));
  return std::pair(std::move(reader), std::move(writer));
}

Result<RefPtr<FileDescription>> OpenFifo(const VfsPath& path, uint32_t flags, VfsContext& ctx) {
  RefPtr<Inode> inode = path.inode();
  uint32_t access = flags & O_ACCMODE;
  bool nonblock = (flags & O_NONBLOCK) != 0 || ctx.blocker == nullptr;
  // A pipe that is opened again through /proc/<pid>/fd waits for nobody (fs/pipe.c: fifo_open, is_pipe).
  const bool named = path.mount != nullptr;
  RefPtr<Pipe> pipe;
  RefPtr<Pipe> fresh = TRY(Pipe::Create());
  {
    base::MutexLock lock(inode->special_mu);
    // Nothing but a pipe is ever attached to a FIFO's inode.
    pipe = inode->special != nullptr ? RefPtr<Pipe>(static_cast<Pipe*>(inode->special.get())) : fresh;
    if (named && access == O_WRONLY && nonblock && pipe->readers() == 0) return Errno(ENXIO);
    if (inode->special == nullptr) inode->special = pipe;
    ++pipe->files;
  }
  uint64_t readers_before = pipe->reader_opens(), writers_before = pipe->writer_opens();
  auto file = TRY(base::TryMakeRef<PipeFile>(path, flags, pipe, inode));
  if (!named || (file->readable() && file->writable())) return RefPtr<FileDescription>(file);
  if (file->readable()) {
    if (pipe->writers() != 0) return RefPtr<FileDescription>(file);
    if (nonblock) {
      file->SetHangupAfter(writers_before);
      return RefPtr<FileDescription>(file);
    }
    TRY(ctx.blocker->BlockUntil(pipe->queue(), base::kEventIn, [&] { return pipe->writer_opens() != writers_before; }));
    return RefPtr<FileDescription>(file);
  }
  if (pipe->readers() != 0 || nonblock) return RefPtr<FileDescription>(file);
  TRY(ctx.blocker->BlockUntil(pipe->queue(), base::kEventOut, [&] { return pipe->reader_opens() != readers_before; }));
  return RefPtr<FileDescription>(file);
}

PipeFile* AsPipe(FileDescription& file) { return dynamic_cast<PipeFile*>(&file); }

}  // namespace sentry

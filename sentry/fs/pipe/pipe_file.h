// Open descriptions of pipes and FIFOs.
#ifndef SENTRY_FS_PIPE_PIPE_FILE_H_
#define SENTRY_FS_PIPE_PIPE_FILE_H_

#include <utility>

#include "sentry/fs/pipe/pipe.h"
#include "sentry/vfs/file_description.h"

namespace sentry {

class PipeFile final : public FileDescription {
 public:
  // Counts itself as an end of the pipe, by the access mode of `flags`. `inode`: what the pipe is attached to
  // (Inode::special), with this description counted in Pipe::files.
  PipeFile(VfsPath path, uint32_t flags, RefPtr<Pipe> pipe, RefPtr<Inode> inode);
  ~PipeFile() override;

  Result<size_t> Read(IoBuffer& to, const IoFlags& flags) override;
  Result<size_t> Write(IoBuffer& from, const IoFlags& flags) override;
  Result<size_t> PRead(IoBuffer& to, int64_t offset, const IoFlags& flags) override { return Errno(ESPIPE); }
  Result<size_t> PWrite(IoBuffer& from, int64_t offset, const IoFlags& flags) override { return Errno(ESPIPE); }
  Result<int64_t> Seek(int64_t offset, int whence) override { return Errno(ESPIPE); }
  Result<int64_t> Ioctl(const IoctlArgs& args) override;
  base::EventMask Readiness() override;
  base::WaitQueue* wait_queue() override { return &pipe_->queue(); }
  bool RaisesSigpipe() const override { return true; }

  Pipe& pipe() { return *pipe_; }
  RefPtr<Pipe> pipe_ref() const { return pipe_; }
  // A FIFO opened for reading without waiting: no hangup before the first writer has come. (fs/pipe.c, f_version)
  void SetHangupAfter(uint64_t writer_opens) { hangup_after_ = writer_opens; }

 private:
  RefPtr<Pipe> pipe_;
  RefPtr<Inode> attached_to_;
  uint64_t hangup_after_ = UINT64_MAX;  // set before anybody else sees the description
};

// pipe2(2): the read end, the write end. `flags`: O_NONBLOCK, O_DIRECT. ENFILE.
Result<std::pair<RefPtr<FileDescription>, RefPtr<FileDescription>>> NewPipe(uint32_t flags, const Credentials* creds);
// open(2) of a FIFO: waits for the other end as man 7 fifo says. For vfs::RegisterFifo.
Result<RefPtr<FileDescription>> OpenFifo(const VfsPath& path, uint32_t flags, VfsContext& ctx);
// The pipe of a description that is one end of it; null for other files.
PipeFile* AsPipe(FileDescription& file);

}  // namespace sentry

#endif  // SENTRY_FS_PIPE_PIPE_FILE_H_

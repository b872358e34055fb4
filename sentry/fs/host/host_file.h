// Descriptions of host objects: what the guest's stdin, stdout and stderr are when they are not a terminal of their
// own.
#ifndef SENTRY_FS_HOST_HOST_FILE_H_
#define SENTRY_FS_HOST_HOST_FILE_H_

#include "sentry/fs/host/host_object.h"
#include "sentry/fs/tty/terminal.h"
#include "sentry/vfs/file_description.h"

namespace sentry {

class HostFile : public FileDescription {
 public:
  HostFile(VfsPath path, uint32_t flags, RefPtr<HostObject> object);

  Result<size_t> Read(IoBuffer& to, const IoFlags& flags) override;
  Result<size_t> Write(IoBuffer& from, const IoFlags& flags) override;
  Result<size_t> PRead(IoBuffer& to, int64_t offset, const IoFlags& flags) override;
  Result<size_t> PWrite(IoBuffer& from, int64_t offset, const IoFlags& flags) override;
  bool Seekable() const override { return object_->seekable(); }
  // The position is the host description's, which may be shared with the host.
  Result<int64_t> Seek(int64_t offset, int whence) override;
  // What a terminal or a pipe of the host answers without harm (see the .cc); ENOTTY for the rest.
  Result<int64_t> Ioctl(const IoctlArgs& args) override;
  base::EventMask Readiness() override;
  base::WaitQueue* wait_queue() override { return object_->queue(); }
  Result<RefPtr<Mappable>> GetMappable(uint8_t prot, bool shared) override;
  Result<void> Fsync(bool data_only) override;
  Result<void> Truncate(int64_t size) override;
  Result<Attr> GetAttr() override { return object_->GetAttr(); }
  bool RaisesSigpipe() const override {
    return object_->type() == FileType::kFifo || object_->type() == FileType::kSocket;
  }
  bool WritesUntilDone() const override { return object_->queue() != nullptr; }
  int HostFd() const override { return object_->fd(); }

  HostObject& object() { return *object_; }

 protected:
  RefPtr<HostObject> object_;
};

// A description for a host descriptor, with the access mode it has on the host.
Result<RefPtr<FileDescription>> NewHostFile(base::Reactor& reactor, base::UniqueFd fd, HostObject::Options options);

// The path of a host object's descriptions: "host:[inode]", which can be opened again through /proc/self/fd.
// `terminal`, if there is one, does the opening.
Result<VfsPath> NewHostPath(const RefPtr<HostObject>& object, RefPtr<Terminal> terminal = nullptr);

// The ioctls of terminals that go to the host as they are: window size, termios, queues. Shared with HostTty.
Result<int64_t> HostTerminalIoctl(int fd, const IoctlArgs& args);

}  // namespace sentry

#endif  // SENTRY_FS_HOST_HOST_FILE_H_

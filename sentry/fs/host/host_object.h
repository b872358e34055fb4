// HostObject: a host descriptor that was given to the sandbox (stdio, --pass-fd), and how to use it without blocking an
// executor.
//
// The descriptor's open file description may be shared with processes on the host (a shell's terminal, a pipe), so
// O_NONBLOCK is set only on those that runsc made for the sandbox alone (`exclusive`). Others are asked with poll
// before every transfer, and written in pieces that fit when poll says so: at most PIPE_BUF into pipes and sockets,
// less into terminals.
#ifndef SENTRY_FS_HOST_HOST_OBJECT_H_
#define SENTRY_FS_HOST_HOST_OBJECT_H_

#include <cstdint>
#include <memory>
#include <string>

#include "base/errno.h"
#include "base/mutex.h"
#include "base/reactor.h"
#include "base/ref_ptr.h"
#include "base/unique_fd.h"
#include "base/wait_queue.h"
#include "sentry/mm/user_memory.h"
#include "sentry/vfs/attr.h"

namespace sentry {

using base::RefPtr;

class HostMapping;

class HostObject final : public base::RefCounted {
 public:
  struct Options {
    bool exclusive = false;     // nobody else uses the open file description: it may be made nonblocking
    uint32_t uid = 0, gid = 0;  // whom the guest sees as the owner
  };
  static Result<RefPtr<HostObject>> Create(base::Reactor& reactor, base::UniqueFd fd, Options options);
  ~HostObject() override;

  int fd() const { return fd_.get(); }
  FileType type() const { return type_; }
  bool is_tty() const { return is_tty_; }
  bool seekable() const { return seekable_; }
  uint32_t host_flags() const { return host_flags_; }  // fcntl(F_GETFL) when it came

  // At the descriptor's own position. EAGAIN when it would wait.
  Result<size_t> Read(IoBuffer& to);
  Result<size_t> Write(IoBuffer& from, bool append);
  // poll(2) now.
  base::EventMask Poll(base::EventMask events) const;
  // Notified when readiness may have changed; null if the host cannot tell (regular files, /dev/null: always ready).
  base::WaitQueue* queue() { return watch_ != nullptr ? &queue_ : nullptr; }
  base::WaitQueue& raw_queue() { return queue_; }
  Result<Attr> GetAttr() const;
  // Of a regular file: ftruncate, with what mappings of it must learn.
  Result<void> SetSize(int64_t size);
  // What maps this regular file, one for all descriptions. `name`: for /proc/pid/maps.
  Result<RefPtr<HostMapping>> Mapping(const std::string& name) EXCLUDES(mapping_mu_);

 private:
  friend class HostMapping;
  RefPtr<HostMapping> MappingIfAny() EXCLUDES(mapping_mu_);
  HostObject(base::UniqueFd fd, Options options) : fd_(std::move(fd)), options_(options) {}
  template <typename T, typename... A>
  friend RefPtr<T> base::MakeRef(A&&...);
  size_t WriteLimit() const;

  base::UniqueFd fd_;
  const Options options_;
  // Set once by Create.
  FileType type_ = FileType::kRegular;
  bool is_tty_ = false, seekable_ = false, nonblocking_ = false;
  uint32_t host_flags_ = 0;
  base::Mutex mapping_mu_;
  HostMapping* mapping_ GUARDED_BY(mapping_mu_) = nullptr;  // weak: it removes itself
  base::WaitQueue queue_;
  std::unique_ptr<base::FdWatch> watch_;  // last: its callback uses the queue
};

}  // namespace sentry

#endif  // SENTRY_FS_HOST_HOST_OBJECT_H_

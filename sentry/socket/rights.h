// Descriptors in flight (SCM_RIGHTS, man 7 unix): how many there may be, and what becomes of those that nobody can
// receive any more.
#ifndef SENTRY_SOCKET_RIGHTS_H_
#define SENTRY_SOCKET_RIGHTS_H_

#include <atomic>
#include <cstdint>
#include <vector>

#include "base/errno.h"
#include "base/ref_ptr.h"
#include "sentry/vfs/file_description.h"

namespace sentry {

class Socket;

// The files of one message. Registered from its making to its end, so that the collector sees all of them.
class Rights final : public base::RefCounted {
 public:
  static constexpr size_t kMaxPerMessage = 253;  // SCM_MAX_FD
  // `limit`: how many files this user may have in flight (RLIMIT_NOFILE of the sender; UINT64_MAX with CAP_SYS_RESOURCE
  // or CAP_SYS_ADMIN). ETOOMANYREFS beyond it, and beyond what the sandbox as a whole may have.
  static Result<RefPtr<Rights>> Create(std::vector<RefPtr<FileDescription>> files, uint32_t uid, uint64_t limit);
  ~Rights() override;
  const std::vector<RefPtr<FileDescription>>& files() const { return files_; }
  // True exactly while it is in a queue. Set and cleared under the queue's lock.
  std::atomic<bool> queued{false};

 private:
  Rights(std::vector<RefPtr<FileDescription>> files, uint32_t uid) : files_(std::move(files)), uid_(uid) {}
  std::vector<RefPtr<FileDescription>> files_;
  const uint32_t uid_;
};

// Finds sockets whose every reference is in a queue that only such sockets could be read from, and empties those queues
// (kernel: net/unix/garbage.c). `closing` is a socket whose last descriptor may be going away while the caller still
// has one reference. Fiber context; cheap when no files are in flight.
void CollectUnreachableSockets(const Socket* closing);
int64_t FilesInFlight();

// Drops references without recursion: a socket's end drops what was in its queue, which may be sockets.
void DropFiles(std::vector<RefPtr<FileDescription>> files);

}  // namespace sentry

#endif  // SENTRY_SOCKET_RIGHTS_H_

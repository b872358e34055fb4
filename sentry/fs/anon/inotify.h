// inotify(7): a descriptor that tells what happens to watched files and directories. (fs/notify/inotify)
//
// Differs from Linux: files that the host changes behind a shared gofer mount raise no events; unmounting raises no
// IN_UNMOUNT; an event about a file that is open but has lost its name is not reported to the directory that it was in,
// as if IN_EXCL_UNLINK had been asked for.
#ifndef SENTRY_FS_ANON_INOTIFY_H_
#define SENTRY_FS_ANON_INOTIFY_H_

#include <deque>
#include <map>
#include <string>

#include "base/mutex.h"
#include "base/wait_queue.h"
#include "sentry/vfs/file_description.h"
#include "sentry/vfs/inotify.h"

namespace sentry {

class InotifyFile final : public FileDescription {
 public:
  static constexpr size_t kMaxQueuedEvents = 16384;  // fs.inotify.max_queued_events
  static constexpr size_t kMaxWatches = 65536;       // of one descriptor; Linux counts per user (max_user_watches)

  // `flags`: O_NONBLOCK.
  explicit InotifyFile(uint32_t flags);
  ~InotifyFile() override;

  // man 2 inotify_add_watch; `path` has been walked to as the mask's IN_DONT_FOLLOW and IN_ONLYDIR say. The watch
  // descriptor.
  Result<int> AddWatch(VfsContext& ctx, const VfsPath& path, uint32_t mask) EXCLUDES(mu_);
  // EINVAL for what is not a watch.
  Result<void> RemoveWatch(int wd) EXCLUDES(mu_);

  Result<size_t> Read(IoBuffer& to, const IoFlags& flags) override EXCLUDES(mu_);
  Result<int64_t> Ioctl(const IoctlArgs& args) override EXCLUDES(mu_);
  base::EventMask Readiness() override EXCLUDES(mu_);
  base::WaitQueue* wait_queue() override { return &queue_; }
  std::string FdInfo() override EXCLUDES(mu_);

 private:
  class Watch;
  struct Event {
    int wd;
    uint32_t mask, cookie;
    std::string name;
    size_t NameBytes() const;
    size_t Bytes() const;
    friend bool operator==(const Event&, const Event&) = default;
  };
  void Queue(Event event) EXCLUDES(mu_);
  // A watch that is over, by itself: out of the table, and IN_IGNORED.
  void WatchEnded(int wd) EXCLUDES(mu_);
  RefPtr<Watch> Take(int wd) EXCLUDES(mu_);

  base::FiberMutex change_lock_;  // adding and removing watches, so that a file is not watched twice
  mutable base::Mutex mu_;        // after Watch::mu
  std::map<int, RefPtr<Watch>> watches_ GUARDED_BY(mu_);
  int next_wd_ GUARDED_BY(mu_) = 1;
  std::deque<Event> events_ GUARDED_BY(mu_);
  bool overflowed_ GUARDED_BY(mu_) = false;
  base::WaitQueue queue_;
};

}  // namespace sentry

#endif  // SENTRY_FS_ANON_INOTIFY_H_

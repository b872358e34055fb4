// epoll(7). (fs/eventpoll.c)
//
// An interest list of items (descriptor number, description) and a ready list. An item hangs in its file's wait queue;
// when the file notifies, the item goes to the ready list and the epoll's own queue is notified. epoll_wait takes items
// from the ready list, asks each file whether it is really ready, reports it, and puts level-triggered ones back.
//
// An item does not keep its file alive: when the description ends, its items leave
// (FileDescription::epoll_release_hook). Who wants the file takes a reference under the lock that the release takes
// too.
//
// Locks, in order: EpollFile::mtx_ (fiber lock; waiting and changing; of an outer epoll before an inner one's) → the
// registry's → a watched file's wait queue's → EpollCore::mu; EpollCore::queue's comes after the file's queue's, then
// an outer epoll's core. Loops cannot be made (EpollFile::Add checks).
#ifndef SENTRY_FS_ANON_EPOLL_H_
#define SENTRY_FS_ANON_EPOLL_H_

#include <cstdint>
#include <functional>
#include <list>
#include <span>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/fiber_lock.h"
#include "base/mutex.h"
#include "base/wait_queue.h"
#include "sentry/abi/types.h"
#include "sentry/kernel/fd_table.h"
#include "sentry/vfs/file_description.h"

namespace sentry {

struct EpollCore;

// One watched descriptor.
struct EpollItem final : public base::RefCounted {
  EpollItem(RefPtr<EpollCore> core, Fd fd, FileDescription& file, base::WaitQueue& queue, uint32_t events,
            uint64_t data);
  ~EpollItem() override;

  const RefPtr<EpollCore> core;
  const Fd fd;
  FileDescription* const file;  // alive while the item is registered; see TakeFile
  base::WaitQueue& queue;       // the file's
  base::WaitEntry entry;
  // Guarded by core->mu.
  uint32_t events;  // as asked, with EPOLLET and so on
  uint64_t data;
  bool dead = false;   // removed: the callback does nothing any more
  bool ready = false;  // in core->ready_list
  std::list<RefPtr<EpollItem>>::iterator ready_at;

 private:
  void OnEvent(base::EventMask events_now);
};

// What outlives the description while items go away.
struct EpollCore final : public base::RefCounted {
  using Key = std::pair<const FileDescription*, Fd>;
  mutable base::Mutex mu;
  absl::flat_hash_map<Key, RefPtr<EpollItem>> items GUARDED_BY(mu);
  std::list<RefPtr<EpollItem>> ready_list GUARDED_BY(mu);
  base::WaitQueue queue;
  FileDescription* self = nullptr;  // the epoll's description; set once; alive while items of others watch it
};

class EpollFile final : public FileDescription {
 public:
  EpollFile();
  ~EpollFile() override;

  static constexpr size_t kMaxEvents = INT32_MAX / sizeof(abi::EpollEvent);
  // epoll_ctl(2). EEXIST, ENOENT, EINVAL, EPERM, ELOOP, ENOSPC.
  Result<void> Add(Fd fd, const RefPtr<FileDescription>& file, const abi::EpollEvent& event) EXCLUDES(mtx_);
  Result<void> Modify(Fd fd, FileDescription& file, const abi::EpollEvent& event) EXCLUDES(mtx_);
  Result<void> Delete(Fd fd, FileDescription& file) EXCLUDES(mtx_);
  // What is ready now: at most `max` events, given to `deliver`, which says how many it could take (a guest's buffer
  // may fault in the middle): the others stay ready. Does not wait.
  using Deliver = std::function<size_t(std::span<const abi::EpollEvent>)>;
  Result<size_t> Collect(size_t max, const Deliver& deliver) EXCLUDES(mtx_);
  // Whether Collect may find something.
  bool MaybeReady();
  const EpollCore& core() const { return *core_; }

  base::EventMask Readiness() override EXCLUDES(mtx_);
  base::WaitQueue* wait_queue() override { return &core_->queue; }
  Result<size_t> PRead(IoBuffer&, int64_t, const IoFlags&) override { return Errno(EINVAL); }
  std::string FdInfo() override;

 private:
  Result<void> CheckNesting(EpollFile& target) const;
  Result<void> AddItem(Fd fd, FileDescription& file, base::WaitQueue& queue, const abi::EpollEvent& event)
      EXCLUDES(mtx_);
  void MarkIfReady(EpollItem& item, FileDescription& file);

  RefPtr<EpollCore> core_;
  base::FiberMutex mtx_;
};

}  // namespace sentry

#endif  // SENTRY_FS_ANON_EPOLL_H_

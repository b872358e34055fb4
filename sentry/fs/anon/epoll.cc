#include "sentry/fs/anon/epoll.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>

#include <algorithm>
#include <atomic>

namespace sentry {
namespace {

constexpr uint32_t kModeBits = EPOLLET | EPOLLONESHOT | EPOLLWAKEUP | EPOLLEXCLUSIVE;  // EP_PRIVATE_BITS
constexpr uint32_t kAllowedWithExclusive =
    EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;
constexpr int kMaxNesting = 4;                   // EP_MAX_NESTS
constexpr int64_t kMaxItems = int64_t{1} << 22;  // in the sandbox; Linux: max_user_watches
constexpr base::EventMask kReadable = base::kEventIn | base::kEventRdNorm;

// Who watches what, for the end of a description. Sharded by the description's address.
struct Shard {
  base::Mutex mu;
  absl::flat_hash_map<const FileDescription*, std::vector<RefPtr<EpollItem>>> items GUARDED_BY(mu);
};
constexpr size_t kShards = 16;

Shard& ShardOf(const FileDescription* file) {
  static Shard* shards = new Shard[kShards];
  return shards[(reinterpret_cast<uintptr_t>(file) >> 7) % kShards];
}

std::atomic<int64_t> item_count{0};

// Adding an epoll to an epoll: one at a time, so that the checks for loops see a graph that holds still (kernel:
// epnested_mutex).
base::FiberMutex& NestingLock() {
  static auto* lock = new base::FiberMutex;
  return *lock;
}

// Takes the item out of the list of its file. True for the one caller who did; then the item is that caller's to
// detach.
bool Unregister(EpollItem& item) {
  Shard& shard = ShardOf(item.file);
  RefPtr<EpollItem> keep;
  base::MutexLock lock(shard.mu);
  auto it = shard.items.find(item.file);
  if (it == shard.items.end()) return false;
  auto& list = it->second;
  auto at = std::find_if(list.begin(), list.end(), [&](const RefPtr<EpollItem>& i) { return i.get() == &item; });
  if (at == list.end()) return false;
  keep = std::move(*at);
  list.erase(at);
  if (list.empty()) shard.items.erase(it);
  return true;
}

// A reference to the item's file, unless that is at its end. The memory is there as long as the item is not dead: the
// file's release needs core->mu to make it so.
RefPtr<FileDescription> TakeFile(EpollItem& item) {
  base::MutexLock lock(item.core->mu);
  if (item.dead || !item.file->TryRef()) return nullptr;
  return RefPtr<FileDescription>::Adopt(item.file);
}

// Removes an item that has been unregistered (and whose file is still whole) from the queue and the epoll.
void Detach(EpollItem& item) {
  item.queue.Remove(item.entry);
  RefPtr<EpollItem> in_map, in_list;
  base::MutexLock lock(item.core->mu);
  item.dead = true;
  if (item.ready) {
    in_list = std::move(*item.ready_at);
    item.core->ready_list.erase(item.ready_at);
    item.ready = false;
  }
  auto it = item.core->items.find(EpollCore::Key(item.file, item.fd));
  if (it != item.core->items.end() && it->second.get() == &item) {
    in_map = std::move(it->second);
    item.core->items.erase(it);
  }
}

// FileDescription::epoll_release_hook: eventpoll_release_file().
void OnFileReleased(FileDescription& file) {
  std::vector<RefPtr<EpollItem>> list;
  {
    Shard& shard = ShardOf(&file);
    base::MutexLock lock(shard.mu);
    auto it = shard.items.find(&file);
    if (it == shard.items.end()) return;
    list = std::move(it->second);
    shard.items.erase(it);
  }
  for (RefPtr<EpollItem>& item : list) Detach(*item);
}

// Levels of epolls below (watched by) this one, at most kMaxNesting + 1. −1 if `forbidden` is among them or is it.
int DepthBelow(const EpollCore& core, const EpollCore& forbidden, int level) {
  if (&core == &forbidden) return -1;
  if (level > kMaxNesting) return level;
  std::vector<RefPtr<FileDescription>> nested;
  {
    std::vector<RefPtr<EpollItem>> items;
    {
      base::MutexLock lock(core.mu);
      for (const auto& [key, item] : core.items) items.push_back(item);
    }
    for (RefPtr<EpollItem>& item : items) {
      if (auto file = TakeFile(*item); file != nullptr && dynamic_cast<EpollFile*>(file.get()) != nullptr)
        nested.push_back(file);
    }
  }
  int depth = 0;
  for (auto& file : nested) {
    auto* epoll = static_cast<EpollFile*>(file.get());
    int below = DepthBelow(epoll->core(), forbidden, level + 1);
    if (below < 0) return -1;
    depth = std::max(depth, below + 1);
  }
  return depth;
}

// Levels of epolls above (watching) this one.
int DepthAbove(const EpollCore& core, int level) {
  if (level > kMaxNesting) return level;
  std::vector<RefPtr<EpollItem>> watchers;
  {
    Shard& shard = ShardOf(core.self);
    base::MutexLock lock(shard.mu);
    auto it = shard.items.find(core.self);
    if (it != shard.items.end()) watchers = it->second;
  }
  int depth = 0;
  for (auto& item : watchers) depth = std::max(depth, DepthAbove(*item->core, level + 1) + 1);
  return depth;
}

base::EventMask EntryMask(uint32_t events) {
  // Exclusive items cannot be modified, and are woken one at a time: only for what they wait for.
  if ((events & EPOLLEXCLUSIVE) != 0) return (events & ~kModeBits) | base::kEventErr | base::kEventHup;
  return base::kEventAll;
}

}  // namespace

EpollItem::EpollItem(RefPtr<EpollCore> c, Fd fd, FileDescription& file, base::WaitQueue& queue, uint32_t events,
                     uint64_t data)
    : core(std::move(c)),
      fd(fd),
      file(&file),
      queue(queue),
      entry(EntryMask(events), [this](base::EventMask now) { OnEvent(now); }),
      events(events),
      data(data) {
  if ((events & EPOLLEXCLUSIVE) != 0) entry.set_exclusive();
}

EpollItem::~EpollItem() { item_count.fetch_sub(1, std::memory_order_relaxed); }

// ep_poll_callback(). Under the lock of the file's queue.
void EpollItem::OnEvent(base::EventMask events_now) {
  {
    base::MutexLock lock(core->mu);
    if (dead || (events & ~kModeBits) == 0 || (events_now & events) == 0) return;
    if (!ready) {
      ready_at = core->ready_list.insert(core->ready_list.end(), RefPtr<EpollItem>(this));
      ready = true;
    }
  }
  // An exclusive event goes to an epoll that somebody waits for now, if there is one.
  if (!core->queue.Notify(kReadable)) entry.Decline();
}

EpollFile::EpollFile()
    : FileDescription(NewAnonymousPath("anon_inode:[eventpoll]", 0600), O_RDWR), core_(base::MakeRef<EpollCore>()) {
  core_->self = this;
  epoll_release_hook.store(&OnFileReleased, std::memory_order_release);
}

EpollFile::~EpollFile() {
  std::vector<RefPtr<EpollItem>> items;
  {
    base::MutexLock lock(core_->mu);
    for (auto& [key, item] : core_->items) items.push_back(item);
  }
  for (RefPtr<EpollItem>& item : items) {
    // A file at its end detaches the item itself.
    RefPtr<FileDescription> file = TakeFile(*item);
    if (file != nullptr && Unregister(*item)) Detach(*item);
  }
}

Result<void> EpollFile::CheckNesting(EpollFile& target) const {
  int below = DepthBelow(*target.core_, *core_, 0);
  if (below < 0) return Errno(ELOOP);
  if (below + 1 + DepthAbove(*core_, 0) > kMaxNesting) return Errno(ELOOP);
  return {};
}

Result<void> EpollFile::Add(Fd fd, const RefPtr<FileDescription>& file, const abi::EpollEvent& event) {
  if (file.get() == this) return Errno(EINVAL);
  base::WaitQueue* queue = file->wait_queue();
  if (queue == nullptr) return Errno(EPERM);
  auto* target = dynamic_cast<EpollFile*>(file.get());
  if ((event.events & EPOLLEXCLUSIVE) != 0 && (target != nullptr || (event.events & ~kAllowedWithExclusive) != 0)) {
    return Errno(EINVAL);
  }
  if (target == nullptr) return AddItem(fd, *file, *queue, event);
  base::FiberMutexLock nesting(NestingLock());
  TRY(CheckNesting(*target));
  return AddItem(fd, *file, *queue, event);
}

Result<void> EpollFile::AddItem(Fd fd, FileDescription& file, base::WaitQueue& queue, const abi::EpollEvent& event) {
  base::FiberMutexLock lock(mtx_);
  EpollCore::Key key(&file, fd);
  {
    base::MutexLock core_lock(core_->mu);
    if (core_->items.contains(key)) return Errno(EEXIST);
  }
  TRY(base::ChargedMemory::Admit());
  if (item_count.fetch_add(1, std::memory_order_relaxed) >= kMaxItems) {
    item_count.fetch_sub(1, std::memory_order_relaxed);
    return Errno(ENOSPC);
  }
  auto item = base::MakeRef<EpollItem>(core_, fd, file, queue, event.events | EPOLLERR | EPOLLHUP, event.data);
  {
    base::MutexLock core_lock(core_->mu);
    core_->items.emplace(key, item);
  }
  {
    Shard& shard = ShardOf(&file);
    base::MutexLock shard_lock(shard.mu);
    shard.items[&file].push_back(item);
  }
  file.watched_by_epoll.store(true, std::memory_order_release);
  queue.Add(item->entry);
  // What is ready already counts as an event, edge-triggered or not.
  MarkIfReady(*item, file);
  return {};
}

void EpollFile::MarkIfReady(EpollItem& item, FileDescription& file) {
  base::EventMask now = file.Readiness();
  {
    base::MutexLock lock(core_->mu);
    if (item.dead || item.ready || (now & item.events & ~kModeBits) == 0) return;
    item.ready_at = core_->ready_list.insert(core_->ready_list.end(), RefPtr<EpollItem>(&item));
    item.ready = true;
  }
  core_->queue.Notify(kReadable);
}

Result<void> EpollFile::Modify(Fd fd, FileDescription& file, const abi::EpollEvent& event) {
  if (&file == this) return Errno(EINVAL);
  if (file.wait_queue() == nullptr) return Errno(EPERM);
  if ((event.events & EPOLLEXCLUSIVE) != 0) return Errno(EINVAL);
  base::FiberMutexLock lock(mtx_);
  RefPtr<EpollItem> item;
  {
    base::MutexLock core_lock(core_->mu);
    auto it = core_->items.find(EpollCore::Key(&file, fd));
    if (it == core_->items.end()) return Errno(ENOENT);
    item = it->second;
    if ((item->events & EPOLLEXCLUSIVE) != 0) return Errno(EINVAL);
    item->events = event.events | EPOLLERR | EPOLLHUP;
    item->data = event.data;
  }
  MarkIfReady(*item, file);
  return {};
}

Result<void> EpollFile::Delete(Fd fd, FileDescription& file) {
  if (&file == this) return Errno(EINVAL);
  if (file.wait_queue() == nullptr) return Errno(EPERM);
  base::FiberMutexLock lock(mtx_);
  RefPtr<EpollItem> item;
  {
    base::MutexLock core_lock(core_->mu);
    auto it = core_->items.find(EpollCore::Key(&file, fd));
    if (it == core_->items.end()) return Errno(ENOENT);
    item = it->second;
  }
  if (Unregister(*item)) Detach(*item);
  return {};
}

bool EpollFile::MaybeReady() {
  base::MutexLock lock(core_->mu);
  return !core_->ready_list.empty();
}

// ep_send_events(). Every item that is ready now is looked at once at most, so that level-triggered ones do not go
// round.
Result<size_t> EpollFile::Collect(size_t max, const Deliver& deliver) {
  struct Taken {
    RefPtr<EpollItem> item;
    uint32_t events_before;
  };
  bool more;
  size_t delivered = 0;
  {
    base::FiberMutexLock lock(mtx_);
    std::vector<abi::EpollEvent> out;
    std::vector<Taken> taken;
    size_t budget;
    {
      base::MutexLock core_lock(core_->mu);
      budget = core_->ready_list.size();
    }
    while (budget-- > 0 && out.size() < max) {
      RefPtr<EpollItem> item;
      {
        base::MutexLock core_lock(core_->mu);
        if (core_->ready_list.empty()) break;
        item = std::move(core_->ready_list.front());
        core_->ready_list.pop_front();
        item->ready = false;
      }
      RefPtr<FileDescription> file = TakeFile(*item);
      if (file == nullptr) continue;
      base::EventMask now = file->Readiness();
      base::MutexLock core_lock(core_->mu);
      if (item->dead) continue;
      now &= item->events & ~kModeBits;
      if (now == 0) continue;
      out.push_back({now, item->data});
      taken.push_back({item, item->events});
      if ((item->events & EPOLLONESHOT) != 0) {
        item->events &= kModeBits;
      } else if ((item->events & EPOLLET) == 0 && !item->ready) {
        item->ready_at = core_->ready_list.insert(core_->ready_list.end(), item);
        item->ready = true;
      }
    }
    if (!out.empty()) {
      delivered = deliver(out);
      // What could not be delivered is as if it had not been taken.
      base::MutexLock core_lock(core_->mu);
      for (size_t i = delivered; i < taken.size(); ++i) {
        EpollItem& item = *taken[i].item;
        if (item.dead) continue;
        if ((taken[i].events_before & EPOLLONESHOT) != 0) item.events = taken[i].events_before;
        if (item.ready) continue;
        item.ready_at = core_->ready_list.insert(core_->ready_list.end(), taken[i].item);
        item.ready = true;
      }
    }
    if (delivered == 0 && !out.empty()) return Errno(EFAULT);
    base::MutexLock core_lock(core_->mu);
    more = !core_->ready_list.empty();
  }
  // Others that wait get the rest (ep_done_scan).
  if (more) core_->queue.Notify(kReadable);
  return delivered;
}

base::EventMask EpollFile::Readiness() {
  // Items that turn out not to be ready leave the list (__ep_eventpoll_poll). Each is taken off before its file is
  // asked: an event that comes meanwhile puts it back.
  base::FiberMutexLock lock(mtx_);
  for (;;) {
    RefPtr<EpollItem> item;
    {
      base::MutexLock core_lock(core_->mu);
      if (core_->ready_list.empty()) return 0;
      item = std::move(core_->ready_list.front());
      core_->ready_list.pop_front();
      item->ready = false;
    }
    RefPtr<FileDescription> file = TakeFile(*item);
    if (file == nullptr) continue;
    base::EventMask now = file->Readiness();
    base::MutexLock core_lock(core_->mu);
    if (item->dead || (now & item->events & ~kModeBits) == 0) continue;
    if (!item->ready) {
      item->ready_at = core_->ready_list.insert(core_->ready_list.begin(), item);
      item->ready = true;
    }
    return kReadable;
  }
}

std::string EpollFile::FdInfo() {
  std::vector<RefPtr<EpollItem>> items;
  std::string text;
  base::MutexLock lock(core_->mu);
  for (const auto& [key, item] : core_->items) {
    char line[96];
    snprintf(line, sizeof(line), "tfd: %8d events: %8x data: %16lx \n", item->fd, item->events, item->data);
    text += line;
  }
  return text;
}

}  // namespace sentry

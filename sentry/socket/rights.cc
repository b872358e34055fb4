#include "sentry/socket/rights.h"

#include <algorithm>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "base/fiber_lock.h"
#include "base/mutex.h"
#include "sentry/socket/socket.h"

namespace sentry {
namespace {

constexpr int64_t kMaxInFlight = 65536;  // of the sandbox as a whole

struct Registry {
  base::Mutex mu;
  absl::flat_hash_set<const Rights*> all GUARDED_BY(mu);
  absl::flat_hash_map<uint32_t, uint64_t> per_user GUARDED_BY(mu);
  std::atomic<int64_t> files{0};
  base::FiberMutex collecting;
};
Registry& TheRegistry() {
  static auto* registry = new Registry;
  return *registry;
}

struct DropList {
  base::Mutex mu;
  std::vector<RefPtr<FileDescription>> files GUARDED_BY(mu);
  bool draining GUARDED_BY(mu) = false;
};
DropList& TheDropList() {
  static auto* list = new DropList;
  return *list;
}

}  // namespace

void DropFiles(std::vector<RefPtr<FileDescription>> files) {
  if (files.empty()) return;
  DropList& list = TheDropList();
  {
    base::MutexLock lock(list.mu);
    for (auto& file : files) list.files.push_back(std::move(file));
    if (list.draining) return;  // whoever drains, maybe further down this very stack, takes these as well
    list.draining = true;
  }
  for (;;) {
    std::vector<RefPtr<FileDescription>> batch;
    {
      base::MutexLock lock(list.mu);
      if (list.files.empty()) {
        list.draining = false;
        return;
      }
      batch.swap(list.files);
    }
    batch.clear();
  }
}

int64_t FilesInFlight() { return TheRegistry().files.load(std::memory_order_relaxed); }

Result<RefPtr<Rights>> Rights::Create(std::vector<RefPtr<FileDescription>> files, uint32_t uid, uint64_t limit) {
  if (files.size() > kMaxPerMessage) return Errno(EINVAL);
  Registry& registry = TheRegistry();
  auto rights = RefPtr<Rights>::Adopt(new Rights(std::move(files), uid));
  const size_t count = rights->files_.size();
  base::MutexLock lock(registry.mu);
  uint64_t& used = registry.per_user[uid];
  // The limit is looked at before the files are counted, as too_many_unix_fds() does.
  const bool refused =
      used > limit || registry.files.load(std::memory_order_relaxed) + static_cast<int64_t>(count) > kMaxInFlight;
  used += count;
  registry.files.fetch_add(static_cast<int64_t>(count), std::memory_order_relaxed);
  registry.all.insert(rights.get());
  if (refused) return Errno(ETOOMANYREFS);  // ~Rights runs after the lock is gone: declared before it
  return rights;
}

Rights::~Rights() {
  Registry& registry = TheRegistry();
  {
    base::MutexLock lock(registry.mu);
    registry.all.erase(this);
    auto user = registry.per_user.find(uid_);
    user->second -= files_.size();
    if (user->second == 0) registry.per_user.erase(user);
    registry.files.fetch_sub(static_cast<int64_t>(files_.size()), std::memory_order_relaxed);
  }
  DropFiles(std::move(files_));
}

void CollectUnreachableSockets(const Socket* closing) {
  Registry& registry = TheRegistry();
  if (registry.files.load(std::memory_order_relaxed) == 0) return;
  base::FiberMutexLock collecting(registry.collecting);
  std::vector<RefPtr<const Rights>> snapshot;
  {
    base::MutexLock lock(registry.mu);
    snapshot.reserve(registry.all.size());
    for (const Rights* rights : registry.all) {
      if (rights->TryRef()) snapshot.push_back(RefPtr<const Rights>::Adopt(rights));
    }
  }
  // How many references to each socket come from queues. What is not in a queue at this moment is in somebody's hands.
  absl::flat_hash_map<Socket*, uint32_t> queued;
  std::vector<const Rights*> seen_queued;
  for (const auto& rights : snapshot) {
    if (!rights->queued.load(std::memory_order_acquire)) continue;
    seen_queued.push_back(rights.get());
    for (const auto& file : rights->files()) {
      if (auto* socket = dynamic_cast<Socket*>(file.get())) ++queued[socket];
    }
  }
  auto unreferenced = [&](Socket* socket, uint32_t count) {
    return socket->ref_count() == count + (socket == closing ? 1 : 0);
  };
  absl::flat_hash_set<Socket*> candidates;
  std::vector<Socket*> reached;
  for (const auto& [socket, count] : queued) {
    if (unreferenced(socket, count)) candidates.insert(socket);
  }
  if (candidates.empty()) return;
  // Everything in the queue of a socket that somebody has is reachable, and so on. A message that is in no candidate's
  // queue can be received by somebody, so it is enough to look at the candidates' queues: what they do not hold is held
  // from outside.
  absl::flat_hash_map<const Rights*, Socket*> held_by;
  std::vector<RefPtr<Rights>> keep;  // so that nothing of it ends while it is compared
  for (Socket* socket : candidates) {
    std::vector<RefPtr<Rights>> contents;
    socket->CollectQueuedRights(contents);
    for (auto& rights : contents) {
      held_by[rights.get()] = socket;
      keep.push_back(std::move(rights));
    }
  }
  auto reach = [&](const Rights& rights) {
    for (const auto& file : rights.files()) {
      auto* socket = dynamic_cast<Socket*>(file.get());
      if (socket != nullptr && candidates.erase(socket) != 0) reached.push_back(socket);
    }
  };
  for (const Rights* rights : seen_queued) {
    if (!held_by.contains(rights)) reach(*rights);
  }
  while (!reached.empty()) {
    Socket* socket = reached.back();
    reached.pop_back();
    for (const auto& [rights, holder] : held_by) {
      if (holder == socket) reach(*rights);
    }
  }
  // Somebody who received one of the messages meanwhile may have a candidate now: then leave it all for the next time.
  for (const Rights* rights : seen_queued) {
    if (!rights->queued.load(std::memory_order_acquire)) return;
  }
  std::vector<RefPtr<Socket>> garbage;
  for (Socket* socket : candidates) {
    if (!unreferenced(socket, queued[socket])) return;
  }
  for (Socket* socket : candidates) garbage.emplace_back(socket);
  keep.clear();
  snapshot.clear();
  for (const auto& socket : garbage) socket->PurgeQueue();
  std::vector<RefPtr<FileDescription>> drop;
  for (auto& socket : garbage) drop.push_back(std::move(socket));
  DropFiles(std::move(drop));
}

}  // namespace sentry

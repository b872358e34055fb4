// WorkerPool: host threads for calls that block on the host (fsync, a cold read, a gofer on a slow mount). Threads
// start on demand, at most max_workers, and end after a second of idleness.
#ifndef BASE_WORKER_POOL_H_
#define BASE_WORKER_POOL_H_

#include <functional>
#include <memory>

namespace base {

class WorkerPool {
 public:
  explicit WorkerPool(int max_workers);
  ~WorkerPool();
  // Runs `work` on a worker and parks the calling fiber until it is done. Outside of a fiber, runs it in place.
  void Run(std::function<void()> work);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace base

#endif  // BASE_WORKER_POOL_H_

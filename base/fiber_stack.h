// Stacks of fibers: mappings with a guard page below, and a small cache of them.
#ifndef BASE_FIBER_STACK_H_
#define BASE_FIBER_STACK_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/mutex.h"

namespace base {

struct FiberStack {
  std::byte* mapping = nullptr;  // the guard page, then the stack
  size_t mapping_bytes = 0;

  std::byte* bottom() const { return mapping + kGuardBytes; }
  std::byte* top() const { return mapping + mapping_bytes; }
  size_t bytes() const { return mapping_bytes - kGuardBytes; }
  bool InGuard(uint64_t address) const { return address - reinterpret_cast<uint64_t>(mapping) < kGuardBytes; }

  static constexpr size_t kGuardBytes = 4096;
};

// Thread-safe. Bounded: a burst of fibers gives its memory back.
class FiberStackCache {
 public:
  FiberStackCache() = default;
  ~FiberStackCache();
  FiberStackCache(const FiberStackCache&) = delete;
  // A stack of at least `bytes`. CHECK-fails when the host has no memory: the sentry bounds the number of tasks.
  FiberStack Take(size_t bytes) EXCLUDES(mu_);
  void Give(FiberStack stack) EXCLUDES(mu_);

 private:
  static constexpr size_t kMaxCached = 16;
  Mutex mu_;
  std::vector<FiberStack> free_ GUARDED_BY(mu_);
};

}  // namespace base

#endif  // BASE_FIBER_STACK_H_

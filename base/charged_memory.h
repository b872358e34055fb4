// ChargedMemory: what the sentry spends on objects of which a guest can make many: everything that is counted by
// reference (ref_ptr.h), VMAs, queues, stacks of fibers. Counted when they are allocated, and set against the sandbox's
// memory limit beside the guest's pages (platform/memory_file.h), so that a guest cannot have more by making us keep
// records of little things.
//
// Who makes an object because a guest asked for it asks Admit first, and hands its ENOMEM (or what Linux returns in
// that place) to the guest. What only mirrors something that has a bound of its own (names that are looked up, say) is
// counted and not asked for: a guest at its limit has to be able to open, remove and close what it has.
//
// One count per process, for a sentry is one sandbox. Relaxed: a sum that is asked now and then.
#ifndef BASE_CHARGED_MEMORY_H_
#define BASE_CHARGED_MEMORY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <utility>

#include "base/errno.h"

namespace base {

class ChargedMemory {
 public:
  // What malloc adds to a block.
  static constexpr size_t kOverhead = 16;
  static void Charge(size_t bytes) {
    used_.fetch_add(static_cast<int64_t>(bytes + kOverhead), std::memory_order_relaxed);
  }
  static void Uncharge(size_t bytes) {
    used_.fetch_sub(static_cast<int64_t>(bytes + kOverhead), std::memory_order_relaxed);
  }
  static uint64_t used() {
    int64_t used = used_.load(std::memory_order_relaxed);
    return used > 0 ? static_cast<uint64_t>(used) : 0;
  }

  // Whether there may be one more object of a guest's. ENOMEM. Also under a Mutex: the host is asked (fstat) only where
  // the sandbox is at its limit.
  static Result<void> Admit() {
    if (failing_.load(std::memory_order_relaxed) && Fails()) return Errno(ENOMEM);
    if (is_full_ && is_full_()) return Errno(ENOMEM);
    return {};
  }
  // Says when the limit is reached. Null: never. Set while no guest runs; called on any thread.
  static void SetLimit(std::function<bool()> is_full) { is_full_ = std::move(is_full); }

  // For tests: of the questions that come from now on, number `first` (from 1) is answered with no, and then every
  // `every`-th (0: no other). The pages of the memory file count as well. `first` 0: all are answered as usual.
  static void FailFrom(uint64_t first, uint64_t every);
  // How often was asked since then, and how often the answer was no.
  static uint64_t asked() { return asked_.load(std::memory_order_relaxed); }
  static uint64_t failed() { return failed_.load(std::memory_order_relaxed); }
  // For who allocates by another way (pages): whether a test wants it to fail.
  static bool FailsForTest() { return failing_.load(std::memory_order_relaxed) && Fails(); }

 private:
  static bool Fails();

  static inline std::atomic<int64_t> used_{0};
  static inline std::function<bool()> is_full_;
  static inline std::atomic<bool> failing_{false};
  static inline std::atomic<uint64_t> first_{0}, every_{0}, asked_{0}, failed_{0};
};

// A base of classes whose objects are charged, with what derives from them (delete goes through a virtual destructor,
// or the class is final). Not inlined, or g++ 12 takes the pair for one that does not match.
class Charged {
 public:
  static void* operator new(size_t bytes);
  static void operator delete(void* p, size_t bytes);

 protected:
  ~Charged() = default;
};

// For containers.
template <typename T>
struct ChargedAllocator {
  using value_type = T;
  ChargedAllocator() = default;
  template <typename U>
  ChargedAllocator(const ChargedAllocator<U>&) {}  // NOLINT: as allocators are
  T* allocate(size_t n) {
    T* p = std::allocator<T>().allocate(n);
    ChargedMemory::Charge(n * sizeof(T));
    return p;
  }
  void deallocate(T* p, size_t n) {
    ChargedMemory::Uncharge(n * sizeof(T));
    std::allocator<T>().deallocate(p, n);
  }
  template <typename U>
  friend bool operator==(const ChargedAllocator&, const ChargedAllocator<U>&) {
    return true;
  }
};

}  // namespace base

#endif  // BASE_CHARGED_MEMORY_H_

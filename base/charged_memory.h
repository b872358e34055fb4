// ChargedMemory: what the sentry spends on objects of which a guest can make many: VMAs, dentries, inodes. Counted when
// they are allocated, and set against the sandbox's memory limit beside the guest's pages (platform/memory_file.h), so
// that a guest cannot have more by making us keep records of little things.
//
// One count per process, for a sentry is one sandbox. Relaxed: a sum that is asked now and then.
#ifndef BASE_CHARGED_MEMORY_H_
#define BASE_CHARGED_MEMORY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

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

 private:
  static inline std::atomic<int64_t> used_{0};
};

// A base of classes whose objects are charged, with what derives from them (delete goes through a virtual destructor,
// or the class is final).
class Charged {
 public:
  static void* operator new(size_t bytes) {
    void* p = ::operator new(bytes);
    ChargedMemory::Charge(bytes);
    return p;
  }
  static void operator delete(void* p, size_t bytes) {
    if (p != nullptr) ChargedMemory::Uncharge(bytes);
    ::operator delete(p);
  }

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

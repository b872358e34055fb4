#include "base/fiber_stack.h"

#include <sys/mman.h>

#include "base/check.h"
#include "base/sanitizers.h"
#include "base/syscall_unsafe.h"

namespace base {
namespace {

constexpr size_t kPage = 4096;
// What a cached stack keeps resident: most fibers never touch more.
constexpr size_t kKeepResident = 16 << 10;

// The C library's mmap and munmap, not raw calls: ThreadSanitizer has to see that these addresses begin a new life.
void Unmap(const FiberStack& stack) { CHECK(munmap(stack.mapping, stack.mapping_bytes) == 0); }

}  // namespace

FiberStackCache::~FiberStackCache() {
  for (const FiberStack& stack : free_) Unmap(stack);
}

FiberStack FiberStackCache::Take(size_t bytes) {
  size_t mapping_bytes = (bytes * kSanitizerStackFactor + kPage - 1) / kPage * kPage + FiberStack::kGuardBytes;
  {
    MutexLock lock(mu_);
    // Nearly all fibers of a sandbox have the same size: the newest is almost always the right one, and cache-warm.
    if (!free_.empty() && free_.back().mapping_bytes == mapping_bytes) {
      FiberStack stack = free_.back();
      free_.pop_back();
      return stack;
    }
  }
  void* mapped = mmap(nullptr, mapping_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  CHECK(mapped != MAP_FAILED && "no memory for a fiber stack");
  FiberStack stack{static_cast<std::byte*>(mapped), mapping_bytes};
  CHECK(Host(SYS_mprotect, stack.mapping, FiberStack::kGuardBytes, PROT_NONE).ok());
  return stack;
}

void FiberStackCache::Give(FiberStack stack) {
#ifdef BASE_ASAN
  // Frames that were left by the last switch are still poisoned; the next owner of these addresses must not inherit
  // that.
  __asan_unpoison_memory_region(stack.bottom(), stack.bytes());
#endif
  if (stack.bytes() > kKeepResident) {
    RawSyscall(SYS_madvise, ToRawArg(stack.bottom()), ToRawArg(stack.bytes() - kKeepResident), MADV_DONTNEED);
  }
  {
    MutexLock lock(mu_);
    if (free_.size() < kMaxCached) {
      free_.push_back(stack);
      return;
    }
  }
  Unmap(stack);
}

}  // namespace base

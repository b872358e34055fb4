// Which sanitizer this is built with, and what AddressSanitizer and ThreadSanitizer need to be told when a host thread
// changes its stack (<sanitizer/common_interface_defs.h>, <sanitizer/tsan_interface.h>). Nothing at all in other
// builds.
#ifndef BASE_SANITIZERS_H_
#define BASE_SANITIZERS_H_

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define BASE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BASE_ASAN 1
#endif
#endif

#if defined(__SANITIZE_THREAD__)
#define BASE_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define BASE_TSAN 1
#endif
#endif

#ifdef BASE_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef BASE_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace base {

#if defined(BASE_ASAN) || defined(BASE_TSAN)
inline constexpr size_t kSanitizerStackFactor = 4;  // their frames are larger
#else
inline constexpr size_t kSanitizerStackFactor = 1;
#endif

// One stack that code can run on: a host thread's own or a fiber's. Leave and Arrive bracket each switch.
class StackTracker {
 public:
  // For a fiber's stack [bottom, bottom + bytes).
  void InitFiber([[maybe_unused]] const void* bottom, [[maybe_unused]] size_t bytes) {
#ifdef BASE_ASAN
    bottom_ = bottom;
    bytes_ = bytes;
#endif
#ifdef BASE_TSAN
    tsan_ = __tsan_create_fiber(0);
#endif
  }
  // For the stack that the calling host thread runs on.
  void InitHostThread() {
#ifdef BASE_TSAN
    tsan_ = __tsan_get_current_fiber();
#endif
  }
  // After the fiber's last switch away, on another stack.
  void DestroyFiber() {
#ifdef BASE_TSAN
    __tsan_destroy_fiber(tsan_);
    tsan_ = nullptr;
#endif
  }
  // On this stack, before it switches to `to`. `dying`: nothing will ever run on this one again.
  void Leave([[maybe_unused]] StackTracker& to, [[maybe_unused]] bool dying = false) {
#ifdef BASE_ASAN
    __sanitizer_start_switch_fiber(dying ? nullptr : &fake_stack_, to.bottom_, to.bytes_);
#endif
#ifdef BASE_TSAN
    __tsan_switch_to_fiber(to.tsan_, 0);
#endif
  }
  // On this stack, first thing after a switch from `from`, whose bounds it learns (a host thread's are not known
  // before).
  void Arrive([[maybe_unused]] StackTracker& from) {
#ifdef BASE_ASAN
    __sanitizer_finish_switch_fiber(fake_stack_, &from.bottom_, &from.bytes_);
#endif
  }

 private:
#ifdef BASE_ASAN
  const void* bottom_ = nullptr;
  size_t bytes_ = 0;
  void* fake_stack_ = nullptr;
#endif
#ifdef BASE_TSAN
  void* tsan_ = nullptr;
#endif
};

}  // namespace base

#endif  // BASE_SANITIZERS_H_

// CHECK: our own bugs end the process, in release too. Never used on anything a guest, a gofer or a user controls.
#ifndef BASE_CHECK_H_
#define BASE_CHECK_H_

namespace base {
// Prints file, line and text to the log and stderr with a raw write, then aborts. Safe in signal handlers.
[[noreturn]] void CheckFailed(const char* file, int line, const char* text);
}  // namespace base

#define CHECK(...)                                                                                  \
  do {                                                                                              \
    if (__builtin_expect(!(__VA_ARGS__), 0)) ::base::CheckFailed(__FILE__, __LINE__, #__VA_ARGS__); \
  } while (false)

#ifdef NDEBUG
#define DCHECK(...) \
  do {              \
  } while (false && (__VA_ARGS__))
#else
#define DCHECK(...) CHECK(__VA_ARGS__)
#endif

#endif  // BASE_CHECK_H_

// Clang's thread-safety attributes under short names (https://clang.llvm.org/docs/ThreadSafetyAnalysis.html).
#ifndef BASE_THREAD_ANNOTATIONS_H_
#define BASE_THREAD_ANNOTATIONS_H_

// Abseil still defines the same short names for its own past users, in a header of their own: taken in first, so that
// it cannot come later, and replaced.
#if __has_include("absl/base/internal/thread_annotations.h")
#include "absl/base/internal/thread_annotations.h"
#undef GUARDED_BY
#undef PT_GUARDED_BY
#undef ACQUIRED_BEFORE
#undef ACQUIRED_AFTER
#undef NO_THREAD_SAFETY_ANALYSIS
#endif

#if defined(__clang__)
#define TSA(x) __attribute__((x))
#else
#define TSA(x)
#endif

#define CAPABILITY(x) TSA(capability(x))
#define SCOPED_CAPABILITY TSA(scoped_lockable)
#define GUARDED_BY(x) TSA(guarded_by(x))
#define PT_GUARDED_BY(x) TSA(pt_guarded_by(x))
#define ACQUIRED_BEFORE(...) TSA(acquired_before(__VA_ARGS__))
#define ACQUIRED_AFTER(...) TSA(acquired_after(__VA_ARGS__))
#define REQUIRES(...) TSA(requires_capability(__VA_ARGS__))
#define REQUIRES_SHARED(...) TSA(requires_shared_capability(__VA_ARGS__))
#define EXCLUDES(...) TSA(locks_excluded(__VA_ARGS__))
#define ACQUIRE(...) TSA(acquire_capability(__VA_ARGS__))
#define ACQUIRE_SHARED(...) TSA(acquire_shared_capability(__VA_ARGS__))
#define RELEASE(...) TSA(release_capability(__VA_ARGS__))
#define RELEASE_SHARED(...) TSA(release_shared_capability(__VA_ARGS__))
#define RELEASE_GENERIC(...) TSA(release_generic_capability(__VA_ARGS__))
#define TRY_ACQUIRE(...) TSA(try_acquire_capability(__VA_ARGS__))
#define ASSERT_CAPABILITY(x) TSA(assert_capability(x))
#define RETURN_CAPABILITY(x) TSA(lock_returned(x))
#define NO_THREAD_SAFETY_ANALYSIS TSA(no_thread_safety_analysis)

#endif  // BASE_THREAD_ANNOTATIONS_H_

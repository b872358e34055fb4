/* The page that tells guests the time: written by the sentry's TimeKeeper, read by the vDSO (sentry/loader/vdso/vdso.c)
 * and by platforms that answer calls by themselves (Platform::clock_page). C, because the vDSO is. */
#ifndef PLATFORM_VDSO_PAGE_H_
#define PLATFORM_VDSO_PAGE_H_

#ifdef __cplusplus
#include <cstdint>
extern "C" {
#else
#include <stdint.h>
#endif

struct runsc_vdso_page {
  uint32_t sequence;  /* odd while the sentry writes */
  uint32_t cpus;      /* what getcpu may return is below it */
  uint64_t tsc_base;  /* monotonic_ns is the time at this TSC */
  uint64_t tsc_limit; /* from here on ask the sentry, which then publishes new values; 0: the TSC cannot be used */
  uint64_t mult;      /* ns per cycle, times 2^32 */
  int64_t monotonic_ns;
  int64_t realtime_offset_ns; /* to be added to the monotonic time */
  int64_t boottime_offset_ns;
  int64_t tai_offset_ns;
};

#ifdef __cplusplus
}
#endif

#endif /* PLATFORM_VDSO_PAGE_H_ */

/* The vDSO of guests: the functions that programs look up through AT_SYSINFO_EHDR (man 7 vdso). Freestanding and position independent;
 * the only data it reads is the parameter page that the sentry maps in front of the image. */
#include <stdint.h>

#include "platform/vdso_page.h"

/* Linker script: one page before the image. */
extern const struct runsc_vdso_page parameter_page __attribute__((visibility("hidden")));

struct timespec64 {
  int64_t tv_sec, tv_nsec;
};
struct timeval64 {
  int64_t tv_sec, tv_usec;
};
struct timezone {
  int32_t minutes_west, dst_time;
};

enum { kRealtime = 0, kMonotonic = 1, kRealtimeCoarse = 5, kMonotonicCoarse = 6, kBoottime = 7, kTai = 11 };
enum { kSysTime = 201, kSysGettimeofday = 96, kSysClockGettime = 228, kSysClockGetres = 229, kSysGetcpu = 309 };
enum { kNsPerSec = 1000000000 };

static inline long System(long number, long a, long b, long c) {
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return result;
}

static inline uint64_t ReadTsc(void) {
  uint32_t low, high;
  __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high)::"memory");
  return (uint64_t)high << 32 | low;
}

/* Nanoseconds of the clock, or -1: ask the sentry. */
static inline int64_t ReadClock(int clock) {
  const volatile struct runsc_vdso_page* page = &parameter_page;
  for (;;) {
    uint32_t sequence = page->sequence;
    if (sequence & 1) return -1; /* being written, perhaps by one who is off the CPU */
    __asm__ volatile("" ::: "memory");
    uint64_t tsc = ReadTsc();
    if (tsc >= page->tsc_limit) return -1;
    uint64_t base = page->tsc_base;
    /* CPUs' counters may be a few cycles apart. */
    uint64_t cycles = tsc > base ? tsc - base : 0;
    int64_t ns = page->monotonic_ns + (int64_t)((unsigned __int128)cycles * page->mult >> 32);
    switch (clock) {
      case kRealtime:
      case kRealtimeCoarse:
        ns += page->realtime_offset_ns;
        break;
      case kBoottime:
        ns += page->boottime_offset_ns;
        break;
      case kTai:
        ns += page->tai_offset_ns;
        break;
      default:
        break;
    }
    __asm__ volatile("" ::: "memory");
    if (page->sequence == sequence) return ns;
  }
}

int __vdso_clock_gettime(int clock, struct timespec64* out) {
  switch (clock) {
    case kRealtime:
    case kMonotonic:
    case kRealtimeCoarse:
    case kMonotonicCoarse:
    case kBoottime:
    case kTai: {
      int64_t ns = ReadClock(clock);
      if (ns < 0) break;
      out->tv_sec = ns / kNsPerSec;
      out->tv_nsec = ns % kNsPerSec;
      return 0;
    }
    default:
      break;
  }
  return (int)System(kSysClockGettime, clock, (long)out, 0);
}

int __vdso_gettimeofday(struct timeval64* out, struct timezone* zone) {
  int64_t ns = ReadClock(kRealtime);
  if (ns < 0) return (int)System(kSysGettimeofday, (long)out, (long)zone, 0);
  if (out) {
    out->tv_sec = ns / kNsPerSec;
    out->tv_usec = ns % kNsPerSec / 1000;
  }
  if (zone) {
    zone->minutes_west = 0;
    zone->dst_time = 0;
  }
  return 0;
}

int64_t __vdso_time(int64_t* out) {
  int64_t ns = ReadClock(kRealtime);
  if (ns < 0) return System(kSysTime, (long)out, 0, 0);
  int64_t seconds = ns / kNsPerSec;
  if (out) *out = seconds;
  return seconds;
}

int __vdso_clock_getres(int clock, struct timespec64* out) {
  switch (clock) {
    case kRealtime:
    case kMonotonic:
    case kBoottime:
    case kTai:
      if (out) {
        out->tv_sec = 0;
        out->tv_nsec = 1;
      }
      return 0;
    default:
      return (int)System(kSysClockGetres, clock, (long)out, 0);
  }
}

int __vdso_getcpu(uint32_t* cpu, uint32_t* node, void* unused) {
  /* The limit of the host's per-CPU segment holds the number of the CPU (arch/x86/include/asm/segment.h, vdso_read_cpunode). */
  uint32_t limit;
  char valid;
  __asm__ volatile("lsl %2, %0" : "=r"(limit), "=@ccz"(valid) : "r"(0x7bu));
  uint32_t cpus = ((const volatile struct runsc_vdso_page*)&parameter_page)->cpus;
  if (!valid || cpus == 0) return (int)System(kSysGetcpu, (long)cpu, (long)node, 0);
  if (cpu) *cpu = (limit & 0xfff) % cpus;
  if (node) *node = 0;
  return 0;
}

int clock_gettime(int, struct timespec64*) __attribute__((weak, alias("__vdso_clock_gettime")));
int gettimeofday(struct timeval64*, struct timezone*) __attribute__((weak, alias("__vdso_gettimeofday")));
int64_t time(int64_t*) __attribute__((weak, alias("__vdso_time")));
int clock_getres(int, struct timespec64*) __attribute__((weak, alias("__vdso_clock_getres")));
int getcpu(uint32_t*, uint32_t*, void*) __attribute__((weak, alias("__vdso_getcpu")));

#include "sentry/time/time_keeper.h"

#include <cpuid.h>
#include <fcntl.h>
#include <x86intrin.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>
#include <string_view>

#include "base/logging.h"
#include "base/syscall_unsafe.h"
#include "sentry/time/conversions.h"

namespace sentry {
namespace {

using base::HostClockNs;

// How long a set of parameters is good for.
constexpr int64_t kValidityNs = kNsPerSec;
// The shortest distance between two samples that gives a frequency: 40 ns of jitter are under a ppm of it.
constexpr int64_t kMinBaselineNs = 50'000'000;
// Longer ones start over, so that the host's slewing (adjtimex) is followed.
constexpr int64_t kMaxBaselineNs = 10 * kNsPerSec;
// Two clocks of the host that differ by a constant are sampled with some jitter; only a larger change is one.
constexpr int64_t kOffsetJitterNs = 20'000;
// A second's worth of disagreement with the host beyond NTP's 500 ppm and a bad sample: this TSC is not what CPUID says
// it is.
constexpr int64_t kMaxDisagreementNs = 2'000'000;

uint64_t ReadTsc() {
  _mm_lfence();
  return __rdtsc();
}

bool InvariantTsc() {
  unsigned a, b, c, d;
  if (!__get_cpuid(0x80000007, &a, &b, &c, &d)) return false;
  return d & (1u << 8);
}

// A host clock between two readings of the TSC; the best of several, for the thread may be preempted in between.
struct Sample {
  uint64_t tsc = 0;
  int64_t ns = 0;
};
Sample TakeSample() {
  Sample best;
  uint64_t best_width = UINT64_MAX;
  for (int i = 0; i < 5; ++i) {
    uint64_t before = ReadTsc();
    int64_t ns = HostClockNs(CLOCK_MONOTONIC);
    uint64_t after = ReadTsc();
    if (after - before < best_width) {
      best_width = after - before;
      best = {before + (after - before) / 2, ns};
    }
  }
  return best;
}

// How far a host clock is ahead of CLOCK_MONOTONIC.
int64_t OffsetOf(clockid_t clock) {
  int64_t best = 0, best_width = INT64_MAX;
  for (int i = 0; i < 3; ++i) {
    int64_t before = HostClockNs(CLOCK_MONOTONIC);
    int64_t ns = HostClockNs(clock);
    int64_t after = HostClockNs(CLOCK_MONOTONIC);
    if (after - before < best_width) {
      best_width = after - before;
      best = ns - (before + (after - before) / 2);
    }
  }
  return best;
}

void UpdateOffset(int64_t& offset, int64_t measured) {
  if (std::abs(measured - offset) > kOffsetJitterNs) offset = measured;
}

}  // namespace

TimeKeeper::TimeKeeper(int cpus, bool allow_tsc) : tsc_usable_(allow_tsc && InvariantTsc()) {
  base::MutexLock lock(mu_);
  params_.cpus = static_cast<uint32_t>(cpus);
  if (tsc_usable()) {
    Sample sample = TakeSample();
    anchor_tsc_ = sample.tsc;
    anchor_ns_ = sample.ns;
  }
}

bool TimeKeeper::HostTrustsTsc() {
  auto fd = base::HostRetry(SYS_open, "/sys/devices/system/clocksource/clocksource0/current_clocksource",
                            O_RDONLY | O_CLOEXEC);
  if (!fd.ok()) return true;
  char name[64] = {};
  auto n = base::HostRetry(SYS_read, *fd, name, sizeof name - 1);
  (void)base::Host(SYS_close, *fd).ok();
  if (!n.ok()) return true;
  std::string_view clocksource(name);
  return clocksource.starts_with("tsc") || clocksource.starts_with("kvm-clock") ||
         clocksource.starts_with("hyperv_clocksource_tsc_page");
}

int64_t TimeKeeper::MonotonicAtLocked(uint64_t tsc) const {
  // CPUs' counters may be a few cycles apart; before the base counts as at it, as in the host's vDSO.
  uint64_t cycles = tsc > params_.tsc_base ? tsc - params_.tsc_base : 0;
  return params_.monotonic_ns + static_cast<int64_t>(static_cast<unsigned __int128>(cycles) * params_.mult >> 32);
}

void TimeKeeper::RefreshLocked() {
  Sample now = TakeSample();
  int64_t baseline = now.ns - anchor_ns_;
  if (baseline < kMinBaselineNs || now.tsc <= anchor_tsc_) return;
  uint64_t cycles = now.tsc - anchor_tsc_;
  uint64_t mult = static_cast<uint64_t>((static_cast<unsigned __int128>(baseline) << 32) / cycles);
  int64_t host = now.ns + offsets_.monotonic;
  int64_t shown = host;
  if (params_.tsc_limit != 0) {
    // The latest time that the old parameters can have shown. What comes now may not be before it.
    int64_t latest = MonotonicAtLocked(std::min(params_.tsc_limit, now.tsc));
    if (latest - host > kMaxDisagreementNs) {
      LOG_WARNING("the TSC was %ld ns ahead of the host's clock: the vDSO will make system calls",
                  static_cast<long>(latest - host));
      tsc_usable_.store(false, std::memory_order_relaxed);
      params_.tsc_limit = 0;
      PublishLocked();
      return;
    }
    shown = std::max(host, latest);
  }
  // Slower for a second where the last parameters were too fast.
  mult = static_cast<uint64_t>(static_cast<unsigned __int128>(mult) * (kValidityNs - (shown - host)) / kValidityNs);
  if (mult == 0) return;
  params_.tsc_base = now.tsc;
  params_.monotonic_ns = shown;
  params_.mult = mult;
  params_.tsc_limit = now.tsc + static_cast<uint64_t>((static_cast<unsigned __int128>(kValidityNs) << 32) / mult);
  UpdateOffset(params_.realtime_offset_ns, OffsetOf(CLOCK_REALTIME) + offsets_.realtime - offsets_.monotonic);
  UpdateOffset(params_.boottime_offset_ns, OffsetOf(CLOCK_BOOTTIME) + offsets_.boottime - offsets_.monotonic);
  UpdateOffset(params_.tai_offset_ns, OffsetOf(CLOCK_TAI) + offsets_.realtime - offsets_.monotonic);
  if (baseline > kMaxBaselineNs) {
    anchor_tsc_ = now.tsc;
    anchor_ns_ = now.ns;
  }
  PublishLocked();
}

void TimeKeeper::PublishLocked() {
  auto write = [this](uint64_t offset, std::span<const std::byte> bytes) NO_THREAD_SAFETY_ANALYSIS {
    for (const PageWriter& writer : writers_) writer(offset, bytes);
  };
  // A sequence lock whose stores the processor keeps in order (amd64) and the compiler too (calls through a function
  // object).
  auto sequence = [&] { return std::as_bytes(std::span(&params_.sequence, 1)); };
  ++params_.sequence;
  write(offsetof(runsc_vdso_page, sequence), sequence());
  write(sizeof params_.sequence, std::as_bytes(std::span(&params_, 1)).subspan(sizeof params_.sequence));
  ++params_.sequence;
  write(offsetof(runsc_vdso_page, sequence), sequence());
}

void TimeKeeper::AddPageWriter(PageWriter writer) {
  base::MutexLock lock(mu_);
  writers_.push_back(std::move(writer));
  PublishLocked();
}

void TimeKeeper::SetOffsets(int64_t realtime_ns, int64_t monotonic_ns, int64_t boottime_ns) {
  base::MutexLock lock(mu_);
  offsets_ = {realtime_ns, monotonic_ns, boottime_ns};
  params_.tsc_limit = 0;  // nothing of before counts
  PublishLocked();
  if (tsc_usable()) RefreshLocked();
}

base::Result<int64_t> TimeKeeper::Now(int clock_id) {
  base::MutexLock lock(mu_);
  if (clock_id == kClockMonotonicRaw) return HostClockNs(CLOCK_MONOTONIC_RAW) + offsets_.monotonic;
  bool from_tsc = false;
  int64_t monotonic = 0;
  if (tsc_usable()) {
    uint64_t tsc = ReadTsc();
    if (tsc >= params_.tsc_limit) {
      RefreshLocked();
      tsc = ReadTsc();
    }
    if (tsc < params_.tsc_limit) {
      from_tsc = true;
      monotonic = MonotonicAtLocked(tsc);
    }
  }
  switch (clock_id) {
    case kClockRealtime:
    case kClockRealtimeCoarse:
    case kClockRealtimeAlarm:
      return from_tsc ? monotonic + params_.realtime_offset_ns : HostClockNs(CLOCK_REALTIME) + offsets_.realtime;
    case kClockMonotonic:
    case kClockMonotonicCoarse:
      return from_tsc ? monotonic : HostClockNs(CLOCK_MONOTONIC) + offsets_.monotonic;
    case kClockBoottime:
    case kClockBoottimeAlarm:
      return from_tsc ? monotonic + params_.boottime_offset_ns : HostClockNs(CLOCK_BOOTTIME) + offsets_.boottime;
    case kClockTai:
      return from_tsc ? monotonic + params_.tai_offset_ns : HostClockNs(CLOCK_TAI) + offsets_.realtime;
    default:
      return Errno(EINVAL);
  }
}

base::Result<int64_t> TimeKeeper::ResolutionNs(int clock_id) {
  switch (clock_id) {
    case kClockRealtime:
    case kClockMonotonic:
    case kClockMonotonicRaw:
    case kClockBoottime:
    case kClockRealtimeAlarm:
    case kClockBoottimeAlarm:
    case kClockTai:
      return int64_t{1};
    case kClockRealtimeCoarse:
    case kClockMonotonicCoarse:
      return int64_t{4'000'000};  // a kernel with 250 ticks a second
    default:
      return Errno(EINVAL);
  }
}

base::Result<base::MonotonicNs> TimeKeeper::HostDeadline(int clock_id, int64_t ns) {
  int64_t now = TRY(Now(clock_id));
  if (ns == kMaxNs) return base::kNever;
  int64_t host = base::MonotonicNow();
  if (ns <= now) return host;
  return AddSaturated(host, ns - now);
}

}  // namespace sentry

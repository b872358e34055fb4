// Signal numbers, sets, and what is queued. (man 7 signal, kernel/signal.c)
#ifndef SENTRY_KERNEL_SIGNAL_H_
#define SENTRY_KERNEL_SIGNAL_H_

#include <array>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <vector>

#include "base/charged_memory.h"
#include "base/mutex.h"
#include "base/ref_ptr.h"
#include "sentry/abi/types.h"

namespace sentry {

inline constexpr int kSignals = 64;
inline constexpr int kFirstRtSignal = 32;  // the kernel's SIGRTMIN

enum Signal : int {
  kSIGHUP = 1,
  kSIGINT,
  kSIGQUIT,
  kSIGILL,
  kSIGTRAP,
  kSIGABRT,
  kSIGBUS,
  kSIGFPE,
  kSIGKILL,
  kSIGUSR1,
  kSIGSEGV,
  kSIGUSR2,
  kSIGPIPE,
  kSIGALRM,
  kSIGTERM,
  kSIGSTKFLT,
  kSIGCHLD,
  kSIGCONT,
  kSIGSTOP,
  kSIGTSTP,
  kSIGTTIN,
  kSIGTTOU,
  kSIGURG,
  kSIGXCPU,
  kSIGXFSZ,
  kSIGVTALRM,
  kSIGPROF,
  kSIGWINCH,
  kSIGIO,
  kSIGPWR,
  kSIGSYS,
};

// si_code values (include/uapi/asm-generic/siginfo.h).
enum : int {
  kSiUser = 0,
  kSiKernel = 0x80,
  kSiQueue = -1,
  kSiTimer = -2,
  kSiMesgq = -3,
  kSiAsyncio = -4,
  kSiSigio = -5,
  kSiTkill = -6
};

// A set of signals: bit n−1 is signal n, as in the ABI.
class SignalSet {
 public:
  constexpr SignalSet() = default;
  constexpr explicit SignalSet(uint64_t bits) : bits_(bits) {}
  static constexpr SignalSet Of(int signo) { return SignalSet(uint64_t{1} << (signo - 1)); }
  constexpr bool Has(int signo) const { return (bits_ >> (signo - 1)) & 1; }
  constexpr void Add(int signo) { bits_ |= uint64_t{1} << (signo - 1); }
  constexpr void Remove(int signo) { bits_ &= ~(uint64_t{1} << (signo - 1)); }
  constexpr uint64_t bits() const { return bits_; }
  constexpr bool empty() const { return bits_ == 0; }
  friend constexpr SignalSet operator|(SignalSet a, SignalSet b) { return SignalSet(a.bits_ | b.bits_); }
  friend constexpr SignalSet operator&(SignalSet a, SignalSet b) { return SignalSet(a.bits_ & b.bits_); }
  constexpr SignalSet Without(SignalSet o) const { return SignalSet(bits_ & ~o.bits_); }
  friend constexpr bool operator==(SignalSet, SignalSet) = default;

 private:
  uint64_t bits_ = 0;
};
inline constexpr SignalSet kUnblockable = SignalSet(SignalSet::Of(kSIGKILL) | SignalSet::Of(kSIGSTOP));
inline constexpr SignalSet kStopSignals =
    SignalSet::Of(kSIGSTOP) | SignalSet::Of(kSIGTSTP) | SignalSet::Of(kSIGTTIN) | SignalSet::Of(kSIGTTOU);

enum class DefaultAction { kTerminate, kCore, kIgnore, kStop, kContinue };
DefaultAction DefaultActionOf(int signo);

using SignalInfo = abi::Siginfo;
// A siginfo as kill(2) from `pid`, `uid` makes it; the kernel's own (SI_KERNEL).
SignalInfo UserSignal(int signo, int pid, uint32_t uid, int code = kSiUser);
SignalInfo KernelSignal(int signo);

struct QueuedSignal {
  SignalInfo info;
  // A POSIX timer's notification: merged while queued, its overrun counted (timer_getoverrun). Null for others.
  base::RefPtr<base::RefCounted> timer;
};

// The signals pending for a task or a thread group. Guarded by the thread group's signal lock. Standard signals are
// held once; real-time ones queue, bounded by RLIMIT_SIGPENDING of their sender's user.
class PendingSignals {
 public:
  // False if a standard signal is pending already (dropped, as on Linux).
  bool Push(const QueuedSignal& signal);
  SignalSet set() const { return set_; }
  // The next signal in `deliverable`: synchronous ones first, then the lowest number.
  std::optional<QueuedSignal> Pop(SignalSet deliverable);
  void Discard(SignalSet signals);
  // At most `count` of what is queued, from number `offset` on.
  std::vector<SignalInfo> Peek(uint64_t offset, size_t count) const;
  size_t queued() const { return queued_; }
  // The queued notification of this timer, if any.
  QueuedSignal* FindTimer(const base::RefCounted* timer);

 private:
  SignalSet set_;
  size_t queued_ = 0;
  using Queue = std::list<QueuedSignal, base::ChargedAllocator<QueuedSignal>>;
  std::array<std::unique_ptr<Queue>, kSignals> queues_;
};

// sa_flags (asm-generic/signal-defs.h; amd64).
enum : uint64_t {
  kSaNoCldStop = 1,
  kSaNoCldWait = 2,
  kSaSigInfo = 4,
  kSaExposeTagbits = 0x800,
  kSaRestorer = 0x04000000,
  kSaOnStack = 0x08000000,
  kSaRestart = 0x10000000,
  kSaNoDefer = 0x40000000,
  kSaResetHand = 0x80000000,
};
inline constexpr uint64_t kSigDfl = 0, kSigIgn = 1;

// The dispositions, shared by CLONE_SIGHAND. Guarded by the signal lock of the thread groups that share it: one lock
// object lives here.
struct SignalHandlers final : public base::RefCounted {
  base::Mutex mu;  // "siglock": also guards the pending queues, masks and stop state of every thread group that uses
                   // these handlers
  std::array<abi::KSigaction, kSignals> actions{};  // guarded by mu
};

}  // namespace sentry

#endif  // SENTRY_KERNEL_SIGNAL_H_

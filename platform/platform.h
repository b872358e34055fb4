// Platform: how guest code runs. Nothing above this folder knows which one does.
//
// The interface is asynchronous (DESIGN.md §3). Context::Start lets a guest thread run and returns; the platform calls
// the completion later, on any host thread. Run (platform/sync.h) is the same as a call that parks the fiber.
//
// Everything that comes back from a platform was under the guest's control: registers are data, never evidence.
#ifndef PLATFORM_PLATFORM_H_
#define PLATFORM_PLATFORM_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/errno.h"
#include "base/executor.h"
#include "base/interval_map.h"
#include "base/ref_ptr.h"
#include "platform/registers.h"

namespace platform {

class Context;

enum class AccessType : uint8_t { kRead, kWrite, kExecute };

// Why a guest thread came back.
enum class ExitReason : uint8_t {
  kSystemCall,   // registers().orig_rax is the number, arguments as in the ABI; rip is after the instruction; rax is
                 // −ENOSYS
  kFault,        // a page fault: address and access. Served from the VMAs or turned into SIGSEGV or SIGBUS.
  kException,    // any other synchronous exception: signo, si_code, address are what Linux would deliver
  kInterrupted,  // Interrupt was called. Nothing else happened.
  kDead,         // the guest thread or its address space is gone (killed on the host, out of memory); never comes back
};

struct Exit {
  ExitReason reason = ExitReason::kDead;
  AccessType access = AccessType::kRead;  // kFault
  int signo = 0;                          // kException: SIGILL, SIGFPE, SIGTRAP, SIGBUS, SIGSEGV (no page involved)
  int si_code = 0;
  uint64_t address = 0;      // kFault: the byte; kException: si_addr
  uint32_t trap_number = 0;  // x86 vector and error code, for the signal frame
  uint32_t error_code = 0;
  // kSystemCall: it came the slow way, which a patched call site would spare (text_patcher.h). rip is behind the
  // instruction.
  bool trapped = false;
  // The guest thread has slept meanwhile, in a call that the platform made for it (AddressSpace::AddFutexWaiters): what
  // it has used of a CPU is Context::CpuTimeNs.
  bool slept = false;
  // Context::KeepsSignalMask, and not kDead: what the guest has made of its mask.
  uint64_t signal_mask = 0;
};

// Called once per Start. Any host thread; may be called from inside Start. Must not block or park: it unparks a fiber.
class Completion {
 public:
  virtual void Complete(const Exit& exit) = 0;

 protected:
  ~Completion() = default;
};

enum class Protection : uint8_t { kNone = 0, kRead = 1, kWrite = 2, kExecute = 4 };

// One change of an address space. Page-aligned guest addresses within Platform::GuestRange.
struct MapOp {
  enum class Kind : uint8_t { kMap, kUnmap, kProtect } kind;
  bool populate = false;  // kMap: fault the pages in now (MAP_POPULATE)
  uint8_t prot = 0;       // Protection bits; kMap and kProtect
  int fd = -1;            // kMap: the memory file or a donated file; shared mapping; open until Apply returns
  uint64_t start = 0;
  uint64_t length = 0;
  uint64_t offset = 0;  // kMap: in the file
};

// A guest's address space. Any fiber may call Apply; a mm serializes its own calls with its lock.
class AddressSpace : public base::RefCounted {
 public:
  // Makes the changes in order, as one round trip. Parks. kMap replaces what is mapped there. When it returns, no guest
  // thread can use a translation that it removed. On failure the Errno of the first change that failed; changes after
  // it were not made, and the caller unmaps the ranges it touched.
  virtual base::Result<void> Apply(std::span<const MapOp> ops) = 0;

  // Private futexes (man 2 futex). A platform may let guest threads whose CallAnswers are valid wait for and wake each
  // other without an exit; the caller has waiters of its own beside them.
  // The caller has `n` more or fewer waiters at the address: while there are any, wakes there are exits. Called before
  // the waiter compares the word. Does not park; any lock may be held.
  virtual void AddFutexWaiters(uint64_t address, int n) {}
  // Wakes at most `count` guest threads that wait so; how many. After the word was changed. Parks.
  virtual base::Result<int> WakeFutex(uint64_t address, int count) { return 0; }
  // Wakes at most `wake` of them and lets `requeue` others wait at `to`; how many in all. Parks.
  virtual base::Result<int> RequeueFutex(uint64_t address, uint64_t to, int wake, int requeue) { return 0; }

  // For an exec: a new address space, in which `ops` alone are mapped, with what this one has on the host, which is
  // released. `context` is not running, and has to be the only one that has run here: it goes on in the new address
  // space, with no trace of the old program but in registers() (its vector state is the initial one). Parks. ENOTSUP:
  // nothing has happened, and NewAddressSpace does the same for more time. After any other error this one is released.
  // The old program may have prepared what the new one will meet, as far as one that can trace the other could: not for
  // programs that gain rights.
  virtual base::Result<base::RefPtr<AddressSpace>> Renew(Context& context, std::span<const MapOp> ops) {
    return base::Errno(ENOTSUP);
  }
  // Whether it would not fail with ENOTSUP now. The caller's fiber is the context's.
  virtual bool CanRenew(const Context& context) const { return false; }

  // Unmaps everything and ends the host resources. After it no guest code runs in it. Parks. Idempotent; the last Unref
  // does the same without waiting.
  virtual void Release() = 0;
};

// What calls return that only ask: a platform may answer them by itself, without an exit. sched_yield(2) and, by
// Platform::clock_page, clock_gettime(2), gettimeofday(2), time(2) and getcpu(2) belong to them.
struct CallAnswers {
  static constexpr size_t kLimits = 16;       // RLIM_NLIMITS
  static constexpr size_t kUtsname = 6 * 65;  // struct new_utsname (uapi/linux/utsname.h)
  struct Limit {
    uint64_t soft = 0, hard = 0;
  };
  bool valid = false;  // false: every call has to be an exit
  uint32_t tid = 0, pid = 0, ppid = 0, uid = 0, euid = 0, gid = 0, egid = 0;
  uint32_t pgid = 0, sid = 0;
  uint64_t affinity = 0;        // sched_getaffinity(2)
  uint32_t affinity_bytes = 0;  // a buffer has to have at least so many; 0: not to be answered
  std::array<Limit, kLimits> limits{};
  std::array<char, kUtsname> uname{};
};

// A guest thread's CPU state. Used by one fiber, its task's, except for Interrupt.
class Context {
 public:
  virtual ~Context() = default;

  // Gets from the host what the first Start in `as` needs, so that clone(2) can fail with EAGAIN where Start could only
  // complete with kDead. Optional, before the first Start; parks, on any fiber. EAGAIN, ENOMEM; ESRCH: `as` is gone.
  virtual base::Result<void> Prepare(AddressSpace& as) { return {}; }
  // Lets the guest run in `as` with registers() until something happens. The context, `as` and `done` stay alive until
  // the completion. Called on a fiber (a platform may move the fiber to another executor).
  virtual void Start(AddressSpace& as, Completion& done) = 0;
  // Makes a running Start complete soon with kInterrupted (or with what happens first); if none is running, the next
  // Start completes so at once. Any thread.
  virtual void Interrupt() = 0;

  // Valid while not running; changes take effect at the next Start.
  Registers& registers() { return registers_; }
  // The XSAVE area (XStateSize bytes), fetched when first asked for after an exit.
  virtual std::span<const std::byte> XState() = 0;
  // A copy to write; takes effect at the next Start. The caller has passed it through SanitizeXState if a guest made
  // it.
  virtual void SetXState(std::span<const std::byte> area) = 0;
  // Single-step: the next Start completes with SIGTRAP/TRAP_TRACE after one instruction (ptrace in the guest).
  virtual void SetSingleStep(bool on) = 0;
  // From the next Start on. At first nothing is answered.
  virtual void SetAnswers(const CallAnswers& answers) {}
  // From now on every call is an exit, until the next SetAnswers: a call that begins after this has returned does not
  // see the old answers. Any thread, under any lock; while the guest runs, too.
  virtual void WithdrawAnswers() {}
  // The set of blocked signals (man 2 rt_sigprocmask): a platform may keep it while the guest runs, and let the guest
  // change it without an exit; signals are the caller's business all the same.
  virtual bool KeepsSignalMask() const { return false; }
  // What it is at the next Start. Not while running.
  virtual void SetSignalMask(uint64_t mask) {}
  // Whether the guest may change it by itself: at first it may not. Any thread, under any lock; while the guest runs,
  // too. Once this has returned with false, SignalMask says what the guest has made of it, or will have when a change
  // under way turns out to have been too late: then it is undone, and the call an exit.
  virtual void AllowMaskChanges(bool allowed) {}
  // What it is now, while running. The guest's claim. Any thread.
  virtual uint64_t SignalMask() { return 0; }
  // The CPU time that what runs it now has used, of all that it ran; only differences mean something.
  virtual int64_t CpuTimeNs() { return 0; }
  // The host CPU on which it ran last, for getcpu(2); a hint.
  virtual int LastCpu() const = 0;

 protected:
  Registers registers_{};
};

class TextPatcher;

class Platform {
 public:
  virtual ~Platform() = default;
  virtual std::string_view name() const = 0;
  // Guest addresses that a mm may use, below the platform's own pages. At least [64 KiB, 128 TiB − 256 MiB).
  virtual base::Range GuestRange() const = 0;
  // Parks. EAGAIN or ENOMEM when the host refuses.
  virtual base::Result<base::RefPtr<AddressSpace>> NewAddressSpace() = 0;
  // A context with zeroed registers, user selectors and the initial XSTATE.
  virtual base::Result<std::unique_ptr<Context>> NewContext() = 0;
  // The strategy that executor `index` has to idle with; null for the default one. Asked before the scheduler starts.
  virtual std::unique_ptr<base::IdleStrategy> NewIdleStrategy(int index) { return nullptr; }
  // Guest threads that ran or wait for a host CPU now; a hint for /proc/loadavg and placement.
  virtual int RunningContexts() const = 0;
  // A page for struct runsc_vdso_page (platform/vdso_page.h), which guest threads can read: for a platform that answers
  // by itself what time it is. It starts as zeroes, by which nothing is answered. Null: there is none.
  virtual std::byte* clock_page() { return nullptr; }
  // Null where a jump is no faster than the instruction, or patching is off.
  virtual TextPatcher* text_patcher() { return nullptr; }
};

}  // namespace platform

#endif  // PLATFORM_PLATFORM_H_

#include "platform/kvm/kick.h"

#include <signal.h>

#include <cstdint>

#include "base/syscall_unsafe.h"

extern "C" void runsc_kvm_kick_handler(int);
extern "C" void runsc_kvm_kick_restorer();
// Not through libc: a sanitizer would wrap the handler and defer it.
asm(R"(
  .text
  .globl runsc_kvm_kick_handler, runsc_kvm_kick_restorer
  .type runsc_kvm_kick_handler, @function
runsc_kvm_kick_handler:
  endbr64
  ret
  .type runsc_kvm_kick_restorer, @function
runsc_kvm_kick_restorer:
  mov $15, %eax
  syscall
)");

namespace platform::kvm {

base::Result<void> InstallKickHandler() {
  constexpr uint64_t kRestorer = 0x04000000;
  struct {
    void (*handler)(int);
    uint64_t flags;
    void (*restorer)();
    uint64_t mask;
  } action = {runsc_kvm_kick_handler, SA_RESTART | SA_ONSTACK | kRestorer, runsc_kvm_kick_restorer, 0};
  TRY(base::Host(SYS_rt_sigaction, kKickSignal, &action, nullptr, 8));
  return {};
}

void UnblockKick() {
  const uint64_t mask = uint64_t{1} << (kKickSignal - 1);
  (void)base::Host(SYS_rt_sigprocmask, SIG_UNBLOCK, &mask, nullptr, 8);
}

}  // namespace platform::kvm

#include "base/safe_copy_unsafe.h"

#include <signal.h>
#include <string.h>
#include <ucontext.h>

#include <atomic>

#include "base/check.h"
#include "base/executor_internal.h"
#include "base/logging_internal.h"
#include "base/syscall_unsafe.h"

// The routines, in assembly because the fault handler has to know what each instruction leaves undone. All of them
// return two values: rax, and in rdx the signal (0 without a fault; the handler puts it there when it redirects to a
// fix-up).
//
// runsc_safe_copy(dst rdi, src rsi, bytes rdx): rax is the number of bytes *not* copied. `rep movsb` keeps rcx exact
// when it faults, and is the fastest copy for long ranges; for short ones its start-up costs more than the copy, so
// these go by words. A word that faults is copied again by bytes up to the faulting one, so that the count is exact
// there too.
asm(R"(
    .pushsection .text
    .p2align 4
    .globl runsc_safe_copy
    .type runsc_safe_copy, @function
runsc_safe_copy:
    .cfi_startproc
    endbr64
    movq %rdx, %rcx
    xorl %edx, %edx
    cmpq $256, %rcx
    jb 2f
    .globl runsc_safe_copy_long
runsc_safe_copy_long:
    rep movsb
    .globl runsc_safe_copy_long_end
runsc_safe_copy_long_end:
    movq %rcx, %rax
    ret
2:  cmpq $8, %rcx
    jb 4f
3:
    .globl runsc_safe_copy_words
runsc_safe_copy_words:
    movq (%rsi), %rax
    movq %rax, (%rdi)
    .globl runsc_safe_copy_words_end
runsc_safe_copy_words_end:
    addq $8, %rsi
    addq $8, %rdi
    subq $8, %rcx
    cmpq $8, %rcx
    jae 3b
4:  testq %rcx, %rcx
    jz 6f
    .globl runsc_safe_copy_tail
runsc_safe_copy_tail:
5:  movb (%rsi), %al
    movb %al, (%rdi)
    .globl runsc_safe_copy_tail_end
runsc_safe_copy_tail_end:
    incq %rsi
    incq %rdi
    decq %rcx
    jnz 5b
6:
    .globl runsc_safe_copy_fault
runsc_safe_copy_fault:
    movq %rcx, %rax
    ret
    .cfi_endproc
    .size runsc_safe_copy, . - runsc_safe_copy

    .p2align 4
    .globl runsc_safe_zero
    .type runsc_safe_zero, @function
runsc_safe_zero:
    .cfi_startproc
    endbr64
    movq %rsi, %rcx
    xorl %edx, %edx
    xorl %eax, %eax
    .globl runsc_safe_zero_fill
runsc_safe_zero_fill:
    rep stosb
    .globl runsc_safe_zero_fill_end
runsc_safe_zero_fill_end:
    movq %rcx, %rax
    ret
    .cfi_endproc
    .size runsc_safe_zero, . - runsc_safe_zero

    .p2align 4
    .globl runsc_safe_load32
    .type runsc_safe_load32, @function
runsc_safe_load32:
    .cfi_startproc
    endbr64
    xorl %edx, %edx
    .globl runsc_safe_load32_access
runsc_safe_load32_access:
    movl (%rdi), %eax
    .globl runsc_safe_load32_access_end
runsc_safe_load32_access_end:
    ret
    .cfi_endproc
    .size runsc_safe_load32, . - runsc_safe_load32

    .p2align 4
    .globl runsc_safe_cas32
    .type runsc_safe_cas32, @function
runsc_safe_cas32:
    .cfi_startproc
    endbr64
    movl %esi, %eax
    movl %edx, %ecx
    xorl %edx, %edx
    .globl runsc_safe_cas32_access
runsc_safe_cas32_access:
    lock cmpxchgl %ecx, (%rdi)
    .globl runsc_safe_cas32_access_end
runsc_safe_cas32_access_end:
    ret
    .cfi_endproc
    .size runsc_safe_cas32, . - runsc_safe_cas32
    .popsection
)");

namespace base {
namespace {

struct AsmResult {
  uint64_t value;   // rax
  uint64_t signal;  // rdx
};

extern "C" {
AsmResult runsc_safe_copy(void* dst, const void* src, size_t bytes);
AsmResult runsc_safe_zero(void* dst, size_t bytes);
AsmResult runsc_safe_load32(const uint32_t* address);
AsmResult runsc_safe_cas32(uint32_t* address, uint32_t expected, uint32_t desired);
extern const char runsc_safe_copy_long[], runsc_safe_copy_long_end[];
extern const char runsc_safe_copy_words[], runsc_safe_copy_words_end[];
extern const char runsc_safe_copy_tail[], runsc_safe_copy_tail_end[];
extern const char runsc_safe_copy_fault[];
extern const char runsc_safe_zero_fill[], runsc_safe_zero_fill_end[];
extern const char runsc_safe_load32_access[], runsc_safe_load32_access_end[];
extern const char runsc_safe_cas32_access[], runsc_safe_cas32_access_end[];
}

// An access that may fault, and where to go on when it did.
struct Recovery {
  const char* start;
  const char* end;
  const char* resume;
};
const Recovery kRecoveries[] = {
    {runsc_safe_copy_long, runsc_safe_copy_long_end, runsc_safe_copy_long_end},
    {runsc_safe_copy_words, runsc_safe_copy_words_end, runsc_safe_copy_tail},
    {runsc_safe_copy_tail, runsc_safe_copy_tail_end, runsc_safe_copy_fault},
    {runsc_safe_zero_fill, runsc_safe_zero_fill_end, runsc_safe_zero_fill_end},
    {runsc_safe_load32_access, runsc_safe_load32_access_end, runsc_safe_load32_access_end},
    {runsc_safe_cas32_access, runsc_safe_cas32_access_end, runsc_safe_cas32_access_end},
};

struct sigaction previous_segv, previous_bus;
std::atomic<bool> installed{false};

class HexLine {
 public:
  HexLine& Text(const char* text) {
    while (*text != '\0' && used_ < sizeof(line_)) line_[used_++] = *text++;
    return *this;
  }
  HexLine& Hex(uint64_t value) {
    Text("0x");
    int shift = 60;
    while (shift > 0 && (value >> shift) == 0) shift -= 4;
    for (; shift >= 0 && used_ < sizeof(line_); shift -= 4) line_[used_++] = "0123456789abcdef"[value >> shift & 15];
    return *this;
  }
  std::string_view view() const { return {line_, used_}; }

 private:
  char line_[256];
  size_t used_ = 0;
};

// Not instrumented: ThreadSanitizer does not see the kernel write the signal frame, and would find races between frames
// of threads that had their stacks at the same address one after the other.
__attribute__((no_sanitize("thread"))) void OnFault(int signal, siginfo_t* info, void* raw_context) {
  auto* context = static_cast<ucontext_t*>(raw_context);
  greg_t* registers = context->uc_mcontext.gregs;
  // si_code > 0: raised by the kernel for this very instruction, not sent by somebody.
  if (info->si_code > 0) {
    auto* rip = reinterpret_cast<const char*>(registers[REG_RIP]);
    for (const Recovery& recovery : kRecoveries) {
      if (rip >= recovery.start && rip < recovery.end) {
        registers[REG_RIP] = reinterpret_cast<greg_t>(recovery.resume);
        registers[REG_RDX] = signal;
        return;
      }
    }
  }
  HexLine line;
  uint64_t address = reinterpret_cast<uint64_t>(info->si_addr);
  line.Text(signal == SIGSEGV ? "SIGSEGV" : "SIGBUS");
  if (info->si_code > 0) {
    line.Text(" at address ").Hex(address).Text(", rip ").Hex(registers[REG_RIP]);
    line.Text(", rsp ").Hex(registers[REG_RSP]);
    if (IsFiberStackOverflow(address)) line.Text(": stack overflow of a fiber");
  } else {
    line.Text(" sent by a process");
  }
  internal::EmergencyLog(line.view());

  // What was there before us (a sanitizer's report), else the default: the instruction faults again and ends the
  // process.
  const struct sigaction& previous = signal == SIGSEGV ? previous_segv : previous_bus;
  if ((previous.sa_flags & SA_SIGINFO) != 0 && previous.sa_sigaction != nullptr) {
    previous.sa_sigaction(signal, info, raw_context);
    return;
  }
  struct sigaction fatal {};
  fatal.sa_handler = SIG_DFL;
  sigaction(signal, &fatal, nullptr);
  if (info->si_code <= 0) raise(signal);  // delivered when the handler returns
}

}  // namespace

void InstallSafeCopyHandlers() {
  if (installed.exchange(true)) return;
  struct sigaction action {};
  action.sa_sigaction = &OnFault;
  // On the alternate stack where a thread has one: the fault may be that a fiber's stack is used up. SA_NODEFER, since
  // a copy that faults inside of another signal's handler is as good as any.
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigemptyset(&action.sa_mask);
  CHECK(sigaction(SIGSEGV, &action, &previous_segv) == 0);
  CHECK(sigaction(SIGBUS, &action, &previous_bus) == 0);
}

CopyOutcome SafeCopy(void* dst, const void* src, size_t bytes) {
  AsmResult r = runsc_safe_copy(dst, src, bytes);
  return {bytes - r.value, static_cast<int>(r.signal)};
}

CopyOutcome SafeZero(void* dst, size_t bytes) {
  AsmResult r = runsc_safe_zero(dst, bytes);
  return {bytes - r.value, static_cast<int>(r.signal)};
}

Result<uint32_t> SafeLoad32(const uint32_t* address) {
  CHECK(reinterpret_cast<uintptr_t>(address) % 4 == 0);
  AsmResult r = runsc_safe_load32(address);
  if (r.signal != 0) return Errno(EFAULT);
  return static_cast<uint32_t>(r.value);
}

Result<uint32_t> SafeCompareExchange32(uint32_t* address, uint32_t expected, uint32_t desired) {
  CHECK(reinterpret_cast<uintptr_t>(address) % 4 == 0);
  AsmResult r = runsc_safe_cas32(address, expected, desired);
  if (r.signal != 0) return Errno(EFAULT);
  return static_cast<uint32_t>(r.value);
}

}  // namespace base

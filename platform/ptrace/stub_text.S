// The one page of code that stubs have (stub_layout.h says where). Position-independent, uses no stack and no memory but the
// command page, keeps nothing in a thread-local.
#include <asm/unistd.h>

#include "platform/ptrace/stub_layout.h"

#define PROT_READ 1
#define PROT_WRITE 2
#define PROT_EXEC 4
#define MAP_SHARED 1
#define MAP_PRIVATE 2
#define MAP_FIXED 0x10
#define PR_SET_PDEATHSIG 1
#define SIGKILL 9
#define MAX_ERRNO_START -4095

  .text
  .balign 4096
  .globl runsc_stub_text_begin, runsc_stub_text_end
  .globl runsc_stub_batch, runsc_stub_batch_end, runsc_stub_spawn, runsc_stub_sleep, runsc_stub_exit
runsc_stub_text_begin:

// The helper's loop: runs the operations of the command page until one fails, then stops. The tracer reads rax (the result of
// the last one) and r13 (how many were not begun or failed: 0 after success), writes the next batch and continues.
runsc_stub_batch:
  movabs $STUB_COMMAND_ADDRESS, %r12
  mov (%r12), %r13
  lea 64(%r12), %rbx
1:
  test %r13, %r13
  jz 2f
  mov 0(%rbx), %rax
  mov 8(%rbx), %rdi
  mov 16(%rbx), %rsi
  mov 24(%rbx), %rdx
  mov 32(%rbx), %r10
  mov 40(%rbx), %r8
  mov 48(%rbx), %r9
  syscall
  cmp $MAX_ERRNO_START, %rax
  jae 2f
  add $64, %rbx
  dec %r13
  jmp 1b
2:
  int3
runsc_stub_batch_end:
  jmp runsc_stub_batch

// A zygote's only work: the tracer has put an mmap of the newborn's command page in the system call registers and the flags of
// the clone in rbx. Stops with the child's id or −errno in rax. A child that is traced stops before its first instruction and
// is sent to runsc_stub_batch; one that is not becomes a zygote and waits to be traced.
runsc_stub_spawn:
  syscall
  cmp $MAX_ERRNO_START, %rax
  jae 1f
  mov $__NR_clone, %eax
  mov %rbx, %rdi
  xor %esi, %esi
  xor %edx, %edx
  xor %r10d, %r10d
  xor %r8d, %r8d
  syscall
  test %rax, %rax
  jz runsc_stub_sleep
1:
  int3
  jmp 1b

// A zygote that nobody traces.
runsc_stub_sleep:
  mov $__NR_prctl, %eax
  mov $PR_SET_PDEATHSIG, %edi
  mov $SIGKILL, %esi
  syscall
1:
  mov $__NR_pause, %eax
  syscall
  jmp 1b

// Ends a thread.
runsc_stub_exit:
  mov $__NR_exit, %eax
  xor %edi, %edi
  syscall
  hlt

// Where runsc_stub_enter continues in the first zygote: everything but the two pages goes, and the tracers are told by the first
// word of the command page, which is writable here alone.
runsc_stub_clear:
  mov $__NR_munmap, %eax
  xor %edi, %edi
  movabs $STUB_TEXT_ADDRESS, %rsi
  syscall
  mov $__NR_munmap, %eax
  movabs $(STUB_TEXT_ADDRESS + 4096), %rdi
  movabs $(STUB_COMMAND_ADDRESS - STUB_TEXT_ADDRESS - 4096), %rsi
  syscall
  mov $__NR_munmap, %eax
  movabs $(STUB_COMMAND_ADDRESS + 4096), %rdi
  movabs $(STUB_TOP_ADDRESS - STUB_COMMAND_ADDRESS - 4096), %rsi
  syscall
  movabs $STUB_COMMAND_ADDRESS, %rax
  movq $1, (%rax)
  jmp runsc_stub_sleep

  .balign 4096
runsc_stub_text_end:

  .globl runsc_stub_enter
  .type runsc_stub_enter, @function
runsc_stub_enter:
  mov %esi, %ebx
  mov %edi, %r8d
  movabs $STUB_TEXT_ADDRESS, %rdi
  mov $4096, %esi
  mov $(PROT_READ | PROT_EXEC), %edx
  mov $(MAP_PRIVATE | MAP_FIXED), %r10d
  xor %r9d, %r9d
  mov $__NR_mmap, %eax
  syscall
  cmp %rdi, %rax
  jne 1f
  movabs $STUB_COMMAND_ADDRESS, %rdi
  mov $(PROT_READ | PROT_WRITE), %edx
  mov $(MAP_SHARED | MAP_FIXED), %r10d
  mov %ebx, %r8d
  mov $__NR_mmap, %eax
  syscall
  cmp %rdi, %rax
  jne 1f
  movabs $(STUB_TEXT_ADDRESS), %rdi
  add $(runsc_stub_clear - runsc_stub_text_begin), %rdi
  jmp *%rdi
1:
  mov $__NR_exit_group, %eax
  mov $1, %edi
  syscall
  hlt
  .size runsc_stub_enter, . - runsc_stub_enter

  .section .note.GNU-stack, "", @progbits

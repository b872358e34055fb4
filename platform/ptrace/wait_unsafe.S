// A wait4 that a signal ends even when it arrives just before the system call, and the handler of that signal (as musl does for
// cancellation points): a signal that finds the thread between the look at the wake-up word and the `syscall` instruction sends
// it to the end instead. In assembly because the window has to be known to the instruction, and because a sanitizer would
// defer a handler in C++ until after the wait.
  .text
  .globl runsc_wait4
  .type runsc_wait4, @function
// long runsc_wait4(int pid, int* status, int options, const uint32_t* woken): wait4(pid, status, options, 0), or −EINTR if
// *woken is 1 or a kick comes.
runsc_wait4:
  endbr64
  mov %rcx, %r9
  xor %r10d, %r10d
  mov %edx, %edx
  movslq %edi, %rdi
.Lwindow_begin:
  cmpl $1, (%r9)
  je .Labort
  mov $61, %eax
.Lwindow_last:
  syscall
.Lwindow_end:
  ret
.Labort:
  mov $-4, %eax
  cltq
  ret
  .size runsc_wait4, . - runsc_wait4

// void runsc_kick_handler(int, siginfo_t*, ucontext_t*): 168 is the offset of uc_mcontext.gregs[REG_RIP].
  .globl runsc_kick_handler
  .type runsc_kick_handler, @function
runsc_kick_handler:
  endbr64
  mov 168(%rdx), %rax
  lea .Lwindow_begin(%rip), %rcx
  cmp %rcx, %rax
  jb 1f
  lea .Lwindow_end(%rip), %rcx
  cmp %rcx, %rax
  jae 1f
  lea .Labort(%rip), %rcx
  mov %rcx, 168(%rdx)
1:
  ret
  .size runsc_kick_handler, . - runsc_kick_handler

// The restorer that rt_sigaction needs.
  .globl runsc_kick_restorer
  .type runsc_kick_restorer, @function
  nop
runsc_kick_restorer:
  mov $15, %eax
  syscall
  .size runsc_kick_restorer, . - runsc_kick_restorer

  .section .note.GNU-stack, "", @progbits

// All that runs in ring 0 of a virtual CPU (ring0_layout.h): exceptions, the kick and `syscall` become a frame in the state page
// and an exit; what the sentry puts there is what ring 3 goes on with. Position-independent, one page.
//
// It touches no memory but the state page, has no stack but that, and runs with interrupts off.
#include "platform/kvm/ring0_layout.h"

  .section .rodata
  .balign 4096
  .globl runsc_kvm_text, runsc_kvm_text_end, runsc_kvm_stubs, runsc_kvm_syscall, runsc_kvm_enter
runsc_kvm_text:

// One stub per vector, RING0_STUB_BYTES apart. The processor pushes an error code for some of them.
.macro STUB number
  .balign RING0_STUB_BYTES
  .ifeq ((\number - 8) * (\number - 10) * (\number - 11) * (\number - 12) * (\number - 13) * (\number - 14) * (\number - 17) * (\number - 21) * (\number - 29) * (\number - 30))
  .else
  pushq $0
  .endif
  pushq $\number
  jmp common
.endm
runsc_kvm_stubs:
  .set .Lvector, 0
  .rept RING0_STUBS
  STUB .Lvector
  .set .Lvector, .Lvector + 1
  .endr

  .balign 16
runsc_kvm_syscall:
  mov %rsp, (runsc_kvm_text + RING0_STATE_OFFSET + STATE_RSP)(%rip)
  lea (runsc_kvm_text + RING0_STATE_OFFSET + STATE_STACK_TOP - 16)(%rip), %rsp
  movq $SELECTOR_USER_SS, 8(%rsp)
  push %r11
  pushq $SELECTOR_USER_CS
  push %rcx
  pushq $0
  pushq $VECTOR_SYSCALL

common:
  push %rdi
  push %rsi
  push %rdx
  push %rcx
  push %rax
  push %r8
  push %r9
  push %r10
  push %r11
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  cld
  testb $3, (STATE_CS - STATE_GPRS)(%rsp)
  jz own_fault
  rdfsbase %rax
  rdgsbase %rdx
  mov %rax, (STATE_FS_BASE - STATE_GPRS)(%rsp)
  mov %rdx, (STATE_GS_BASE - STATE_GPRS)(%rsp)
  mov %ds, (STATE_DS - STATE_GPRS)(%rsp)
  mov %es, (STATE_ES - STATE_GPRS)(%rsp)
  mov %fs, (STATE_FS - STATE_GPRS)(%rsp)
  mov %gs, (STATE_GS - STATE_GPRS)(%rsp)
  movl $1, (STATE_EXITED - STATE_GPRS)(%rsp)
  out %al, $RING0_PORT

// The sentry lets us go on. rsp is where it was: at the general registers.
runsc_kvm_enter:
  mov (STATE_LOAD_CR3 - STATE_GPRS)(%rsp), %rax
  test %rax, %rax
  jz 1f
  mov %rax, %cr3
1:
  mov (STATE_DS - STATE_GPRS)(%rsp), %ds
  mov (STATE_ES - STATE_GPRS)(%rsp), %es
  mov (STATE_FS - STATE_GPRS)(%rsp), %fs
  mov (STATE_GS - STATE_GPRS)(%rsp), %gs
  mov (STATE_FS_BASE - STATE_GPRS)(%rsp), %rax
  mov (STATE_GS_BASE - STATE_GPRS)(%rsp), %rdx
  wrfsbase %rax
  wrgsbase %rdx
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  pop %r11
  pop %r10
  pop %r9
  pop %r8
  pop %rax
  pop %rcx
  pop %rdx
  pop %rsi
  pop %rdi
  add $16, %rsp
  iretq

// An exception in ring 0: a bug of ours, or of the host. Nothing says EXITED, so the sentry does not take it for a message.
own_fault:
  out %al, $RING0_PORT
  hlt
  jmp own_fault
runsc_kvm_text_end:

  .globl runsc_kvm_gate, runsc_kvm_gate_end
runsc_kvm_gate:
  out %al, $RING0_GATE_PORT
runsc_kvm_gate_end:

  .section .note.GNU-stack, "", @progbits

// All that runs in ring 0 of a virtual CPU (ring0_layout.h): some system calls are answered; the others, exceptions and the kick
// become a frame in the state page and an exit; what the sentry puts there is what ring 3 goes on with. Position-independent, one page.
//
// It touches no memory but the state page (and two pages for vector state), has no stack but that, and runs with interrupts off.
#include <asm/unistd.h>

#include "platform/kvm/ring0_layout.h"

#define TRAP_FLAG 0x100
#define RESUME_FLAG 0x10000
// Of flags that ring 3 claims to have: what it may set (arithmetic, TF, DF, NT, AC, ID), and what is always set (IF).
#define USER_FLAGS 0x244dd5
#define FIXED_FLAGS 0x202
#define STATE(field) (runsc_kvm_text + RING0_STATE_OFFSET + field)(%rip)

// The calls that are answered: number, place in the answer block.
.macro EACH_ANSWER op
  \op __NR_getpid, ANSWER_PID
  \op __NR_gettid, ANSWER_TID
  \op __NR_getppid, ANSWER_PPID
  \op __NR_getuid, ANSWER_UID
  \op __NR_geteuid, ANSWER_EUID
  \op __NR_getgid, ANSWER_GID
  \op __NR_getegid, ANSWER_EGID
  \op __NR_getpgrp, ANSWER_PGID
.endm

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
  .ifeq (\number - 1) * (\number - 2) * (\number - 18)
  jmp own_stack
  .else
  .ifeq \number - 14
  jmp page_fault
  .else
  jmp common
  .endif
  .endif
.endm
runsc_kvm_stubs:
  .set .Lvector, 0
  .rept RING0_STUBS
  STUB .Lvector
  .set .Lvector, .Lvector + 1
  .endr

// Vectors with a stack of their own. From ring 3: the frame goes where those of the others are. From ring 0: an interrupt that
// cannot be masked is none of our business, a single-step that came in with `syscall` ends here (as in Linux'
// exc_debug_kernel).
own_stack:
  testb $3, 24(%rsp)
  jz 1f
  push %rax
  push %rbx
  mov %rsp, %rbx
  and $~0xfff, %rbx
  .set .Lword, 0
  .rept 7
  mov (16 + 8 * .Lword)(%rsp), %rax
  mov %rax, (STATE_VECTOR + 8 * .Lword)(%rbx)
  .set .Lword, .Lword + 1
  .endr
  pop %rbx
  pop %rax
  and $~0xfff, %rsp
  add $STATE_VECTOR, %rsp
  jmp common
1:
  cmpl $18, (%rsp)
  je own_fault
  andl $~TRAP_FLAG, 32(%rsp)
  add $16, %rsp
  iretq

// Where `syscall` leaves ring 3 where it is, it faults at its entry: it is turned into what the instruction should have done,
// if the call can be answered. A guest can jump there with rcx and r11 of its own choice. Hosts of this kind carry ring 0's
// instructions out themselves, and have been seen to take what one addresses relative to its own place from the place
// where another virtual CPU has executed it: relative to the stack it is right.
page_fault:
  cmpl $0, (STATE_SYSCALL_FAULTS - STATE_VECTOR)(%rsp)
  je common
  push %rax
#define FAULT(field) (8 + field - STATE_VECTOR)(%rsp)
  lea FAULT(runsc_kvm_syscall - runsc_kvm_text - RING0_STATE_OFFSET), %rax
  cmp %rax, FAULT(STATE_RIP)
  jne 2f
  mov %rcx, %rax
  shr $47, %rax
  jnz 2f
  cmpl $0, FAULT(STATE_ANSWERS + ANSWER_VALID)
  je 2f
  test $TRAP_FLAG, %r11d
  jnz 2f
  mov (%rsp), %rax
.macro ANSWER_FAULT number, field
  cmp $\number, %rax
  jne 1f
  mov FAULT(STATE_ANSWERS + \field), %eax
  jmp 3f
1:
.endm
  EACH_ANSWER ANSWER_FAULT
2:
  pop %rax
  jmp common
3:
  mov %rcx, FAULT(STATE_RIP)
  mov %r11d, FAULT(STATE_RFLAGS)
  andl $USER_FLAGS, FAULT(STATE_RFLAGS)
  orl $FIXED_FLAGS, FAULT(STATE_RFLAGS)
  add $24, %rsp
  iretq

  .balign 16
runsc_kvm_syscall:
  // Calls that are answered here. rsp is still ring 3's, and nothing but rax is changed: the flags are in r11.
  cmpl $0, STATE(STATE_ANSWERS + ANSWER_VALID)
  je served
  test $(TRAP_FLAG | RESUME_FLAG), %r11d
  jnz served
  bt $47, %rcx
  jc served
.macro ANSWER number, field
  cmp $\number, %rax
  jne 1f
  mov STATE(STATE_ANSWERS + \field), %eax
  jmp answered
1:
.endm
  EACH_ANSWER ANSWER
served:
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
  mov (STATE_XSAVE_AT - STATE_GPRS)(%rsp), %rcx
  test %rcx, %rcx
  jz 1f
  mov $-1, %eax
  mov %eax, %edx
  xsave64 (%rcx)
  movl $1, (STATE_XSAVED - STATE_GPRS)(%rsp)
  movq $0, (STATE_XSAVE_AT - STATE_GPRS)(%rsp)
1:
  mov (STATE_XLOAD_AT - STATE_GPRS)(%rsp), %rcx
  test %rcx, %rcx
  jz 1f
  mov $-1, %eax
  mov %eax, %edx
  xrstor64 (%rcx)
  movq $0, (STATE_XLOAD_AT - STATE_GPRS)(%rsp)
1:
  cmpl $0, (STATE_SYSRET - STATE_GPRS)(%rsp)
  je 1f
  // An exception has left SS empty. Some processors' `sysret` sets its selector, not what belongs to it.
  mov $SELECTOR_KERNEL_SS, %eax
  mov %eax, %ss
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
  cmpl $0, (STATE_SYSRET - STATE_VECTOR)(%rsp)
  jne 2f
  add $16, %rsp
  iretq
2:
  mov (STATE_RSP - STATE_VECTOR)(%rsp), %rsp
  sysretq

// rax is what the call returns; the other registers are what `syscall` has made them.
answered:
  cmpl $0, STATE(STATE_CAN_SYSRET)
  je 1f
  sysretq
1:
  mov %rsp, STATE(STATE_RSP)
  lea STATE(STATE_RIP), %rsp
  mov %rcx, (%rsp)
  movq $SELECTOR_USER_CS, 8(%rsp)
  mov %r11, 16(%rsp)
  movq $SELECTOR_USER_SS, 32(%rsp)
  iretq

// An exception in ring 0: a bug of ours, or of the host. Nothing says EXITED, so the sentry does not take it for a message.
own_fault:
  out %al, $RING0_PORT
  hlt
  jmp own_fault
runsc_kvm_text_end:

// The gate. It runs in ring 3, at what a `syscall` has left: rcx is where to go on, r11 the flags, and there is no stack. Nothing
// but rax is changed, and the flags, which are r11's again at the end. The sentry makes a system call of whatever
// is interrupted here (Vcpu::Run); runsc_kvm_gate_tails tells where rax is no longer the number.
//
// Now and then the host does enter ring 0 with the instruction. There the code of ring 3 must not go on: then it is an exit.
  .balign 64
  .globl runsc_kvm_gate, runsc_kvm_gate_out, runsc_kvm_gate_end, runsc_kvm_gate_tails, runsc_kvm_gate_tails_end
#define GATE(field) (runsc_kvm_gate + RING0_GATE_ANSWERS + field)(%rip)
runsc_kvm_gate:
  cmpl $0, GATE(ANSWER_VALID)
  je runsc_kvm_gate_out
  test $TRAP_FLAG, %r11d
  jnz runsc_kvm_gate_out
.macro GATE_COMPARE number, field
  cmp $\number, %rax
  je .Lgate_tail_\field
.endm
  EACH_ANSWER GATE_COMPARE
runsc_kvm_gate_out:
  out %al, $RING0_GATE_PORT
.macro GATE_TAIL number, field
.Lgate_tail_\field:
  mov %cs, %eax
  test $3, %al
  jz 1f
  mov %r11d, %eax
  shl $8, %eax  // ah: SF ZF AF PF CF; al: 0
  bt $11, %r11d
  adc $0x7f, %al  // overflows if OF was set
  sahf
  mov GATE(\field), %eax
  jmp *%rcx
1:
  mov $\number, %eax
  jmp runsc_kvm_gate_out
  .pushsection .rodata.runsc_kvm_gate_tails, "a", @progbits
  .long .Lgate_tail_\field - runsc_kvm_gate, \number
  .popsection
.endm
  .pushsection .rodata.runsc_kvm_gate_tails, "a", @progbits
runsc_kvm_gate_tails:
  .popsection
  EACH_ANSWER GATE_TAIL
  .pushsection .rodata.runsc_kvm_gate_tails, "a", @progbits
runsc_kvm_gate_tails_end:
  .popsection
runsc_kvm_gate_end:

  .section .note.GNU-stack, "", @progbits

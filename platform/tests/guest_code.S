// Guest code of the platform suite: position-independent pieces that the tests copy into the memory file. Each runs at the
// address where it is mapped, with the registers that the test set.
#define BLOB(name)            \
  .section .rodata;           \
  .balign 16;                 \
  .globl guest_##name;        \
  .globl guest_##name##_end;  \
  guest_##name:
#define END(name) guest_##name##_end:

// Writes what it started with to the page at rdi: general registers, selectors, flags, and from 1024 on the vector state
// of the features that are in rdx:rax. rsp has to be a stack.
BLOB(report)
  mov %rax, 0(%rdi)
  mov %rbx, 8(%rdi)
  mov %rcx, 16(%rdi)
  mov %rdx, 24(%rdi)
  mov %rsi, 32(%rdi)
  mov %rbp, 40(%rdi)
  mov %rsp, 48(%rdi)
  mov %r8, 56(%rdi)
  mov %r9, 64(%rdi)
  mov %r10, 72(%rdi)
  mov %r11, 80(%rdi)
  mov %r12, 88(%rdi)
  mov %r13, 96(%rdi)
  mov %r14, 104(%rdi)
  mov %r15, 112(%rdi)
  mov %ds, %ecx
  mov %ecx, 120(%rdi)
  mov %es, %ecx
  mov %ecx, 124(%rdi)
  mov %fs, %ecx
  mov %ecx, 128(%rdi)
  mov %gs, %ecx
  mov %ecx, 132(%rdi)
  pushf
  pop %rcx
  mov %rcx, 136(%rdi)
  xsave64 1024(%rdi)
  syscall
END(report)

// Loads selectors that a program rarely has, and makes calls: by the instruction, or with rbp not 0 by a jump there.
BLOB(odd_selectors)
  mov $0x2b, %ebx
  mov %ebx, %ds
  mov %ebx, %es
  mov %ebx, %fs
  mov %ebx, %gs
  std
1:
  test %rbp, %rbp
  jnz 2f
  syscall
  jmp 1b
2:
  lea 1b(%rip), %rcx
  jmp *%rbp
END(odd_selectors)

// Claims to have made a call, in the words of the slot at rdi, and goes on.
BLOB(claim_and_spin)
  movl $128, 8(%rdi)
  movl $0, (%rdi)
1:
  inc %rax
  jmp 1b
END(claim_and_spin)

// One system call after the other.
BLOB(syscall_loop)
1:
  syscall
  jmp 1b
END(syscall_loop)

// Computes for ever.
BLOB(spin)
1:
  inc %rax
  jmp 1b
END(spin)

// Computes rbx rounds, then a system call, for ever.
BLOB(compute_and_call)
1:
  mov %rbx, %rcx
2:
  dec %rcx
  jnz 2b
  syscall
  jmp 1b
END(compute_and_call)

BLOB(load)
  mov (%rdi), %rax
  syscall
END(load)

BLOB(store)
  movq $42, (%rdi)
  syscall
END(store)

// A store that no simple decoder knows: xsave of no component writes the header all the same.
BLOB(odd_store)
  xor %eax, %eax
  xor %edx, %edx
  xsave (%rdi)
  syscall
END(odd_store)

BLOB(jump)
  jmp *%rdi
END(jump)

BLOB(ud2)
  ud2
END(ud2)

BLOB(divide)
  xor %edx, %edx
  xor %ecx, %ecx
  div %ecx
END(divide)

BLOB(int3)
  int3
END(int3)

BLOB(hlt)
  hlt
END(hlt)

BLOB(int80)
  int $0x80
END(int80)

BLOB(noncanonical)
  movabs $0x8000000000000000, %rax
  mov (%rax), %rax
END(noncanonical)

// Reads the words at fs:0 and gs:0.
BLOB(segments)
  mov %fs:0, %rax
  mov %gs:0, %rbx
  syscall
END(segments)

BLOB(nops)
  nop
  nop
  nop
  syscall
END(nops)

// Calls the address in rbx, then a system call.
BLOB(call)
  call *%rbx
  syscall
END(call)

// Adds 1 to the word at rdi rbx times, atomically; then a system call.
BLOB(add_loop)
1:
  lock incq (%rdi)
  dec %rbx
  jnz 1b
  syscall
END(add_loop)

BLOB(vector128)
  movdqu (%rdi), %xmm0
  movdqu (%rdi), %xmm15
  syscall
  movdqu %xmm0, (%rsi)
  movdqu %xmm15, 16(%rsi)
  syscall
END(vector128)

// The register canary. r15 points at CanaryBlock (canary_test.cc), rsp to the middle of a page; everything else is set here. It goes
// round for ever: a stretch of computing, a store to a page that the test takes away now and then, ud2, int3, a system call;
// after each, everything that has to be unchanged is compared, and hlt says that something was not (rdx: which).
#define K(n) 0x0101010101010101 * n + 0x1020304050607080

.macro SET_GPRS
  movabs $(K(2)), %rbx
  movabs $(K(3)), %rdx
  movabs $(K(4)), %rsi
  movabs $(K(5)), %rdi
  movabs $(K(6)), %rbp
  movabs $(K(7)), %r8
  movabs $(K(8)), %r9
  movabs $(K(9)), %r10
  movabs $(K(12)), %r12
  movabs $(K(13)), %r13
  movabs $(K(14)), %r14
.endm
.macro SET_SCRATCH
  movabs $(K(1)), %rax
  movabs $(K(10)), %rcx
  movabs $(K(11)), %r11
.endm
.macro CHECK_ONE number, reg
  movabs $(K(\number)), %rax
  cmp %rax, \reg
  mov $\number, %eax
  jne 99f
.endm
.macro CHECK_GPRS
  CHECK_ONE 2, %rbx
  CHECK_ONE 3, %rdx
  CHECK_ONE 4, %rsi
  CHECK_ONE 5, %rdi
  CHECK_ONE 6, %rbp
  CHECK_ONE 7, %r8
  CHECK_ONE 8, %r9
  CHECK_ONE 9, %r10
  CHECK_ONE 12, %r12
  CHECK_ONE 13, %r13
  CHECK_ONE 14, %r14
  mov $15, %eax
  cmp 8(%r15), %rsp
  jne 99f
.endm
// rax, rcx and r11 too: around everything but a system call. Saved first, for the checks need them.
.macro CHECK_SCRATCH
  mov %rcx, 32(%r15)
  mov %rax, %rcx
  movabs $(K(1)), %rax
  cmp %rax, %rcx
  mov $1, %eax
  jne 99f
  movabs $(K(10)), %rax
  cmp %rax, 32(%r15)
  mov $10, %eax
  jne 99f
  CHECK_ONE 11, %r11
.endm
.macro SET_FLAGS
  pushq 16(%r15)
  popfq
.endm
.macro CHECK_FLAGS
  pushfq
  pop %rax
  cld
  cmp 24(%r15), %rax
  mov $16, %eax
  jne 99f
.endm

// Layout of the block: 0 the page for faults, 8 rsp, 16 flags to set, 24 flags to find, 32 scratch, 40 fpu control and mxcsr,
// 48 scratch, 56 rounds, 64 PKRU to find and 72 whether to look, 128 scratch of 64 bytes, 256 patterns of 64 bytes, one per
// register, 2304 patterns of the mask registers.
.macro CHECK_FP
  fnstcw 48(%r15)
  mov 40(%r15), %ax
  cmp %ax, 48(%r15)
  mov $17, %eax
  jne 99f
  stmxcsr 48(%r15)
  mov 44(%r15), %eax
  cmp %eax, 48(%r15)
  mov $18, %eax
  jne 99f
  fstl 48(%r15)
  movabs $0x400921fb54442d19, %rax  // pi, rounded up as the control word says
  cmp %rax, 48(%r15)
  mov $19, %eax
  jne 99f
  cmpq $0, 72(%r15)
  je 98f
  push %rdx
  push %rcx
  xor %ecx, %ecx
  rdpkru
  pop %rcx
  pop %rdx
  cmp %eax, 64(%r15)
  mov $20, %eax
  jne 99f
98:
.endm

.macro EACH_XMM op
  \op 0
  \op 1
  \op 2
  \op 3
  \op 4
  \op 5
  \op 6
  \op 7
  \op 8
  \op 9
  \op 10
  \op 11
  \op 12
  \op 13
  \op 14
  \op 15
.endm
.macro EACH_HIGH op
  \op 16
  \op 17
  \op 18
  \op 19
  \op 20
  \op 21
  \op 22
  \op 23
  \op 24
  \op 25
  \op 26
  \op 27
  \op 28
  \op 29
  \op 30
  \op 31
.endm
.macro EACH_MASK op
  \op 1
  \op 2
  \op 3
  \op 4
  \op 5
  \op 6
  \op 7
.endm
.macro LOAD128 n
  movdqu (256 + 64 * \n)(%r15), %xmm\n
.endm
// Compared with integers, so that no vector register is needed for it.
.macro COMPARE words
  .set .Li, 0
  .rept \words
  mov (128 + 8 * .Li)(%r15), %rax
  cmp %rax, (256 + 8 * .Li)(%rcx)
  mov $(32 + .Li), %eax
  jne 99f
  .set .Li, .Li + 1
  .endr
.endm
.macro CHECK128 n
  movdqu %xmm\n, 128(%r15)
  lea (64 * \n)(%r15), %rcx
  COMPARE 2
.endm
.macro LOAD256 n
  vmovdqu (256 + 64 * \n)(%r15), %ymm\n
.endm
.macro CHECK256 n
  vmovdqu %ymm\n, 128(%r15)
  lea (64 * \n)(%r15), %rcx
  COMPARE 4
.endm
.macro LOAD512 n
  vmovdqu64 (256 + 64 * \n)(%r15), %zmm\n
.endm
.macro CHECK512 n
  vmovdqu64 %zmm\n, 128(%r15)
  lea (64 * \n)(%r15), %rcx
  COMPARE 8
.endm
.macro LOADMASK n
  kmovq (2304 + 8 * \n)(%r15), %k\n
.endm
.macro CHECKMASK n
  kmovq %k\n, %rcx
  cmp %rcx, (2304 + 8 * \n)(%r15)
  mov $21, %eax
  jne 99f
.endm

.macro LOAD_VECTORS kind
  .ifc \kind, 512
  EACH_XMM LOAD512
  EACH_HIGH LOAD512
  EACH_MASK LOADMASK
  .else
  EACH_XMM LOAD\kind
  .endif
.endm
.macro CHECK_VECTORS kind
  .ifc \kind, 512
  EACH_XMM CHECK512
  EACH_HIGH CHECK512
  EACH_MASK CHECKMASK
  .else
  EACH_XMM CHECK\kind
  .endif
.endm

.macro CANARY kind, jump=0
  fninit
  fldcw 40(%r15)
  ldmxcsr 44(%r15)
  fldpi
  LOAD_VECTORS \kind
  SET_GPRS
1:
  // Computing, where only interrupts come.
  SET_SCRATCH
  mov $300, %r10d
2:
  dec %r10
  jnz 2b
  movabs $(K(9)), %r10
  SET_FLAGS
  nop
  nop
  nop
  CHECK_FLAGS
  SET_SCRATCH
  CHECK_SCRATCH
  CHECK_GPRS
  // A store that faults when the test has taken the page away.
  mov (%r15), %rcx
  SET_FLAGS
  mov %rcx, (%rcx)
  CHECK_FLAGS
  CHECK_GPRS
  // Exceptions; the test goes on behind them.
  SET_SCRATCH
  SET_FLAGS
  ud2
  pushfq
  pop 48(%r15)
  cld
  CHECK_SCRATCH
  mov 48(%r15), %rax
  cmp %rax, 24(%r15)
  mov $16, %eax
  jne 99f
  CHECK_GPRS
  SET_SCRATCH
  int3
  CHECK_SCRATCH
  CHECK_GPRS
  // A system call: rax, rcx and r11 change, as the instruction does it.
  mov $500, %eax
  SET_FLAGS
  .if \jump
  // As from a patched call site: platform/systrap/patch/trampoline.h.
  lea 3f(%rip), %rcx
  jmp *80(%r15)
  .endif
  syscall
3:
  push %rax
  pushfq
  pop %rax
  cld
  cmp %rax, 24(%r15)
  mov $16, %eax
  jne 99f
  cmp %r11, 24(%r15)
  mov $22, %eax
  jne 99f
  lea 3b(%rip), %rax
  cmp %rax, %rcx
  mov $10, %eax
  jne 99f
  pop %rcx
  cmp $12345, %rcx
  mov $1, %eax
  jne 99f
  CHECK_GPRS
  CHECK_FP
  CHECK_VECTORS \kind
  incq 56(%r15)
  jmp 1b
99:
  hlt
.endm

BLOB(canary128)
  CANARY 128
END(canary128)
BLOB(canary256)
  CANARY 256
END(canary256)
BLOB(canary512)
  CANARY 512
END(canary512)
BLOB(canary128_jump)
  CANARY 128, 1
END(canary128_jump)
BLOB(canary256_jump)
  CANARY 256, 1
END(canary256_jump)
BLOB(canary512_jump)
  CANARY 512, 1
END(canary512_jump)

// The canary around system calls alone: their number is at 80(%r15), what they have to return at 88, the flags before and after
// at 16. hlt says that something has changed.
BLOB(canary_call)
1:
  SET_GPRS
  mov 80(%r15), %rax
  mov $1, %ecx
  mov $2, %r11d
  SET_FLAGS
  syscall
2:
  push %rax
  pushfq
  pop %rax
  cld
  cmp %rax, 24(%r15)
  mov $16, %eax
  jne 99f
  cmp %r11, 24(%r15)
  mov $22, %eax
  jne 99f
  lea 2b(%rip), %rax
  cmp %rax, %rcx
  mov $10, %eax
  jne 99f
  pop %rcx
  cmp 88(%r15), %rcx
  mov $1, %eax
  jne 99f
  CHECK_GPRS
  incq 56(%r15)
  jmp 1b
99:
  hlt
END(canary_call)

// Makes one system call after the other, the number is what is in rax, by the jump that rbx has.
BLOB(jump_loop)
1:
  lea 2f(%rip), %rcx
  jmp *%rbx
  syscall
2:
  jmp 1b
END(jump_loop)

// The same, and says first that the thread has waited 42 short times and never looked in vain (futex_meter.h): r8 is where.
BLOB(look_loop)
1:
  movq $42, (%r8)
  lea 2f(%rip), %rcx
  jmp *%rbx
  syscall
2:
  jmp 1b
END(look_loop)

// Blocks what rsi points to, by the jump that rbx has, and unblocks it, for ever.
BLOB(mask_loop)
1:
  mov $14, %eax
  lea 2f(%rip), %rcx
  jmp *%rbx
  syscall
2:
  xor $1, %edi
  jmp 1b
END(mask_loop)

// One call by the jump that rbx has, then computes for ever.
BLOB(jump_spin)
  lea 2f(%rip), %rcx
  jmp *%rbx
  syscall
2:
  pause
  jmp 2b
END(jump_spin)

  .section .note.GNU-stack, "", @progbits

// Functions as compilers write them, around system calls, to be run before and after they were patched; and the way in and
// out of them.

// struct Guest { const char* name; uint64_t start, end; }: offsets in the page. One entry for each GUEST … END.
.macro GUEST name
.section patch_guests, "ax", @progbits
guest_\name:
.endm
.macro END name
guest_end_\name:
.section .rodata.patch_names, "a", @progbits
guest_name_\name: .asciz "\name"
.section .data.rel.ro.patch_table, "aw", @progbits
  .quad guest_name_\name, guest_\name - patch_guest_page, guest_end_\name - patch_guest_page
.section patch_guests, "ax", @progbits
.endm

.section patch_guests, "ax", @progbits
.balign 4096
.globl patch_guest_page
patch_guest_page:
.section .data.rel.ro.patch_table, "aw", @progbits
.balign 8
.globl patch_guests_begin
patch_guests_begin:

// Form (a).
GUEST mov_eax
  endbr64
  mov $39, %eax
  syscall
  ret
END mov_eax
  .balign 16

GUEST mov_rax
  mov $39, %rax
  syscall
  ret
END mov_rax
  .balign 16

// A system call that fails, and a branch on its result, as in every wrapper.
GUEST checks_result
  mov $3, %eax
  syscall
  cmp $-4095, %rax
  jae 1f
  ret
1:
  neg %eax
  ret
END checks_result
  .balign 16

// The same calls twice, and again from the top.
GUEST loops
  mov $3, %ebx
1:
  mov $39, %eax
  syscall
  add %rax, %r12
  mov $102, %eax
  syscall
  add %rax, %r13
  dec %ebx
  jnz 1b
  ret
END loops
  .balign 16

// A branch to the `syscall` itself.
GUEST jumps_to_syscall
  mov $2, %ebx
  mov $39, %eax
  jmp 2f
1:
  mov $102, %eax
2:
  syscall
  add %rax, %r12
  dec %ebx
  jnz 1b
  ret
END jumps_to_syscall
  .balign 16

// `mov $n,%r8d` contains what looks like `mov $n,%eax`.
GUEST mov_r8d
  mov $39, %eax
  mov $7, %r8d
  syscall
  ret
END mov_r8d
  .balign 16

// Form (b), as in syscall().
GUEST mov_stack
  mov $39, %eax
  mov 8(%rsp), %r9
  syscall
  ret
END mov_stack
  .balign 16

GUEST store_stack
  mov $39, %eax
  mov %r11, 8(%rsp)
  syscall
  ret
END store_stack
  .balign 16

GUEST lea_rip
  mov $63, %eax
  lea patch_guest_data(%rip), %rdi
  syscall
  ret
END lea_rip
  .balign 16

GUEST load_rip
  mov $39, %eax
  mov patch_guest_data + 1024(%rip), %esi
  syscall
  ret
END load_rip
  .balign 16

GUEST store_rip
  mov $39, %eax
  movl $0x1234567, patch_guest_data + 1028(%rip)
  syscall
  ret
END store_rip
  .balign 16

GUEST store_vector
  mov $39, %eax
  movups %xmm0, -64(%rsp)
  syscall
  ret
END store_vector
  .balign 16

GUEST load_tls
  mov $39, %eax
  mov %fs:0, %rsi
  syscall
  ret
END load_tls
  .balign 16

GUEST pushes
  mov $39, %eax
  push $0x12345678
  syscall
  pop %rsi
  ret
END pushes
  .balign 16

GUEST sets_flags
  mov $39, %eax
  sub $0x12345678, %rbx
  syscall
  setc %bl
  ret
END sets_flags
  .balign 16

// Form (c). Behind each there is padding that nothing reaches.
GUEST xor_eax
  xor %eax, %eax
  syscall
  ret
END xor_eax
  .byte 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0

GUEST mov_r10
  mov $39, %eax
  mov %rcx, %r10
  syscall
  ret
END mov_r10
  .byte 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc

GUEST xor_sil
  mov $39, %eax
  xor $0x80, %sil
  syscall
  ret
END xor_sil
  .byte 0x90, 0x90, 0x90, 0x90, 0x90

// Runs on into the next function through the padding, which must go on doing nothing.
GUEST falls_through
  mov $39, %eax
  mov %rdx, %rsi
  syscall
END falls_through
  .byte 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0

GUEST fallen_into
  lea 1(%rax, %rax), %rax
  ret
END fallen_into

  .space 256, 0x06  // too far away for the next one, and no code
// Padding of a loop's head.
GUEST nop_inside
  mov $3, %ebx
  jmp 1f
  .byte 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0
1:
  .byte 0x0f, 0x1f, 0x80, 0, 0, 0, 0
2:
  mov $39, %eax
  mov %rbx, %rsi
  syscall
  add %rax, %r12
  dec %ebx
  jnz 2b
  ret
END nop_inside

  .space 256, 0x06
// Two hops, over a no-op that is executed and over bytes that nothing reaches, to a place for the long jump.
GUEST hops
  mov $39, %eax
  mov %rbx, %rsi
  syscall
  .rept 100
  nop
  .endr
  .byte 0x0f, 0x1f, 0x40, 0x00
  .rept 35
  inc %r12
  .endr
  ret
END hops
  .byte 0x90, 0x90, 0xcc
GUEST hopped_over
  .rept 35
  inc %r12
  .endr
  ret
END hopped_over
  .byte 0x90, 0x90, 0x90, 0x90, 0x90
GUEST behind_hops
  ret
END behind_hops

  .space 256, 0x06
// What must stay: no padding, a branch into the middle, a call before the system call, nothing before it.
GUEST no_padding
  mov $39, %eax
  mov %rbx, %rsi
  syscall
  ret
END no_padding
  .byte 0x06, 0x06, 0x06, 0x06, 0x06, 0x06, 0x06, 0x06

GUEST target_inside
  mov $39, %eax
  jmp 1f + 1
1:
  mov 8(%rsp), %r9  // or, from its second byte on, mov 8(%rsp),%ecx
  syscall
  ret
END target_inside
  .byte 0x06, 0x06, 0x06, 0x06, 0x06, 0x06, 0x06, 0x06

GUEST target_of_another
  mov $39, %eax
target_of_another_mov:
  mov 8(%rsp), %r9
  syscall
  ret
END target_of_another
  .byte 0x06, 0x06, 0x06, 0x06, 0x06, 0x06, 0x06, 0x06

GUEST jumps_into_another
  mov $39, %eax
  syscall
  jmp target_of_another_mov + 1
END jumps_into_another
  .byte 0x06, 0x06, 0x06, 0x06, 0x06, 0x06, 0x06, 0x06

GUEST call_before
  mov $39, %eax
  call 1f
  syscall
  ret
1:
  ret
END call_before
  .byte 0x06, 0x06, 0x06, 0x06, 0x06, 0x06, 0x06, 0x06

GUEST first_instruction
  syscall
  ret
END first_instruction

.section patch_guests, "ax", @progbits
.balign 4096
.globl patch_guest_data
patch_guest_data:
  .space 4096, 0
.section .data.rel.ro.patch_table, "aw", @progbits
.globl patch_guests_end
patch_guests_end:

// void RunGuest(uint64_t address, State* state): loads every register from the state, calls, and stores every register.
.text
.globl RunGuest
.type RunGuest, @function
RunGuest:
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, run_stack(%rip)
  mov %rsi, run_state(%rip)
  mov %rdi, run_address(%rip)
  mov 56(%rsi), %rsp
  movups 136(%rsi), %xmm0
  pushq 128(%rsi)
  popfq
  mov 0(%rsi), %rax
  mov 8(%rsi), %rbx
  mov 16(%rsi), %rcx
  mov 24(%rsi), %rdx
  mov 40(%rsi), %rdi
  mov 48(%rsi), %rbp
  mov 64(%rsi), %r8
  mov 72(%rsi), %r9
  mov 80(%rsi), %r10
  mov 88(%rsi), %r11
  mov 96(%rsi), %r12
  mov 104(%rsi), %r13
  mov 112(%rsi), %r14
  mov 120(%rsi), %r15
  mov 32(%rsi), %rsi
  call *run_address(%rip)
  mov %rsi, run_rsi(%rip)
  mov run_state(%rip), %rsi
  mov %rax, 0(%rsi)
  mov %rbx, 8(%rsi)
  mov %rcx, 16(%rsi)
  mov %rdx, 24(%rsi)
  mov %rdi, 40(%rsi)
  mov %rbp, 48(%rsi)
  mov %rsp, 56(%rsi)
  mov %r8, 64(%rsi)
  mov %r9, 72(%rsi)
  mov %r10, 80(%rsi)
  mov %r11, 88(%rsi)
  mov %r12, 96(%rsi)
  mov %r13, 104(%rsi)
  mov %r14, 112(%rsi)
  mov %r15, 120(%rsi)
  movups %xmm0, 136(%rsi)
  mov run_stack(%rip), %rsp
  pushfq
  popq 128(%rsi)
  push $0x202
  popfq
  mov run_rsi(%rip), %rax
  mov %rax, 32(%rsi)
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  ret
.size RunGuest, . - RunGuest

// What stands in for the stub: counts, makes the call, goes back to rcx. Touches no flag and no stack.
.globl FakeStubEntry
.type FakeStubEntry, @function
FakeStubEntry:
  mov %rcx, entry_return(%rip)
  mov fake_stub_calls(%rip), %r11
  lea 1(%r11), %r11
  mov %r11, fake_stub_calls(%rip)
  syscall
  jmp *entry_return(%rip)
.size FakeStubEntry, . - FakeStubEntry

.data
.balign 8
run_stack: .quad 0
run_state: .quad 0
run_address: .quad 0
run_rsi: .quad 0
entry_return: .quad 0
.globl fake_stub_calls
fake_stub_calls: .quad 0
.section .note.GNU-stack, "", @progbits

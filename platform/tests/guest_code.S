// Guest code of the platform suite: position-independent pieces that the tests copy into the memory file. Each runs at the
// address where it is mapped, with the registers that the test set.
#define BLOB(name)            \
  .section .rodata;           \
  .balign 16;                 \
  .globl guest_##name;        \
  .globl guest_##name##_end;  \
  guest_##name:
#define END(name) guest_##name##_end:

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

// Makes rbx system calls, counting down; then ud2.
BLOB(syscall_count)
1:
  mov $39, %eax
  syscall
  dec %rbx
  jnz 1b
  ud2
END(syscall_count)

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

// int $0x80 with rcx and r11 as the syscall instruction leaves them.
BLOB(sysenter)
  sysenter
END(sysenter)

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

// Adds 1 to the word at rdi rbx times, atomically; then a system call.
BLOB(add_loop)
1:
  lock incq (%rdi)
  dec %rbx
  jnz 1b
  syscall
END(add_loop)

// Loads zmm0, k1 and mxcsr from rdi, makes a call, stores them at rsi.
BLOB(vector512)
  vmovdqu64 (%rdi), %zmm0
  vmovdqu64 (%rdi), %zmm31
  kmovq (%rdi), %k1
  syscall
  vmovdqu64 %zmm0, (%rsi)
  vmovdqu64 %zmm31, 64(%rsi)
  kmovq %k1, 128(%rsi)
  syscall
END(vector512)

BLOB(vector128)
  movdqu (%rdi), %xmm0
  movdqu (%rdi), %xmm15
  syscall
  movdqu %xmm0, (%rsi)
  movdqu %xmm15, 16(%rsi)
  syscall
END(vector128)

  .section .note.GNU-stack, "", @progbits

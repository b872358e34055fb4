// The code that stubs have (stub_layout.h says where). Position-independent. No part of it uses a stack; what runs before a guest
// thread has its filter reads no memory that guests can write.
#include <asm/unistd.h>

#include "platform/systrap/futex_meter.h"
#include "platform/systrap/stub_layout.h"

#define PROT_READ 1
#define PROT_WRITE 2
#define PROT_EXEC 4
#define MAP_SHARED 1
#define MAP_PRIVATE 2
#define MAP_FIXED 0x10
#define PR_SET_PDEATHSIG 1
#define SIGKILL 9
#define SIGSTKFLT 16
#define MAP_32BIT 0x40
#define NR_SET_THREAD_AREA_I386 243
#define FUTEX_WAIT 0
#define FUTEX_WAIT_PRIVATE 128
#define FUTEX_WAKE_PRIVATE 129
#define FUTEX_WAIT_BITSET_PRIVATE 137
#define FUTEX_CLOCK_REALTIME 256
#define EINTR 4
#define EAGAIN 11
#define EFAULT 14
#define NR_PRLIMIT64 302
#define SIG_BLOCK 0
#define SIG_UNBLOCK 1
#define SIG_SETMASK 2
#define SIGSET_BYTES 8
// SIGKILL and SIGSTOP: nobody can block them.
#define BLOCKABLE ~(1 << 8 | 1 << 18)
#define RLIM_NLIMITS 16
// GDT_ENTRY_CPUNODE of arch/x86/include/asm/segment.h, and what of its limit is the CPU.
#define CPUNODE_SELECTOR 0x7b
#define CPUNODE_CPU 0xfff
#define NS_PER_SEC 1000000000
#define CLOSE_RANGE_UNSHARE 2
#define SECCOMP_SET_MODE_FILTER 1
#define NR_CLOSE_RANGE 436
#define MAX_ERRNO_START -4095
// Of rip, in the third argument of a signal handler (struct ucontext of arch/x86).
#define UCONTEXT_RIP 168

  .text
  .balign 4096
  .globl runsc_systrap_text_begin, runsc_systrap_text_end
  .globl runsc_systrap_handler, runsc_systrap_restorer
  .globl runsc_systrap_write, runsc_systrap_futex, runsc_systrap_sigreturn, runsc_systrap_int80, runsc_systrap_wait
  .globl runsc_systrap_wait_yield
  .globl runsc_systrap_entry, runsc_systrap_entry_flags, runsc_systrap_entry_pack, runsc_systrap_entry_packed
  .globl runsc_systrap_entry_yield, runsc_systrap_entry_yielded, runsc_systrap_entry_answer
  .globl runsc_systrap_entry_answer1, runsc_systrap_entry_answer2, runsc_systrap_entry_answer3
  .globl runsc_systrap_entry_answer4, runsc_systrap_entry_answer5, runsc_systrap_entry_answer6
  .globl runsc_systrap_entry_answer7, runsc_systrap_entry_answer_end, runsc_systrap_entry_served
  .globl runsc_systrap_entry_wait, runsc_systrap_entry_look, runsc_systrap_entry_looked
  .globl runsc_systrap_entry_wait_counted, runsc_systrap_entry_waited
  .globl runsc_systrap_entry_waited_uncounted, runsc_systrap_entry_timing, runsc_systrap_entry_timed
  .globl runsc_systrap_entry_waited_done, runsc_systrap_entry_again
  .globl runsc_systrap_entry_wake, runsc_systrap_entry_woken, runsc_systrap_entry_woken_done, runsc_systrap_entry_woken_end
  .globl runsc_systrap_entry_writes, runsc_systrap_entry_writes_end
  .globl runsc_systrap_entry_masked, runsc_systrap_entry_unmasked
  .globl runsc_systrap_futex_wait, runsc_systrap_futex_wake
  .globl runsc_systrap_entry_saved, runsc_systrap_entry_committed, runsc_systrap_entry_end, runsc_systrap_yield
runsc_systrap_text_begin:

// ---- The helper: a process that shares the memory of its guest threads and runs no guest code. It keeps everything in registers:
// r14 the command pages, r15 the sequence number of the last batch, rbx the operation, ebp its number, r13 how many are left,
// r12 the process that an operation cloned.

// Tells the sentry one byte: the low one of rax. Nobody else can write to this pipe.
.macro TELL
  movzbl %al, %eax
  movabs $(STUB_PARAMS_ADDRESS + PARAMS_BYTES), %rsi
  add %rax, %rsi
  mov COMMAND_ACK_FD(%r14), %rdi
  mov $1, %edx
  mov $__NR_write, %eax
  syscall
.endm

helper:
  movabs $STUB_COMMAND_ADDRESS, %r14
1:
  mov COMMAND_SEQUENCE(%r14), %eax
  cmp %eax, %r15d
  jne batch
  mov %r14, %rdi
  mov $FUTEX_WAIT, %esi
  mov %r15d, %edx
  xor %r10d, %r10d
  mov $__NR_futex, %eax
  syscall
  jmp 1b
batch:
  mov %eax, %r15d
  mov COMMAND_COUNT(%r14), %r13
  lea OP_BYTES(%r14), %rbx
  xor %ebp, %ebp
  xor %r12d, %r12d
next:
  test %r13, %r13
  jz done
  mov 0(%rbx), %rax
  mov 8(%rbx), %rdi
  mov 16(%rbx), %rsi
  mov 24(%rbx), %rdx
  mov 32(%rbx), %r10
  mov 40(%rbx), %r8
  mov 48(%rbx), %r9
  cmpl $OP_IS_CALL, OP_KIND(%rbx)
  jne other
call:
  syscall
  cmp $MAX_ERRNO_START, %rax
  jae failed
  // A call whose result is wanted is the last of its batch. One more, for 0 says nothing.
  cmpl $OP_IS_VALUE, OP_KIND(%rbx)
  jne succeeded
  lea 1(%rax), %r12
succeeded:
  add $OP_BYTES, %rbx
  inc %ebp
  dec %r13
  jmp next

other:
  cmpl $OP_IS_VALUE, OP_KIND(%rbx)
  je call
  cmpl $OP_IS_DESCRIPTOR, OP_KIND(%rbx)
  jne clone

// What the next thread inherits: the descriptor by which it finds its slot. It can be set by the calls of i386 alone, which
// take addresses of 32 bits: the page of r8 that has it at the offset rax is mapped there for a moment. rdi, rsi, rdx, r10 and r9
// are the arguments of mmap(2).
  mov %eax, %r12d
  mov $__NR_mmap, %eax
  syscall
  cmp $MAX_ERRNO_START, %rax
  jae failed
  mov %rax, %rdi
  lea (%rax, %r12), %rbx
  mov $NR_SET_THREAD_AREA_I386, %eax
runsc_systrap_int80:
  int $0x80
  movslq %eax, %r12
  mov $__NR_munmap, %eax
  syscall
  mov %ebp, %ebx
  inc %ebx
  shl $6, %rbx
  add %r14, %rbx
  mov %r12, %rax
  test %rax, %rax
  jz succeeded
  jmp failed

// A clone: rdi are its flags. For a thread rsi is the address of its slot. For a process rsi is the descriptor and rdx the
// offset of its pages. The newborn has a copy of these registers.
clone:
  mov %rsi, %r8
  mov %rdx, %r9
  mov OP_KIND(%rbx), %r12
  xor %esi, %esi
  xor %edx, %edx
  xor %r10d, %r10d
  // r8 is the TLS of a clone that asks for one, which these do not.
  syscall
  test %rax, %rax
  jz newborn
  mov %rax, %r12
  cmp $MAX_ERRNO_START, %rax
  jb succeeded
failed:
  neg %eax
  mov %eax, %r12d
  lea 1(%rbp), %eax
  TELL
  mov %r12d, %eax
  TELL
  jmp helper
done:
  xor %eax, %eax
  TELL
  test %r12d, %r12d
  jz helper
  .rept 3
  mov %r12d, %eax
  TELL
  shr $8, %r12d
  .endr
  jmp helper

newborn:
  cmp $OP_IS_PROCESS, %r12
  je newborn_process

// A guest thread before its first guest instruction. The helper's filter lets it do more than it ever may again, and it cannot be
// told what to do: it runs this text and reads pages that guests cannot write. r12 is its slot.
  mov %r8, %r12
  movabs $STUB_PARAMS_ADDRESS, %r14
  mov PARAMS_END_DOORBELL(%r14), %edi
  mov $-1, %esi
  mov $CLOSE_RANGE_UNSHARE, %edx
  mov $NR_CLOSE_RANGE, %eax
  syscall
  test %rax, %rax
  jnz give_up
  xor %edi, %edi
  mov PARAMS_FIRST_DOORBELL(%r14), %esi
  dec %esi
  xor %edx, %edx
  mov $NR_CLOSE_RANGE, %eax
  syscall
  test %rax, %rax
  jnz give_up
  mov $PR_SET_PDEATHSIG, %edi
  mov $SIGKILL, %esi
  mov $__NR_prctl, %eax
  syscall
  mov $SECCOMP_SET_MODE_FILTER, %edi
  xor %esi, %esi
  lea PARAMS_PROGRAM(%r14), %rdx
  mov $__NR_seccomp, %eax
  syscall
  test %rax, %rax
  jnz give_up
  jmp find_state

// A new helper, forked from the zygote: its own pages take the place of the zygote's. r8 the descriptor, r9 the offset.
newborn_process:
  mov %r9, %r12
  movabs $STUB_COMMAND_ADDRESS, %rdi
  mov $STUB_COMMAND_BYTES, %esi
  mov $PROT_READ, %edx
  mov $(MAP_SHARED | MAP_FIXED), %r10d
  mov $__NR_mmap, %eax
  syscall
  cmp %rdi, %rax
  jne give_up
  movabs $STUB_STATE_WINDOW, %rdi
  mov $STATE_BLOCK_BYTES, %esi
  lea STUB_COMMAND_BYTES(%r12), %r9
  mov $__NR_mmap, %eax
  syscall
  cmp %rdi, %rax
  jne give_up
  movabs $STUB_SLOT_WINDOW, %rdi
  mov $(SLOTS_PER_BLOCK * SLOT_BYTES), %esi
  mov $(PROT_READ | PROT_WRITE), %edx
  lea STUB_COMMAND_BYTES + STATE_BLOCK_BYTES(%r12), %r9
  mov $__NR_mmap, %eax
  syscall
  cmp %rdi, %rax
  jne give_up
  mov $PR_SET_PDEATHSIG, %edi
  mov $SIGKILL, %esi
  mov $__NR_prctl, %eax
  syscall
  xor %r15d, %r15d
  jmp helper

give_up:
  mov $__NR_exit_group, %eax
  mov $1, %edi
  syscall
  hlt

// ---- Guest threads. r12 is the slot, r13 the thread's part of the state page.

// A call from a patched site: rax is its number, rcx where to go on, r11 is free; nothing else may change, flags and the memory
// below rsp included, and signals can come at any instruction. Up to `committed` the call has not been made, and the sentry puts
// an interrupted thread back on the `syscall` instruction, two bytes before rcx; it knows by the labels where the registers are.
  .balign 64
runsc_systrap_entry:
  mov %rax, %r11
runsc_systrap_entry_flags:
  lahf
  seto %al
  shl $48, %rax
runsc_systrap_entry_pack:
  or %rax, %rcx
runsc_systrap_entry_packed:
  mov $SLOT_SELECTOR, %eax
  lsl %eax, %eax
  shl $STATE_SHIFT, %rax
  add state_window(%rip), %rax
  cmpl $0, STATE_ANSWERS(%rax)
  je served

// Calls that are answered here. What they say comes from the thread's part of the state pages, which no guest can write; a call
// that takes no pointer can do nothing but return it.
.macro ANSWER number, field
  cmp $\number, %r11d
  jne 1f
  mov \field(%rax), %eax
  jmp runsc_systrap_entry_answer
1:
.endm
.macro WRITES number
  cmp $\number, %r11d
  je writes
.endm
  cmp $__NR_rt_sigprocmask, %r11d
  jb served
  je writes
  cmp $__NR_sched_yield, %r11d
  jb served
  je sched_yield
  cmp $__NR_futex, %r11d
  je futex
  ja 2f
  ANSWER __NR_getpid, STATE_PID
  ANSWER __NR_gettid, STATE_TID
  ANSWER __NR_getuid, STATE_UID
  ANSWER __NR_getgid, STATE_GID
  ANSWER __NR_geteuid, STATE_EUID
  ANSWER __NR_getegid, STATE_EGID
  ANSWER __NR_getppid, STATE_PPID
  ANSWER __NR_getpgrp, STATE_PGID
  WRITES __NR_gettimeofday
  WRITES __NR_time
  WRITES __NR_getrlimit
  WRITES __NR_uname
  test %edi, %edi
  jnz served
  ANSWER __NR_getpgid, STATE_PGID
  ANSWER __NR_getsid, STATE_SID
  jmp served
2:
  WRITES __NR_clock_gettime
  WRITES __NR_getcpu
  WRITES __NR_sched_getaffinity
  cmp $NR_PRLIMIT64, %r11d
  jne served

// Calls whose result goes to where the guest says. Nothing is looked up but in pages that no guest can write, and every call can be
// made again from its start, however much of its result was written. The stores are the guest thread's own, with its rights: what it
// cannot write faults, and the sentry goes back to before the call and makes it by the trap (entry.cc), which finds a page that
// is only not there yet, or says EFAULT. Pointers into the stub's own pages are left to it as well, and would harm nobody: what
// guests can write there they can write anyway, and what is read from the slot below are the guest's own registers.
writes:
  sub state_window(%rip), %rax
  shl $(SLOT_SHIFT - STATE_SHIFT), %rax
  add slot_window(%rip), %rax
  mov %r11, SLOT_RAX(%rax)
  mov %rcx, SLOT_RCX(%rax)
  mov %rdx, SLOT_RDX(%rax)
  mov %r8, SLOT_R8(%rax)
  mov %r9, SLOT_R9(%rax)
  mov %r10, SLOT_R10(%rax)
runsc_systrap_entry_writes:
  mov %rax, %r8
// From here on r8 is the slot, r11 the number; rdi, rsi, rdx and r10 are still the arguments. rax, rcx and r9 are free.
.macro TAKES pointer
  cmp results_end(%rip), \pointer
  jae unanswered
.endm
  cmp $__NR_clock_gettime, %r11d
  je clock_gettime
  movabs $STUB_CLOCK_ADDRESS, %r9
  lea TIME_REALTIME_OFFSET(%r9), %rcx
  cmp $__NR_gettimeofday, %r11d
  je read_clock
  cmp $__NR_time, %r11d
  je read_clock
  sub slot_window(%rip), %rax
  shr $(SLOT_SHIFT - STATE_SHIFT), %rax
  add state_window(%rip), %rax
  cmp $__NR_rt_sigprocmask, %r11d
  je sigprocmask
  cmp $__NR_uname, %r11d
  je uname
  cmp $__NR_getcpu, %r11d
  je getcpu
  cmp $__NR_sched_getaffinity, %r11d
  je sched_getaffinity
  cmp $NR_PRLIMIT64, %r11d
  je prlimit
// getrlimit: resource, where to.
  mov %edi, %ecx
  mov %rsi, %r9
limit:
  TAKES %r9
  cmp $RLIM_NLIMITS, %ecx
  jae unanswered
  shl $4, %ecx
  lea STATE_LIMITS(%rax, %rcx), %rax
  mov (%rax), %rcx
  mov 8(%rax), %rax
  mov %rcx, (%r9)
  mov %rax, 8(%r9)
  jmp zero

// rt_sigprocmask: how, which, where the old mask goes to, size. While the thread runs its mask is in its slot, where the sentry looks for
// it: a guest that writes over it has changed its own mask, of which the sentry strips what cannot be blocked. The stub may
// change it as long as no signal is pending, so that no change can make one deliverable. Whoever sends one says first that masks may not
// be changed any more, and looks at them then; the stub changes the mask, and looks then whether it may: so one of the two sees the
// other. If the stub was too late it takes the change back, and the call is the sentry's.
// The store of the mask makes the call: from there on it counts as answered, until it is taken back.
sigprocmask:
  cmpl $0, STATE_MASK_CHANGES(%rax)
  je unanswered
  cmp $SIGSET_BYTES, %r10
  jne unanswered
  TAKES %rsi
  TAKES %rdx
  mov SLOT_MASK(%r8), %r9
  test %rsi, %rsi
  jnz 1f
  test %rdx, %rdx
  jz zero
  mov %r9, (%rdx)
  jmp zero
1:
  mov (%rsi), %rcx
  cmp $SIG_UNBLOCK, %edi
  je 2f
  jb 1f
  cmp $SIG_SETMASK, %edi
  je 3f
  jmp unanswered
1:
  or %r9, %rcx
  jmp 3f
2:
  not %rcx
  and %r9, %rcx
3:
  and $BLOCKABLE, %rcx
  test %rdx, %rdx
  jz 4f
  mov %r9, (%rdx)
4:
  cmp %rcx, %r9
  je zero
  mov %rcx, SLOT_MASK(%r8)
runsc_systrap_entry_masked:
  mfence
  cmpl $0, STATE_MASK_CHANGES(%rax)
  je 6f
  xor %eax, %eax
  mov SLOT_RCX(%r8), %rcx
  mov SLOT_RDX(%r8), %rdx
  mov SLOT_R9(%r8), %r9
  mov SLOT_R10(%r8), %r10
  mov SLOT_R8(%r8), %r8
  jmp runsc_systrap_entry_answer
6:
  mov %r9, SLOT_MASK(%r8)
runsc_systrap_entry_unmasked:
  jmp unanswered

// prlimit64: process, resource, new limit, where to.
prlimit:
  test %edi, %edi
  jnz unanswered
  test %rdx, %rdx
  jnz unanswered
  mov %esi, %ecx
  mov %r10, %r9
  jmp limit

// uname: where to.
uname:
  TAKES %rdi
  lea STATE_UNAME(%rax), %rax
  xor %ecx, %ecx
1:
  mov (%rax, %rcx), %r9
  mov %r9, (%rdi, %rcx)
  add $8, %ecx
  cmp $(UNAME_BYTES & -8), %ecx
  jb 1b
  mov UNAME_BYTES - 8(%rax), %r9
  mov %r9, UNAME_BYTES - 8(%rdi)
  jmp zero

// sched_getaffinity: thread, size, where to.
sched_getaffinity:
  TAKES %rdx
  test %edi, %edi
  jz 1f
  cmp STATE_TID(%rax), %edi
  jne unanswered
1:
  mov STATE_AFFINITY_BYTES(%rax), %ecx
  test %ecx, %ecx
  jz unanswered
  cmp %ecx, %esi
  jb unanswered
  cmp $4096, %esi
  ja unanswered
  test $7, %esi
  jnz unanswered
  mov STATE_AFFINITY(%rax), %rcx
  mov %rcx, (%rdx)
  mov $8, %eax
  jmp written

// getcpu: where to, twice. As the vDSO does it, unless the thread has asked for other CPUs.
getcpu:
  TAKES %rdi
  TAKES %rsi
  mov STATE_AFFINITY(%rax), %r10
  mov $CPUNODE_SELECTOR, %ecx
  lsl %ecx, %eax
  jnz unanswered
  and $CPUNODE_CPU, %eax
  mov TIME_CPUS(%r9), %ecx
  test %ecx, %ecx
  jz unanswered
  xor %edx, %edx
  div %ecx
  cmp $64, %edx
  jae unanswered
  bt %rdx, %r10
  jnc unanswered
  test %rdi, %rdi
  jz 1f
  mov %edx, (%rdi)
1:
  test %rsi, %rsi
  jz zero
  movl $0, (%rsi)
  jmp zero

// The clocks: as the vDSO reads them (sentry/loader/vdso/vdso.c), from a page with the same content. The sentry changes all such
// pages together, so that nobody sees time go backwards between two ways to ask.
clock_gettime:
  TAKES %rsi
  cmp $(clock_offsets_end - clock_offsets), %edi
  jae unanswered
  lea clock_offsets(%rip), %rcx
  mov %edi, %eax
  movzbl (%rcx, %rax), %ecx
  test %ecx, %ecx
  jz unanswered
  movabs $STUB_CLOCK_ADDRESS, %r9
  add %r9, %rcx
// r9 the page, rcx where in it the offset of the clock is; the monotonic clock has none, and says so by its own place.
read_clock:
  mov TIME_SEQUENCE(%r9), %r10d
  test $1, %r10d
  jnz unanswered
  lfence
  rdtsc
  shl $32, %rdx
  or %rdx, %rax
  cmp TIME_TSC_LIMIT(%r9), %rax
  jae unanswered
  sub TIME_TSC_BASE(%r9), %rax
  jae 1f
  xor %eax, %eax
1:
  mulq TIME_MULT(%r9)
  shrd $32, %rdx, %rax
  add TIME_MONOTONIC(%r9), %rax
  lea TIME_MONOTONIC(%r9), %rdx
  cmp %rdx, %rcx
  je 2f
  add (%rcx), %rax
2:
  cmp TIME_SEQUENCE(%r9), %r10d
  jne read_clock
  test %rax, %rax
  js unanswered
  xor %edx, %edx
  mov $NS_PER_SEC, %ecx
  div %rcx
  cmp $__NR_clock_gettime, %r11d
  je 4f
  cmp $__NR_time, %r11d
  jne 3f
  test %rdi, %rdi
  jz written
  TAKES %rdi
  mov %rax, (%rdi)
  jmp written
3:
// gettimeofday: where to, and where the time zone goes to.
  TAKES %rdi
  TAKES %rsi
  test %rdi, %rdi
  jz 5f
  mov %rax, (%rdi)
  mov %edx, %eax
  xor %edx, %edx
  mov $1000, %ecx
  div %ecx
  mov %rax, 8(%rdi)
5:
  test %rsi, %rsi
  jz zero
  movq $0, (%rsi)
  jmp zero
4:
  mov %rax, (%rsi)
  mov %rdx, 8(%rsi)
zero:
  xor %eax, %eax
written:
  mov SLOT_RCX(%r8), %rcx
  mov SLOT_RDX(%r8), %rdx
  mov SLOT_R9(%r8), %r9
  mov SLOT_R10(%r8), %r10
  mov SLOT_R8(%r8), %r8
  jmp runsc_systrap_entry_answer
unanswered:
  mov SLOT_RAX(%r8), %r11
  mov SLOT_RCX(%r8), %rcx
  mov SLOT_RDX(%r8), %rdx
  mov SLOT_R9(%r8), %r9
  mov SLOT_R10(%r8), %r10
  mov %r8, %rax
  sub slot_window(%rip), %rax
  shr $(SLOT_SHIFT - STATE_SHIFT), %rax
  add state_window(%rip), %rax
  mov SLOT_R8(%r8), %r8
runsc_systrap_entry_writes_end:
  jmp served

// By the number of the clock; 0: not here.
clock_offsets:
  .byte TIME_REALTIME_OFFSET, TIME_MONOTONIC, 0, 0, 0, TIME_REALTIME_OFFSET, TIME_MONOTONIC, TIME_BOOTTIME_OFFSET
  .byte 0, 0, 0, TIME_TAI_OFFSET
clock_offsets_end:

sched_yield:

// sched_yield: to the host's tasks, of which the other threads of the guest are some. The host's own call takes rcx and r11.
  sub state_window(%rip), %rax
  shl $(SLOT_SHIFT - STATE_SHIFT), %rax
  add slot_window(%rip), %rax
  mov %rcx, SLOT_RCX(%rax)
runsc_systrap_entry_yield:
  mov $__NR_sched_yield, %eax
runsc_systrap_yield:
  syscall
  mov $SLOT_SELECTOR, %eax
  lsl %eax, %eax
  shl $SLOT_SHIFT, %rax
  add slot_window(%rip), %rax
  mov SLOT_RCX(%rax), %rcx
  mov $__NR_sched_yield, %r11d
runsc_systrap_entry_yielded:
  xor %eax, %eax

// Back with what is in rax. From here on the call counts as made: the sentry does the rest for a thread that is interrupted
// (entry.cc).
runsc_systrap_entry_answer:
  mov %rax, %r11
runsc_systrap_entry_answer1:
  mov %rcx, %rax
runsc_systrap_entry_answer2:
  shr $48, %rax
runsc_systrap_entry_answer3:
  shl $16, %rcx
runsc_systrap_entry_answer4:
  shr $16, %rcx
runsc_systrap_entry_answer5:
  add $0x7f, %al
runsc_systrap_entry_answer6:
  sahf
  mov %r11, %rax
runsc_systrap_entry_answer7:
  jmp *%rcx
runsc_systrap_entry_answer_end:

// Private futexes: those of the host, as the address space is one, for a wait without a limit and for a wake. Neither touches
// anything but the guest's own memory. The sentry's own waiters are told by their hashes in the state page, those here count
// themselves where the sentry looks: whoever waits says so before the kernel compares the word, whoever wakes has changed
// the word before it looks, so that one of the two sees the other.
futex:
  cmp $FUTEX_WAIT_PRIVATE, %esi
  je 2f
  cmp $FUTEX_WAKE_PRIVATE, %esi
  je futex_wake
  cmp $FUTEX_WAIT_BITSET_PRIVATE, %esi
  je 1f
  cmp $(FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME), %esi
  jne served
1:
  cmp $-1, %r9d
  jne served
2:
  test %r10, %r10
  jnz served
  sub state_window(%rip), %rax
  shl $(SLOT_SHIFT - STATE_SHIFT), %rax
  add slot_window(%rip), %rax
  mov %rcx, SLOT_RCX(%rax)
  mov %rsi, SLOT_RSI(%rax)
runsc_systrap_entry_wait:
// A word that has changed already is one that changed before the call. So the thread may look at it for a while, which the
// state page limits, and the thread's meter says whether (futex_meter.h). The word is read with the thread's own rights: if
// it cannot be read the thread goes back to before its call, as above. From `look` to `looked` rdx stands in the slot.
  test $3, %dil
  jnz 5f
  cmp results_end(%rip), %rdi
  jae 5f
  cmp %edx, (%rdi)
  jne changed
  mov %rax, %rsi
  sub slot_window(%rip), %rsi
  shr $(SLOT_SHIFT - STATE_SHIFT), %rsi
  add state_window(%rip), %rsi
  mov STATE_LOOK(%rsi), %r11d
  test %r11d, %r11d
  jz 5f
  mov %rdx, SLOT_RDX(%rax)
runsc_systrap_entry_look:
  mov %rax, %rsi
  rdtsc
  shl $32, %rdx
  or %rdx, %rax
  mov %rax, SLOT_BEGUN(%rsi)
  mov SLOT_SHORT(%rsi), %ecx
  cmp SLOT_PAUSE(%rsi), %ecx
  jbe 4f
  mov %rax, %rcx
  movq $0, SLOT_BEGUN(%rsi)
// rsi the slot, rcx when it began, r11 how long it may take.
1:
  .rept 8
  mov (%rdi), %eax
  cmp SLOT_RDX(%rsi), %eax
  jne 3f
  pause
  .endr
  rdtsc
  shl $32, %rdx
  or %rdx, %rax
  sub %rcx, %rax
  cmp %r11, %rax
  jb 1b
  shr $FUTEX_METER_GAP_SHIFT, %rax
  cmp %r11, %rax
  jae crowded
  subl $FUTEX_METER_MISS, SLOT_SCORE(%rsi)
  jns 4f
  mov SLOT_PAUSE(%rsi), %eax
  lea FUTEX_METER_FIRST(%rax, %rax), %eax
  mov $FUTEX_METER_LONGEST, %ecx
2:
  cmp %ecx, %eax
  cmova %ecx, %eax
  movl $0, SLOT_SCORE(%rsi)
  mov %eax, SLOT_PAUSE(%rsi)
  movl $0, SLOT_SHORT(%rsi)
  jmp 4f
crowded:
  mov SLOT_PAUSE(%rsi), %eax
  lea FUTEX_METER_CROWDED(%rax, %rax), %eax
  mov $FUTEX_METER_LONGEST_CROWDED, %ecx
  jmp 2b
3:
  rdtsc
  shl $32, %rdx
  or %rdx, %rax
  sub %rcx, %rax
  shr $FUTEX_METER_GAP_SHIFT, %rax
  cmp %r11, %rax
  jae crowded
  mov SLOT_SCORE(%rsi), %eax
  cmp $FUTEX_METER_MOST, %eax
  jge 4f
  inc %eax
  mov %eax, SLOT_SCORE(%rsi)
  cmp $FUTEX_METER_GOOD, %eax
  jl 4f
  movl $0, SLOT_PAUSE(%rsi)
4:
  mov %rsi, %rax
  mov SLOT_RDX(%rax), %rdx
runsc_systrap_entry_looked:
  cmp %edx, (%rdi)
  je 5f
changed:
  mov SLOT_RSI(%rax), %rsi
  mov SLOT_RCX(%rax), %rcx
  mov $-EAGAIN, %rax
  jmp runsc_systrap_entry_answer
5:
  mov $FUTEX_WAIT_PRIVATE, %esi
  movl $1, SLOT_SLEEPS(%rax)
  incl SLOT_SLEPT(%rax)
  mov %edi, %ecx
  shr $FUTEX_HASH_SHIFT, %ecx
  and $(FUTEX_HASHES - 1), %ecx
  mov slot_window(%rip), %r11
  lock incl SLOT_WAITERS(%r11, %rcx, 4)
runsc_systrap_entry_wait_counted:
  mov $__NR_futex, %eax
runsc_systrap_futex_wait:
  syscall
runsc_systrap_entry_waited:
  mov %edi, %ecx
  shr $FUTEX_HASH_SHIFT, %ecx
  and $(FUTEX_HASHES - 1), %ecx
  mov slot_window(%rip), %r11
  lock decl SLOT_WAITERS(%r11, %rcx, 4)
runsc_systrap_entry_waited_uncounted:
  mov $SLOT_SELECTOR, %r11d
  lsl %r11d, %r11d
  shl $SLOT_SHIFT, %r11
  add slot_window(%rip), %r11
  movl $0, SLOT_SLEEPS(%r11)
  cmpq $0, SLOT_BEGUN(%r11)
  je 1f
  mov %rax, %rsi
// To `timed` the result stands in rsi, and rdx in the slot.
runsc_systrap_entry_timing:
  rdtsc
  shl $32, %rdx
  or %rdx, %rax
  sub SLOT_BEGUN(%r11), %rax
  mov %r11, %rcx
  sub slot_window(%rip), %rcx
  shr $(SLOT_SHIFT - STATE_SHIFT), %rcx
  add state_window(%rip), %rcx
  mov STATE_LOOK(%rcx), %ecx
  shr $FUTEX_METER_SHORT_SHIFT, %rax
  cmp %rcx, %rax
  jae 2f
  incl SLOT_SHORT(%r11)
2:
  mov SLOT_RDX(%r11), %rdx
  mov %rsi, %rax
runsc_systrap_entry_timed:
1:
  mov SLOT_RSI(%r11), %rsi
  mov SLOT_RCX(%r11), %rcx
runsc_systrap_entry_waited_done:
  // A page that the host does not have yet, and an interrupt that was for somebody else: the sentry's.
  cmp $-EFAULT, %rax
  je 3f
  cmp $-EINTR, %rax
  jne runsc_systrap_entry_answer
3:
  mov $__NR_futex, %r11d
runsc_systrap_entry_again:
  mov $SLOT_SELECTOR, %eax
  lsl %eax, %eax
  shl $STATE_SHIFT, %rax
  add state_window(%rip), %rax
  jmp served

futex_wake:
  sub state_window(%rip), %rax
  shl $(SLOT_SHIFT - STATE_SHIFT), %rax
  add slot_window(%rip), %rax
  mov %rcx, SLOT_RCX(%rax)
runsc_systrap_entry_wake:
  mfence
  mov %rax, %r11
  sub slot_window(%rip), %r11
  shr $(SLOT_SHIFT - STATE_SHIFT), %r11
  and $-STATE_BLOCK_BYTES, %r11
  add state_window(%rip), %r11
  mov STATE_FUTEXES(%r11), %r11
  mov %edi, %ecx
  shr $FUTEX_HASH_SHIFT, %ecx
  and $(FUTEX_HASHES - 1), %ecx
  bt %rcx, %r11
  jnc 1f
  mov SLOT_RCX(%rax), %rcx
  mov $__NR_futex, %r11d
  jmp runsc_systrap_entry_again
1:
  // Nobody waits on the host: the kernel would say so too.
  test $3, %dil
  jnz 1f
  cmp results_end(%rip), %rdi
  jae 1f
  mov slot_window(%rip), %r11
  cmpl $0, SLOT_WAITERS(%r11, %rcx, 4)
  jne 1f
  mov SLOT_RCX(%rax), %rcx
  xor %eax, %eax
  jmp runsc_systrap_entry_answer
1:
  mov $__NR_futex, %eax
runsc_systrap_futex_wake:
  syscall
runsc_systrap_entry_woken:
  mov $SLOT_SELECTOR, %r11d
  lsl %r11d, %r11d
  shl $SLOT_SHIFT, %r11
  add slot_window(%rip), %r11
  mov SLOT_RCX(%r11), %rcx
runsc_systrap_entry_woken_done:
  jmp runsc_systrap_entry_answer
runsc_systrap_entry_woken_end:

// All others.
served:
runsc_systrap_entry_served:
  sub state_window(%rip), %rax
  shl $(SLOT_SHIFT - STATE_SHIFT), %rax
  add slot_window(%rip), %rax
  mov %r11, SLOT_RAX(%rax)
  mov %rcx, SLOT_RCX(%rax)
  mov %rdx, SLOT_RDX(%rax)
  mov %rbx, SLOT_RBX(%rax)
  mov %rbp, SLOT_RBP(%rax)
  mov %rsi, SLOT_RSI(%rax)
  mov %rdi, SLOT_RDI(%rax)
  mov %r8, SLOT_R8(%rax)
  mov %r9, SLOT_R9(%rax)
  mov %r10, SLOT_R10(%rax)
  mov %r12, SLOT_R12(%rax)
  mov %r13, SLOT_R13(%rax)
  mov %r14, SLOT_R14(%rax)
  mov %r15, SLOT_R15(%rax)
  mov %rsp, SLOT_RSP(%rax)
  // Not on the alternate stack: the host would take a signal here for one that came during another.
  lea SLOT_CALL_END(%rax), %rsp
runsc_systrap_entry_saved:
  pushf
  mov %rax, %r12
  movl $SLOT_SIGNAL_CALL, SLOT_SIGNAL(%r12)
  rdfsbase %rdi
  mov %rdi, SLOT_FS_BASE(%r12)
  rdgsbase %rdi
  mov %rdi, SLOT_GS_BASE(%r12)
  mov %r12, %r13
  sub slot_window(%rip), %r13
  shr $(SLOT_SHIFT - STATE_SHIFT), %r13
  add state_window(%rip), %r13
  mov STATE_XSTATE(%r13), %rdi
  mov STATE_FEATURES(%r13), %eax
  mov STATE_FEATURES + 4(%r13), %edx
  xsave64 (%rdi)
  mov $SLOT_IS_EVENT, %eax
  xchg %eax, SLOT_STATE(%r12)
runsc_systrap_entry_committed:
  jmp ring

// Every signal: a system call that the filter stopped, a fault, an interrupt. The frame is at the top of the slot, and the sentry
// reads and writes the guest's registers there.
runsc_systrap_handler:
  mov %rsp, %r12
  and $-SLOT_BYTES, %r12
  cmp $SIGSTKFLT, %edi
  jne event
  // One that finds the thread waiting after a call came too late, unless the sentry has let it go on meanwhile.
  lea runsc_systrap_entry_committed(%rip), %rcx
  mov UCONTEXT_RIP(%rdx), %rax
  sub %rcx, %rax
  cmp $(runsc_systrap_entry_end - runsc_systrap_entry_committed), %rax
  jae event
  cmpl $SLOT_IS_EVENT, SLOT_STATE(%r12)
  jne event
  add $8, %rsp
  jmp runsc_systrap_restorer
event:
  rdfsbase %rax
  mov %rax, SLOT_FS_BASE(%r12)
  rdgsbase %rax
  mov %rax, SLOT_GS_BASE(%r12)
  mov %edi, SLOT_SIGNAL(%r12)
  movabs $STUB_SLOT_WINDOW, %rax
  mov %r12, %r13
  sub %rax, %r13
  shr $(SLOT_SHIFT - STATE_SHIFT), %r13
  movabs $STUB_STATE_WINDOW, %rax
  add %rax, %r13
  mov $SLOT_IS_EVENT, %eax
  xchg %eax, SLOT_STATE(%r12)
ring:
  // After the exchange, as the executor looks at the state after it has taken the flag back.
  cmpl $0, STATE_POLLED(%r13)
  jne wait
  mov STATE_DOORBELL(%r13), %edi
  lea STATE_ID(%r13), %rsi
  mov $4, %edx
  mov $__NR_write, %eax
runsc_systrap_write:
  syscall
  jmp wait

find_state:
  movabs $STUB_SLOT_WINDOW, %rax
  mov %r12, %r13
  sub %rax, %r13
  shr $(SLOT_SHIFT - STATE_SHIFT), %r13
  movabs $STUB_STATE_WINDOW, %rax
  add %rax, %r13
wait:
runsc_systrap_wait:
  mov STATE_SPIN(%r13), %ecx
1:
  mov SLOT_STATE(%r12), %eax
  cmp $SLOT_IS_EVENT, %eax
  jne resume
  sub $1, %ecx
  jb 2f
  pause
  jmp 1b
2:
  // The executor, if it is what runs next on this CPU, answers meanwhile, and nobody has to be woken.
  mov STATE_YIELDS(%r13), %edx
3:
  sub $1, %edx
  jb 4f
  mov $__NR_sched_yield, %eax
runsc_systrap_wait_yield:
  syscall
  mov SLOT_STATE(%r12), %eax
  cmp $SLOT_IS_EVENT, %eax
  jne resume
  jmp 3b
4:
  movl $1, SLOT_WAITING(%r12)
  lea SLOT_STATE(%r12), %rdi
  mov $FUTEX_WAIT, %esi
  mov $SLOT_IS_EVENT, %edx
  xor %r10d, %r10d
  mov $__NR_futex, %eax
runsc_systrap_futex:
  syscall
  movl $0, SLOT_WAITING(%r12)
  jmp wait
resume:
  test $SLOT_IS_RENEWED, %al
  jz 6f
  xor $SLOT_IS_RENEWED, %eax
  xor %ecx, %ecx
  mov %ecx, %ds
  mov %ecx, %es
  mov %ecx, %fs
  mov %ecx, %gs
6:
  cmp $SLOT_IS_RETURNED, %eax
  je return
  // Behind a call signals may come, and for one that finds rsp in the frame of the alternate stack there is no room.
  mov STATE_FRAME(%r13), %rcx
  cmp $SLOT_IS_RELOADED, %eax
  jne 5f
  mov STATE_CALL_FRAME(%r13), %rcx
5:
  mov %rcx, %rsp
  mov SLOT_FS_BASE(%r12), %rax
  wrfsbase %rax
  mov SLOT_GS_BASE(%r12), %rax
  wrgsbase %rax
  add $8, %rsp
runsc_systrap_restorer:
  mov $__NR_rt_sigreturn, %eax
runsc_systrap_sigreturn:
  syscall
  hlt

// Back to behind a patched site. What does not stand here has not changed.
return:
  mov SLOT_RCX(%r12), %rcx
  mov %rcx, %rax
  shr $48, %rax
  shl $16, %rcx
  shr $16, %rcx
  add $0x7f, %al
  sahf
  mov SLOT_RDX(%r12), %rdx
  mov SLOT_RSP(%r12), %rsp
  mov SLOT_RSI(%r12), %rsi
  mov SLOT_RDI(%r12), %rdi
  mov SLOT_R10(%r12), %r10
  mov SLOT_R13(%r12), %r13
  mov SLOT_RFLAGS(%r12), %r11
  mov SLOT_RAX(%r12), %rax
  mov SLOT_R12(%r12), %r12
  jmp *%rcx
runsc_systrap_entry_end:

  .balign 8
slot_window:
  .quad STUB_SLOT_WINDOW
state_window:
  .quad STUB_STATE_WINDOW
results_end:
  .quad STUB_RESULTS_END

// Where runsc_systrap_enter continues in the zygote: everything but our pages goes, and the filter of helpers is taken.
clear:
  xor %edi, %edi
  movabs $STUB_TEXT_ADDRESS, %rsi
  mov $__NR_munmap, %eax
  syscall
  movabs $(STUB_TEXT_ADDRESS + 4096), %rdi
  mov $(STUB_PARAMS_ADDRESS - STUB_TEXT_ADDRESS - 4096), %esi
  mov $__NR_munmap, %eax
  syscall
  movabs $(STUB_PARAMS_ADDRESS + 4096), %rdi
  mov $(STUB_COMMAND_ADDRESS - STUB_PARAMS_ADDRESS - 4096), %esi
  mov $__NR_munmap, %eax
  syscall
  movabs $(STUB_CLOCK_ADDRESS + 4096), %rdi
  mov $(STUB_TOP_ADDRESS - STUB_CLOCK_ADDRESS - 4096), %esi
  mov $__NR_munmap, %eax
  syscall
  mov $SECCOMP_SET_MODE_FILTER, %edi
  xor %esi, %esi
  movabs $(STUB_PARAMS_ADDRESS + PARAMS_HELPER_PROGRAM), %rdx
  mov $__NR_seccomp, %eax
  syscall
  test %rax, %rax
  jnz give_up
  xor %r15d, %r15d
  jmp helper

  .balign 4096
runsc_systrap_text_end:

// edi text, esi params, edx slots: descriptors; rcx: the offset of the clock page in the last.
  .globl runsc_systrap_enter
  .type runsc_systrap_enter, @function
runsc_systrap_enter:
  mov %edi, %r8d
  mov %esi, %ebx
  mov %edx, %ebp
  mov %rcx, %r12
  movabs $STUB_TEXT_ADDRESS, %rdi
  mov $4096, %esi
  mov $(PROT_READ | PROT_EXEC), %edx
  mov $(MAP_PRIVATE | MAP_FIXED), %r10d
  xor %r9d, %r9d
  mov $__NR_mmap, %eax
  syscall
  cmp %rdi, %rax
  jne 1f
  movabs $STUB_PARAMS_ADDRESS, %rdi
  mov $PROT_READ, %edx
  mov %ebx, %r8d
  mov $__NR_mmap, %eax
  syscall
  cmp %rdi, %rax
  jne 1f
  movabs $STUB_COMMAND_ADDRESS, %rdi
  mov $STUB_COMMAND_BYTES, %esi
  mov $(MAP_SHARED | MAP_FIXED), %r10d
  mov %ebp, %r8d
  mov $__NR_mmap, %eax
  syscall
  cmp %rdi, %rax
  jne 1f
  // Helpers inherit it.
  movabs $STUB_CLOCK_ADDRESS, %rdi
  mov $4096, %esi
  mov %r12, %r9
  mov $__NR_mmap, %eax
  syscall
  cmp %rdi, %rax
  jne 1f
  movabs $STUB_TEXT_ADDRESS, %rdi
  add $(clear - runsc_systrap_text_begin), %rdi
  jmp *%rdi
1:
  mov $__NR_exit_group, %eax
  mov $1, %edi
  syscall
  hlt
  .size runsc_systrap_enter, . - runsc_systrap_enter

  .section .note.GNU-stack, "", @progbits

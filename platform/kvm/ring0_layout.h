// The addresses of ring 0 in every guest address space, and the layout of a virtual CPU's page there, for C++ and for
// ring0_text.S.
//
// Each virtual CPU has two pages in the upper half, which ring 3 cannot read: the text (the same memory for all of
// them), and behind it its own state. The text finds the state relative to its stack, or to its own address where it
// has none yet, so that ring 0 needs no GS.
#ifndef PLATFORM_KVM_RING0_LAYOUT_H_
#define PLATFORM_KVM_RING0_LAYOUT_H_

#define RING0_START 0xffffff8000000000  // the last entry but one of the top table would do as well
#define RING0_CPU_STRIDE 0x2000
#define RING0_STATE_OFFSET 0x1000
#define RING0_IDT_OFFSET 0x1ff000  // of the shared IDT; the CPUs' pages lie below
#define RING0_MAX_CPUS 254

// In the state page.
#define STATE_EXITED 0x00    // u32: 1 when ring 0 has written the frame and asks for the sentry
#define STATE_LOAD_CR3 0x08  // u64: what to load before going back; 0: what is there
#define STATE_FS_BASE 0x10
#define STATE_GS_BASE 0x18
#define STATE_DS 0x20  // u16 each
#define STATE_ES 0x22
#define STATE_FS 0x24
#define STATE_GS 0x26
#define STATE_SYSRET 0x48          // u32: go back by `sysret` this time; the registers allow it
#define STATE_CAN_SYSRET 0x4c      // u32: the host knows `sysret`
#define STATE_SYSCALL_FAULTS 0x50  // u32: here a `syscall` is a page fault at its entry (Vcpu::SyscallStaysInRing3)
#define STATE_XSAVED 0x54          // u32: 1 when ring 0 has saved the vector state
#define STATE_XSAVE_AT 0x58  // u64 each: where to save the vector state before going back, and where to load another
#define STATE_XLOAD_AT 0x60  // from; 0: not; ring 0 makes it 0 when it has
#define STATE_ANSWERS 0x70   // an answer block (below), for calls that ring 0 answers
#define STATE_GPRS 0x300  // r15 … rdi, in the order of platform::Registers; below: room for a fault of ring 0 itself
#define STATE_VECTOR 0x378
#define STATE_ERROR 0x380
#define STATE_RIP 0x388
#define STATE_CS 0x390
#define STATE_RFLAGS 0x398
#define STATE_RSP 0x3a0
#define STATE_SS 0x3a8
#define STATE_STACK_TOP 0x3b0  // TSS.RSP0: the processor's frame lands where the fields above are
#define STATE_GDT 0x400
#define STATE_TSS 0x500
// Stacks of their own for what may come before ring 0 has left ring 3's stack, or at any time.
#define STATE_IST_TOP 0x800            // for a double fault
#define STATE_DEBUG_STACK_TOP 0xa00    // debug exceptions
#define STATE_NMI_STACK_TOP 0xc00      // interrupts that cannot be masked
#define STATE_MACHINE_STACK_TOP 0xe00  // machine checks

// An answer block: what a thread's calls without arguments return. u32 each.
#define ANSWER_VALID 0x00  // 0: every call is an exit
#define ANSWER_PID 0x04
#define ANSWER_TID 0x08
#define ANSWER_PPID 0x0c
#define ANSWER_UID 0x10
#define ANSWER_EUID 0x14
#define ANSWER_GID 0x18
#define ANSWER_EGID 0x1c
#define ANSWER_PGID 0x20

#define RING0_PORT 0x3e

// For hosts where `syscall` does not change the privilege (Vcpu::UseGate): two pages for each virtual CPU, which ring 3
// can read and not write: the gate, which it may execute (the same memory for all), and an answer block behind it.
#define RING0_GATE_OFFSET 0x200000
#define RING0_GATE_STRIDE 0x2000
#define RING0_GATE_ANSWERS 0x1000
#define RING0_GATE_PORT 0x3f

// Where ring 0 can handle vector state (Machine::Traits): two pages for each virtual CPU, to save to and to load from.
#define RING0_VECTOR_OFFSET 0x400000
#define RING0_VECTOR_STRIDE 0x2000

#define SELECTOR_KERNEL_CS 0x10
#define SELECTOR_KERNEL_SS 0x18
#define SELECTOR_USER_SS 0x2b
#define SELECTOR_USER_CS 0x33
#define SELECTOR_TSS 0x38

// Vectors in STATE_VECTOR beyond the processor's.
#define VECTOR_KICK 32      // the interrupt by which the sentry takes a virtual CPU out of ring 3
#define VECTOR_SYSCALL 256  // `syscall`, where it enters ring 0
#define RING0_STUB_BYTES 16
#define RING0_STUBS 33

#endif  // PLATFORM_KVM_RING0_LAYOUT_H_

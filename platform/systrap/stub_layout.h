// What every stub has at fixed addresses above the guest's range, and nothing else of ours.
//
//   0x7ffff0000000  end of the guest's range (128 TiB − 256 MiB)
//   kSlotWindow     slots: 8 KiB of memory per guest thread that guests can write; a block of 16 at a time
//   kStateWindow    1 KiB per guest thread that guests can only read; four pages per block
//   kStubText       code, read and execute only, the same host page in every stub
//   kStubParams     constants that are known when the platform is made: the guests' filter, descriptor numbers
//   kStubCommand    the operations of the batch that the helper runs
//   kStubClock      the time (platform/vdso_page.h), which guests can only read; the same host page in every stub
//
// Guest threads can jump to any byte of the text with any registers and write every byte of every slot of their address
// space. What that gives them is in docs/security.md: nothing that they cannot do to themselves anyway.
#ifndef PLATFORM_SYSTRAP_STUB_LAYOUT_H_
#define PLATFORM_SYSTRAP_STUB_LAYOUT_H_

#define STUB_SLOT_WINDOW 0x7ffff0000000
#define STUB_STATE_WINDOW 0x7ffff8000000
#define STUB_TEXT_ADDRESS 0x7ffffff10000
#define STUB_PARAMS_ADDRESS 0x7ffffff12000
#define STUB_COMMAND_ADDRESS 0x7ffffff14000
#define STUB_TOP_ADDRESS 0x7ffffffff000
#define STUB_COMMAND_BYTES 0x4000
// Right behind the command pages.
#define STUB_CLOCK_ADDRESS 0x7ffffff18000

#define SLOT_SHIFT 13
#define SLOT_BYTES 0x2000
#define SLOTS_PER_BLOCK 16
#define STATE_SHIFT 10
#define STATE_BLOCK_BYTES (SLOTS_PER_BLOCK << STATE_SHIFT)

// Offsets in a slot.
#define SLOT_STATE 0
#define SLOT_WAITING 4
#define SLOT_SIGNAL 8
#define SLOT_SLEEPS 12
#define SLOT_FS_BASE 16
#define SLOT_GS_BASE 24
// The registers of a call that came through runsc_systrap_entry. Of rcx the low 48 bits are the address to return to,
// the high 16 what `lahf; seto %al` leave in ax; the flags are complete but for those.
#define SLOT_CALL 32
#define SLOT_RAX 32
#define SLOT_RCX 40
#define SLOT_RDX 48
#define SLOT_RBX 56
#define SLOT_RSP 64
#define SLOT_RBP 72
#define SLOT_RSI 80
#define SLOT_RDI 88
#define SLOT_R8 96
#define SLOT_R9 104
#define SLOT_R10 112
#define SLOT_R12 120
#define SLOT_R13 128
#define SLOT_R14 136
#define SLOT_R15 144
#define SLOT_RFLAGS 152
#define SLOT_CALL_END 160
#define SLOT_SLEPT 160
#define SLOT_MASK 168
// FutexMeter.
#define SLOT_METER 176
#define SLOT_SHORT 176
#define SLOT_PAUSE 180
#define SLOT_SCORE 184
#define SLOT_BEGUN 192
// Of the first slot of an address space alone: how many guest threads wait for a futex on the host, by the address's
// hash.
#define SLOT_WAITERS 256
#define FUTEX_HASH_SHIFT 2
#define FUTEX_HASHES 64
// The canonical place of the signal frame, from the start of the slot: the sentry computes it and the state page says
// it. Offsets in a thread's part of the state page.
#define STATE_ID 0
#define STATE_DOORBELL 4
#define STATE_FRAME 8
#define STATE_XSTATE 16
#define STATE_FEATURES 24
#define STATE_DESCRIPTOR 32
#define STATE_POLLED 48
#define STATE_SPIN 52
#define STATE_YIELDS 56
// How many cycles a thread may look at the word of a futex; 0: not at all.
#define STATE_LOOK 60
// What calls return that the stub answers; the first word says whether it may.
#define STATE_ANSWERS 64
#define STATE_TID 68
#define STATE_PID 72
#define STATE_PPID 76
#define STATE_UID 80
#define STATE_EUID 84
#define STATE_GID 88
#define STATE_EGID 92
// Of the first thread of a block alone, for all of them: the hashes of the futexes at which the sentry has waiters.
#define STATE_FUTEXES 96
#define STATE_CALL_FRAME 104
// And what calls write that the stub answers.
#define STATE_PGID 112
#define STATE_SID 116
#define STATE_AFFINITY 120
#define STATE_AFFINITY_BYTES 128
// Whether the stub may change SLOT_MASK.
#define STATE_MASK_CHANGES 132
#define STATE_LIMITS 136
#define STATE_UNAME 392
#define UNAME_BYTES 390
// Offsets in the clock page.
#define TIME_SEQUENCE 0
#define TIME_CPUS 4
#define TIME_TSC_BASE 8
#define TIME_TSC_LIMIT 16
#define TIME_MULT 24
#define TIME_MONOTONIC 32
#define TIME_REALTIME_OFFSET 40
#define TIME_BOOTTIME_OFFSET 48
#define TIME_TAI_OFFSET 56
// Results are not written behind this address: from here to the slots is a page, and no result is longer.
#define STUB_RESULTS_END (STUB_SLOT_WINDOW - 4096)

// Values of SLOT_STATE. Written by the stub: EVENT. By the sentry: RESUMED, go on with the registers of the frame;
// RETURNED, after a call alone: with those that the call left, and rax of the slot; RELOADED: with those of the call
// frame. To the first or the last of them RENEWED is added for a new program, whose segment registers are 0.
#define SLOT_IS_EVENT 0
#define SLOT_IS_RESUMED 1
#define SLOT_IS_RETURNED 2
#define SLOT_IS_RELOADED 3
#define SLOT_IS_RENEWED 4

// SLOT_SIGNAL of a call that came through runsc_systrap_entry: no signal.
#define SLOT_SIGNAL_CALL 128

// How a thread finds its slot: the limit of a segment that only the kernel can change (set_thread_area) is its number.
// GDT_ENTRY_TLS_MIN of arch/x86/include/asm/segment.h, and the selector for it.
#define SLOT_GDT_ENTRY 12
#define SLOT_SELECTOR (SLOT_GDT_ENTRY * 8 + 3)

// Offsets in the params page.
#define PARAMS_FIRST_DOORBELL 0
#define PARAMS_END_DOORBELL 4
#define PARAMS_PROGRAM 16
#define PARAMS_HELPER_PROGRAM 32
#define PARAMS_BYTES 256

// Offsets in an operation of the command page.
#define OP_BYTES 64
#define OP_KIND 56
#define OP_IS_CALL 0
#define OP_IS_THREAD 1
#define OP_IS_PROCESS 2
#define OP_IS_DESCRIPTOR 3
#define OP_IS_VALUE 4

#define COMMAND_SEQUENCE 0
#define COMMAND_COUNT 8
#define COMMAND_ACK_FD 16

#ifndef __ASSEMBLER__
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "platform/host_op.h"
#include "platform/platform.h"
#include "platform/systrap/futex_meter.h"
#include "platform/vdso_page.h"

namespace platform::systrap {

inline constexpr uint64_t kGuestStart = 0x10000;
inline constexpr uint64_t kGuestEnd = STUB_SLOT_WINDOW;
inline constexpr uint64_t kSlotWindow = STUB_SLOT_WINDOW;
inline constexpr uint64_t kStateWindow = STUB_STATE_WINDOW;
inline constexpr uint64_t kStubText = STUB_TEXT_ADDRESS;
inline constexpr uint64_t kStubParams = STUB_PARAMS_ADDRESS;
inline constexpr uint64_t kStubCommand = STUB_COMMAND_ADDRESS;
inline constexpr uint64_t kStubClock = STUB_CLOCK_ADDRESS;
inline constexpr size_t kStubPage = 4096;
inline constexpr size_t kSlotBytes = SLOT_BYTES;
inline constexpr size_t kSlotsPerBlock = SLOTS_PER_BLOCK;
inline constexpr size_t kBlockBytes = kSlotBytes * kSlotsPerBlock;
inline constexpr size_t kStateBlockBytes = STATE_BLOCK_BYTES;
inline constexpr size_t kMaxBlocks = (kStateWindow - kSlotWindow) / kBlockBytes;

// SLOT_CALL. Whether the frame holds the registers or this does is said by `signal`.
struct CallRegisters {
  uint64_t rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r12, r13, r14, r15, rflags;
};
static_assert(sizeof(CallRegisters) == SLOT_CALL_END - SLOT_CALL);

// struct user_desc (man 2 set_thread_area): a segment of SLOT_GDT_ENTRY that is there, without rights, whose limit is a
// slot's number.
struct SlotDescriptor {
  uint32_t entry = SLOT_GDT_ENTRY;
  uint32_t base = 0;
  uint32_t limit = 0;
  uint32_t flags = 1 | 1 << 6;  // seg_32bit, useable
};

// CallAnswers (platform.h) where the stub finds them.
struct Answers {
  std::atomic<uint32_t> valid;
  uint32_t tid, pid, ppid, uid, euid, gid, egid;
};
struct LongAnswers {
  uint32_t pgid, sid;
  uint64_t affinity;
  uint32_t affinity_bytes;
  std::atomic<uint32_t> mask_changes;  // see STATE_MASK_CHANGES
  CallAnswers::Limit limits[CallAnswers::kLimits];
  char uname[UNAME_BYTES];
};
static_assert(sizeof(CallAnswers::Limit) == 16 && CallAnswers::kUtsname == UNAME_BYTES);

// A thread's memory that guests can write. Everything in it is a claim of the guest's.
struct Slot {
  std::atomic<uint32_t> state;    // SLOT_IS_…
  std::atomic<uint32_t> waiting;  // the stub sleeps on `state`, or is about to
  int32_t signal;                 // the signal whose frame it is
  std::atomic<uint32_t> sleeps;   // it waits for a futex on the host
  uint64_t fs_base, gs_base;
  CallRegisters call;
  std::atomic<uint32_t> slept;  // how often
  uint32_t unused0;
  std::atomic<uint64_t> mask;  // the signals that the thread blocks, while it runs
  FutexMeter meter;
  uint32_t unused1[14];
  std::atomic<uint32_t> waiters[FUTEX_HASHES];  // see SLOT_WAITERS
  std::byte rest[kSlotBytes - SLOT_WAITERS - 4 * FUTEX_HASHES];
};
static_assert(sizeof(Slot) == kSlotBytes);
static_assert(offsetof(Slot, call) == SLOT_CALL && offsetof(CallRegisters, rflags) == SLOT_RFLAGS - SLOT_CALL);
static_assert(offsetof(Slot, sleeps) == SLOT_SLEEPS && offsetof(Slot, slept) == SLOT_SLEPT &&
              offsetof(Slot, waiters) == SLOT_WAITERS && offsetof(Slot, mask) == SLOT_MASK &&
              offsetof(Slot, meter) == SLOT_METER);
static_assert(SLOT_METER + offsetof(FutexMeter, shorts) == SLOT_SHORT &&
              SLOT_METER + offsetof(FutexMeter, score) == SLOT_SCORE &&
              SLOT_METER + offsetof(FutexMeter, pause) == SLOT_PAUSE &&
              SLOT_METER + offsetof(FutexMeter, begun) == SLOT_BEGUN);
static_assert(offsetof(Slot, fs_base) == SLOT_FS_BASE && offsetof(Slot, gs_base) == SLOT_GS_BASE);

// The same thread's memory that guests can only read.
struct alignas(1 << STATE_SHIFT) ThreadState {
  uint32_t id;        // what the doorbell says: the number of the slot in the slot file
  uint32_t doorbell;  // the descriptor of the executor that serves the thread
  uint64_t frame;     // address in the stub of the canonical signal frame
  uint64_t xstate;    // and of the XSAVE area behind call_frame
  uint64_t features;  // what is saved there
  SlotDescriptor descriptor;
  // The executor looks at the slot before it sleeps: no need to ring.
  std::atomic<uint32_t> polled;
  std::atomic<uint32_t> spin;    // how often the stub looks for its answer before it sleeps
  std::atomic<uint32_t> yields;  // and how often it then yields its CPU
  uint32_t look;                 // see STATE_LOOK
  Answers answers;
  std::atomic<uint64_t> futexes;  // see STATE_FUTEXES
  uint64_t call_frame;            // address in the stub of the frame for a thread that waits after a call
  LongAnswers long_answers;
};
static_assert(sizeof(ThreadState) == 1 << STATE_SHIFT);
static_assert(sizeof(ThreadState) * kSlotsPerBlock == kStateBlockBytes);
static_assert(kStateWindow + kMaxBlocks * kStateBlockBytes <= kStubText);
static_assert(offsetof(ThreadState, doorbell) == STATE_DOORBELL && offsetof(ThreadState, frame) == STATE_FRAME);
static_assert(offsetof(ThreadState, xstate) == STATE_XSTATE && offsetof(ThreadState, features) == STATE_FEATURES &&
              offsetof(ThreadState, descriptor) == STATE_DESCRIPTOR);
static_assert(offsetof(ThreadState, polled) == STATE_POLLED && offsetof(ThreadState, spin) == STATE_SPIN &&
              offsetof(ThreadState, yields) == STATE_YIELDS && offsetof(ThreadState, look) == STATE_LOOK);
static_assert(offsetof(ThreadState, answers) == STATE_ANSWERS && STATE_ANSWERS + offsetof(Answers, tid) == STATE_TID &&
              STATE_ANSWERS + offsetof(Answers, egid) == STATE_EGID &&
              offsetof(ThreadState, futexes) == STATE_FUTEXES && offsetof(ThreadState, call_frame) == STATE_CALL_FRAME);

constexpr size_t InLongAnswers(size_t offset) { return offsetof(ThreadState, long_answers) + offset; }
static_assert(InLongAnswers(offsetof(LongAnswers, pgid)) == STATE_PGID &&
              InLongAnswers(offsetof(LongAnswers, sid)) == STATE_SID &&
              InLongAnswers(offsetof(LongAnswers, affinity)) == STATE_AFFINITY &&
              InLongAnswers(offsetof(LongAnswers, affinity_bytes)) == STATE_AFFINITY_BYTES &&
              InLongAnswers(offsetof(LongAnswers, mask_changes)) == STATE_MASK_CHANGES &&
              InLongAnswers(offsetof(LongAnswers, limits)) == STATE_LIMITS &&
              InLongAnswers(offsetof(LongAnswers, uname)) == STATE_UNAME);
static_assert(offsetof(runsc_vdso_page, sequence) == TIME_SEQUENCE && offsetof(runsc_vdso_page, cpus) == TIME_CPUS &&
              offsetof(runsc_vdso_page, tsc_base) == TIME_TSC_BASE &&
              offsetof(runsc_vdso_page, tsc_limit) == TIME_TSC_LIMIT && offsetof(runsc_vdso_page, mult) == TIME_MULT &&
              offsetof(runsc_vdso_page, monotonic_ns) == TIME_MONOTONIC &&
              offsetof(runsc_vdso_page, realtime_offset_ns) == TIME_REALTIME_OFFSET &&
              offsetof(runsc_vdso_page, boottime_offset_ns) == TIME_BOOTTIME_OFFSET &&
              offsetof(runsc_vdso_page, tai_offset_ns) == TIME_TAI_OFFSET);

static_assert(sizeof(HostOp) == OP_BYTES && offsetof(HostOp, kind) == OP_KIND);

struct CommandPages {
  std::atomic<uint32_t> sequence;  // the helper sleeps on it
  uint32_t unused0;
  uint64_t count;
  uint64_t ack_fd;
  uint64_t unused1[5];
  static constexpr size_t kOps = STUB_COMMAND_BYTES / OP_BYTES - 1;
  HostOp ops[kOps];  // `kind` is OP_IS_…: what the helper clones needs more than the call (stub_text.S)
};
static_assert(sizeof(CommandPages) == STUB_COMMAND_BYTES);
static_assert(offsetof(CommandPages, count) == COMMAND_COUNT && offsetof(CommandPages, ack_fd) == COMMAND_ACK_FD);

extern "C" {
// The text page as it is linked into the sentry (stub_text.S); copied, and executed there only as runsc_systrap_enter.
extern const char runsc_systrap_text_begin[], runsc_systrap_text_end[];
extern const char runsc_systrap_handler[], runsc_systrap_restorer[], runsc_systrap_write[], runsc_systrap_futex[],
    runsc_systrap_sigreturn[], runsc_systrap_yield[], runsc_systrap_futex_wait[], runsc_systrap_futex_wake[],
    runsc_systrap_int80[], runsc_systrap_wait[], runsc_systrap_wait_yield[];
// Where patched call sites go, and its stages (stub_text.S).
extern const char runsc_systrap_entry[], runsc_systrap_entry_flags[], runsc_systrap_entry_pack[],
    runsc_systrap_entry_packed[], runsc_systrap_entry_yield[], runsc_systrap_entry_yielded[],
    runsc_systrap_entry_answer[], runsc_systrap_entry_answer1[], runsc_systrap_entry_answer2[],
    runsc_systrap_entry_answer3[], runsc_systrap_entry_answer4[], runsc_systrap_entry_answer5[],
    runsc_systrap_entry_answer6[], runsc_systrap_entry_answer7[], runsc_systrap_entry_answer_end[],
    runsc_systrap_entry_wait[], runsc_systrap_entry_look[], runsc_systrap_entry_looked[],
    runsc_systrap_entry_wait_counted[], runsc_systrap_entry_waited[], runsc_systrap_entry_waited_uncounted[],
    runsc_systrap_entry_timing[], runsc_systrap_entry_timed[], runsc_systrap_entry_waited_done[],
    runsc_systrap_entry_again[], runsc_systrap_entry_wake[], runsc_systrap_entry_woken[],
    runsc_systrap_entry_woken_done[], runsc_systrap_entry_woken_end[], runsc_systrap_entry_writes[],
    runsc_systrap_entry_writes_end[], runsc_systrap_entry_masked[], runsc_systrap_entry_unmasked[],
    runsc_systrap_entry_served[], runsc_systrap_entry_saved[], runsc_systrap_entry_committed[],
    runsc_systrap_entry_end[];

// Runs in the newborn zygote: maps text, params, command and clock pages at their places, wherever the stack is, and
// continues in the text, where everything else is unmapped. Does not return.
[[noreturn]] void runsc_systrap_enter(int text_fd, int params_fd, int slots_fd, uint64_t clock_offset);
}

// The address in a stub of a label of the text page.
inline uint64_t StubAddress(const char* label) {
  return kStubText + static_cast<uint64_t>(label - runsc_systrap_text_begin);
}

}  // namespace platform::systrap
#endif  // __ASSEMBLER__

#endif  // PLATFORM_SYSTRAP_STUB_LAYOUT_H_

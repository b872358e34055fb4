// What every stub has at fixed addresses above the guest's range, and nothing else of ours.
//
//   0x7ffffff00000  end of the guest's range (128 TiB − 1 MiB)
//   kStubText       one page of code, read and execute only, the same host page in every stub
//   kStubCommand    one page that the stub can only read: the operations of the batch that its helper runs
//   (CommandPage)
//
// Guest threads can read both and jump into the text. That gives them nothing: they run under PTRACE_SYSEMU, so that a
// `syscall` in the text is the guest's own system call like any other.
#ifndef PLATFORM_PTRACE_STUB_LAYOUT_H_
#define PLATFORM_PTRACE_STUB_LAYOUT_H_

#define STUB_TEXT_ADDRESS 0x7ffffff10000
#define STUB_COMMAND_ADDRESS 0x7ffffff12000
#define STUB_TOP_ADDRESS 0x7ffffffff000

#ifndef __ASSEMBLER__
#include <cstddef>
#include <cstdint>

#include "platform/host_op.h"

namespace platform::ptrace {

inline constexpr uint64_t kGuestStart = 0x10000;
inline constexpr uint64_t kGuestEnd = 0x7ffffff00000;
inline constexpr uint64_t kStubText = STUB_TEXT_ADDRESS;
inline constexpr uint64_t kStubCommand = STUB_COMMAND_ADDRESS;
inline constexpr size_t kStubPage = 4096;

struct CommandPage {
  static constexpr size_t kOps = 63;
  uint64_t count;
  uint64_t unused[7];
  HostOp ops[kOps];
};
static_assert(sizeof(CommandPage) == kStubPage);

extern "C" {
// The text page as it is linked into the sentry (stub_text.S); copied, never executed there except for
// runsc_stub_enter.
extern const char runsc_stub_text_begin[], runsc_stub_text_end[];
extern const char runsc_stub_batch[], runsc_stub_batch_end[], runsc_stub_spawn[], runsc_stub_sleep[], runsc_stub_exit[];

// Runs in the newborn zygote: maps the text page from `text_fd` and the first command page from `command_fd` at their
// places, wherever the stack is, and continues in the text, where everything else is unmapped. Does not return.
[[noreturn]] void runsc_stub_enter(int text_fd, int command_fd);
}

// The address in a stub of a label of the text page.
inline uint64_t StubAddress(const char* label) {
  return kStubText + static_cast<uint64_t>(label - runsc_stub_text_begin);
}

}  // namespace platform::ptrace
#endif  // __ASSEMBLER__

#endif  // PLATFORM_PTRACE_STUB_LAYOUT_H_

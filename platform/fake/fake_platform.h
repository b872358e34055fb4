// A platform that executes nothing: each context follows a script, and completes at random times on host threads that
// are no executors. It keeps the asynchronous interface honest and lets kernel tests run without a guest.
#ifndef PLATFORM_FAKE_FAKE_PLATFORM_H_
#define PLATFORM_FAKE_FAKE_PLATFORM_H_

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "platform/platform.h"

namespace platform::fake {

// What the guest does next. Called on a host thread of the platform, once per Start that is not interrupted first; may
// change the registers. No exit: it computes until it is interrupted or its address space is gone.
using Script = std::function<std::optional<Exit>(Registers&)>;

// Scripts of common guests. Both leave the registers as a real one would (orig_rax, rcx, r11, rax = −ENOSYS).
Script SystemCalls();  // the number is what is in rax
Script Spin();

struct Options {
  int threads = 2;
  uint64_t seed = 1;
  int64_t longest_delay_ns = 200'000;
};

std::unique_ptr<Platform> New(Options options = {});

// The script of a context that a fake platform made. While it is not running. Without one it makes system calls.
void SetScript(Context& context, Script script);

// What is mapped in an address space of a fake platform.
struct Mapping {
  int fd;
  uint64_t offset;  // of the range's start
  uint8_t prot;
};
std::optional<Mapping> MappingAt(AddressSpace& as, uint64_t address);

// The next changes fail: the n-th operation from now (0: the next) with this error number.
void FailOperation(AddressSpace& as, size_t n, int error);

// Like the host's killer of processes: the running contexts complete with kDead.
void Kill(AddressSpace& as);

}  // namespace platform::fake

#endif  // PLATFORM_FAKE_FAKE_PLATFORM_H_

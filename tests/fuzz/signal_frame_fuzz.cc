// rt_sigreturn on a stack that a guest wrote: whatever it says, what comes out is safe to resume with.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "sentry/arch/signal_frame.h"

namespace {

constexpr sentry::Addr kStack = 0x10000;

// The input, at kStack; everything else faults.
class InputMemory final : public sentry::UserMemory {
 public:
  explicit InputMemory(std::span<const std::byte> bytes) : bytes_(bytes) {}
  sentry::Result<size_t> CopyIn(std::span<std::byte> dst, sentry::Addr src) override {
    if (src < kStack || src - kStack >= bytes_.size()) return sentry::Errno(EFAULT);
    size_t n = std::min(dst.size(), bytes_.size() - (src - kStack));
    memcpy(dst.data(), bytes_.data() + (src - kStack), n);
    return n;
  }
  sentry::Result<size_t> CopyOut(sentry::Addr, std::span<const std::byte>) override { return sentry::Errno(EFAULT); }
  sentry::Result<size_t> ZeroOut(sentry::Addr, size_t) override { return sentry::Errno(EFAULT); }
  sentry::Result<size_t> ReadFromHost(int, int64_t, std::span<const std::pair<sentry::Addr, size_t>>) override {
    return sentry::Errno(EFAULT);
  }
  sentry::Result<size_t> WriteToHost(int, int64_t, std::span<const std::pair<sentry::Addr, size_t>>) override {
    return sentry::Errno(EFAULT);
  }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  InputMemory memory(std::as_bytes(std::span(data, size)));
  platform::Registers regs{};
  regs.rsp = kStack + 8;
  auto frame = sentry::arch::PopSignalFrame(memory, regs);
  if (!frame.ok()) return 0;
  constexpr uint64_t kPrivileged = 0x3000 | 0x20000 | 0x100000;  // IOPL, VM, VIP
  CHECK((frame->registers.rflags & kPrivileged) == 0 && (frame->registers.rflags & 0x200) != 0);
  CHECK((frame->registers.cs & 3) == 3 && (frame->registers.ss & 3) == 3);
  CHECK(frame->xstate.size() == platform::XStateSize());
  uint64_t header[8];
  memcpy(header, frame->xstate.data() + 512, sizeof header);
  CHECK((header[0] & ~platform::XStateFeatures()) == 0 && header[1] == 0);
  return 0;
}

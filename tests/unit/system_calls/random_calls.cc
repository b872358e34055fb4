#include "tests/unit/system_calls/random_calls.h"

#include <sys/syscall.h>

#include <mutex>

#include "base/charged_memory.h"
#include "sentry/syscalls/table.h"
#include "tests/unit/system_calls/guest_program.h"
#include "tests/unit/system_calls/guest_run.h"

namespace sentry::testing {
namespace {

constexpr int kMaxCalls = 400;

// Calls as the bytes say. All contexts of a sandbox draw from one stream.
class Stream final : public GuestCalls {
 public:
  Stream(std::span<const uint8_t> bytes, uint64_t fail_every) : bytes_(bytes), fail_every_(fail_every) {}

  // The first process, whose end is the end of everything, does not leave early of its own will.
  void Next(platform::Registers& r, int thread) override {
    const bool first = thread == 0;
    std::lock_guard lock(mu_);
    // Not while the sandbox is made.
    if (progress() == 0 && fail_every_ != 0) base::ChargedMemory::FailFrom(fail_every_, fail_every_);
    if (const auto result = static_cast<int64_t>(r.rax); result >= 0 && result < 64) results_[turn_++ % 8] = result;
    uint64_t number = SYS_exit_group;
    if (at_ < bytes_.size() && calls_ < kMaxCalls) {
      ++calls_;
      number = static_cast<uint64_t>(Byte() | Byte() << 8) % (kTableSize + 2);
      if (first && (number == SYS_exit || number == SYS_exit_group)) number = SYS_getpid;
    }
    SetCall(r, number);
    for (uint64_t* argument : {&r.rdi, &r.rsi, &r.rdx, &r.r10, &r.r8, &r.r9}) *argument = Argument();
  }
  int calls() const {
    std::lock_guard lock(mu_);
    return calls_;
  }

 private:
  uint8_t Byte() { return at_ < bytes_.size() ? bytes_[at_++] : 0; }
  uint64_t Wide(int bytes) {
    uint64_t value = 0;
    for (int i = 0; i < bytes; ++i) value |= uint64_t{Byte()} << (8 * i);
    return value;
  }
  // Mostly values that get past the first check.
  uint64_t Argument() {
    const uint8_t kind = Byte();
    switch (kind % 14) {
      case 0:
        return 0;
      case 1:
        return static_cast<uint64_t>(-1);
      case 2:
        return kind / 14;
      case 3:
        return Byte();
      case 4:
        return results_[Byte() % 8];
      case 5:
        return kNamesAt + (Byte() % Names().size()) * kNameBytes;
      case 6:
        return kVectorAt + (Byte() % 64) * 16;
      case 7:
        return kBytesAt + Wide(2) % (kProgramEnd - kBytesAt);
      case 8:
        return uint64_t{1} << (Byte() % 64);
      case 9:
        return kProgramEnd - Byte() % 16;  // at the end of what is mapped
      case 10:
        return (Wide(2) % 64) * 0x1000;
      case 11:
        return static_cast<uint64_t>(-100);  // AT_FDCWD
      case 12:
        return Wide(4);
      default:
        return Wide(8);
    }
  }

  mutable std::mutex mu_;
  const std::span<const uint8_t> bytes_;
  const uint64_t fail_every_;
  size_t at_ = 0;
  int calls_ = 0;
  int64_t results_[8] = {0, 1, 2, 3, 4, 5, 6, 7};  // small ones: descriptors, most of them
  size_t turn_ = 0;
};

}  // namespace

RandomCallsOutcome MakeRandomCalls(std::span<const uint8_t> input, uint64_t fail_every) {
  Stream stream(input.empty() ? input : input.subspan(1), fail_every);
  RandomCallsOutcome outcome;
  outcome.status = RunGuest(stream, input, /*root=*/input.empty() || (input[0] & 1) != 0);
  base::ChargedMemory::FailFrom(0, 0);
  outcome.calls = stream.calls();
  return outcome;
}

}  // namespace sentry::testing

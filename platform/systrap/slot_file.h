// SlotFile: the memory that the sentry shares with stubs, one memfd. It is given out in areas: an area holds the
// command pages of a helper, the state pages and the slots of a block. An address space with more than a block of
// threads has several.
#ifndef PLATFORM_SYSTRAP_SLOT_FILE_H_
#define PLATFORM_SYSTRAP_SLOT_FILE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "base/errno.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "platform/systrap/stub_layout.h"

namespace platform::systrap {

class SlotFile {
 public:
  static base::Result<std::unique_ptr<SlotFile>> Create();
  ~SlotFile();
  int fd() const { return fd_.get(); }

  // An area that reads as zero. ENOMEM: kAreas are in use.
  base::Result<uint32_t> Take() EXCLUDES(mu_);
  // Nothing maps it any more.
  void Give(uint32_t area) EXCLUDES(mu_);

  CommandPages& commands(uint32_t area) { return *reinterpret_cast<CommandPages*>(base_ + Offset(area)); }
  ThreadState& state(uint32_t area, uint32_t index) {
    return reinterpret_cast<ThreadState*>(base_ + StateOffset(area))[index];
  }
  Slot& slot(uint32_t area, uint32_t index) { return reinterpret_cast<Slot*>(base_ + SlotsOffset(area))[index]; }

  // struct runsc_vdso_page, behind all areas.
  std::byte* clock_page() { return base_ + kClockOffset; }

  // Offsets in the file.
  static uint64_t Offset(uint32_t area) { return uint64_t{area} * kAreaBytes; }
  static uint64_t StateOffset(uint32_t area) { return Offset(area) + STUB_COMMAND_BYTES; }
  static uint64_t SlotsOffset(uint32_t area) { return StateOffset(area) + kStateBlockBytes; }
  // What a doorbell says for a slot.
  static uint32_t Id(uint32_t area, uint32_t index) { return area * kSlotsPerBlock + index; }

  static constexpr uint32_t kAreas = 1 << 17;
  static constexpr uint64_t kAreaBytes = STUB_COMMAND_BYTES + kStateBlockBytes + kBlockBytes;
  static constexpr uint64_t kClockOffset = kAreas * kAreaBytes;
  static constexpr uint64_t kBytes = kClockOffset + kStubPage;

 private:
  SlotFile() = default;
  base::UniqueFd fd_;
  std::byte* base_ = nullptr;
  base::Mutex mu_;
  std::vector<uint32_t> free_ GUARDED_BY(mu_);
  uint32_t used_ GUARDED_BY(mu_) = 0;
};

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_SLOT_FILE_H_

#include "sentry/mm/shared_anonymous.h"

#include <atomic>

namespace sentry {
namespace {
// As with the kernel's internal shmem mount, device 0:1 and numbers that are not used for anything but telling mappings
// apart.
constexpr uint64_t kShmemDev = 1;
std::atomic<uint64_t> next_ino{1};
}  // namespace

SharedAnonymous::SharedAnonymous(platform::MemoryFile& memory_file, platform::FileRange pages)
    : memory_file_(memory_file), pages_(pages), ino_(next_ino.fetch_add(1, std::memory_order_relaxed)) {}

SharedAnonymous::~SharedAnonymous() { memory_file_.DecRef(pages_); }

Result<base::RefPtr<SharedAnonymous>> SharedAnonymous::Create(platform::MemoryFile& memory_file, uint64_t length,
                                                              Addr congruent_to) {
  TRY(base::ChargedMemory::Admit());
  platform::FileRange pages = TRY(memory_file.Allocate(length, congruent_to));
  return base::MakeRef<SharedAnonymous>(memory_file, pages);
}

Result<HostPages> SharedAnonymous::Translate(uint64_t offset, uint64_t length, bool for_write) {
  if (offset >= pages_.length()) return Errno(EINVAL);
  return HostPages{.fd = memory_file_.fd(),
                   .offset = pages_.start + offset,
                   .length = pages_.length() - offset,
                   .memory_file = true};
}

Mappable::Identity SharedAnonymous::MappedIdentity() const { return {"/dev/zero (deleted)", kShmemDev, ino_}; }

Result<void> SharedAnonymous::PunchHole(uint64_t offset, uint64_t length) {
  if (offset >= pages_.length()) return {};
  uint64_t end = length < pages_.length() - offset ? offset + length : pages_.length();
  // The pages stay where they are and read as zero, so no translation changes.
  memory_file_.Decommit({pages_.start + offset, pages_.start + end});
  return {};
}

}  // namespace sentry

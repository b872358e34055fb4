// SharedAnonymous: what MAP_SHARED|MAP_ANONYMOUS maps, an unnamed file of zeros that children share (mm/shmem.c,
// shmem_zero_setup).
#ifndef SENTRY_MM_SHARED_ANONYMOUS_H_
#define SENTRY_MM_SHARED_ANONYMOUS_H_

#include "platform/memory_file.h"
#include "sentry/mm/mappable.h"

namespace sentry {

class SharedAnonymous final : public Mappable {
 public:
  // The extent is reserved at once (offsets cost nothing), congruent to the address it is first mapped at. ENOMEM.
  static Result<base::RefPtr<SharedAnonymous>> Create(platform::MemoryFile& memory_file, uint64_t length,
                                                      Addr congruent_to);

  Result<HostPages> Translate(uint64_t offset, uint64_t length, bool for_write) override;
  Identity MappedIdentity() const override;
  Result<void> PunchHole(uint64_t offset, uint64_t length) override;
  platform::FileRange pages() const { return pages_; }

 private:
  template <typename T, typename... A>
  friend base::RefPtr<T> base::MakeRef(A&&...);
  SharedAnonymous(platform::MemoryFile& memory_file, platform::FileRange pages);
  ~SharedAnonymous() override;
  platform::MemoryFile& memory_file_;
  const platform::FileRange pages_;
  const uint64_t ino_;
};

}  // namespace sentry

#endif  // SENTRY_MM_SHARED_ANONYMOUS_H_

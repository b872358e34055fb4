// Vdso: the shared object that the kernel maps into every program, and the parameter page in front of it (man 7 vdso).
// One per sandbox; all processes map the same pages of the memory file.
#ifndef SENTRY_LOADER_VDSO_H_
#define SENTRY_LOADER_VDSO_H_

#include <span>

#include "base/errno.h"
#include "base/ref_ptr.h"
#include "platform/memory_file.h"
#include "sentry/mm/mappable.h"
#include "sentry/mm/memory_manager.h"
#include "sentry/time/time_keeper.h"

namespace sentry::loader {

class Vdso final : public base::RefCounted {
 public:
  // Copies the image into the memory file and makes `time` publish its parameters there; `time` and the file outlive
  // the guests, and `time` dies before the file. ENOMEM.
  static base::Result<base::RefPtr<Vdso>> Create(platform::MemoryFile& memory_file, TimeKeeper& time);

  // Maps [vvar] and [vdso]; returns the address of the ELF header (AT_SYSINFO_EHDR). ENOMEM.
  base::Result<Addr> MapInto(MemoryManager& mm, const MmLimits& limits);

  // The image as it was built, for tests.
  static std::span<const std::byte> Image();

 private:
  template <typename T, typename... A>
  friend base::RefPtr<T> base::MakeRef(A&&...);
  explicit Vdso(base::RefPtr<Mappable> pages) : pages_(std::move(pages)) {}
  base::RefPtr<Mappable> pages_;  // the parameter page, then the image
};

}  // namespace sentry::loader

#endif  // SENTRY_LOADER_VDSO_H_

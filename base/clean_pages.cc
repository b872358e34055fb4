#include "base/clean_pages.h"

#include <link.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/syscall_unsafe.h"

namespace base {
namespace {

constexpr uintptr_t kPage = 4096;

// Of the first object, which is the program itself. Segments that may be written are left alone: relocations and data
// in them exist nowhere else.
int DropSegments(dl_phdr_info* program, size_t, void*) {
  for (int i = 0; i < program->dlpi_phnum; ++i) {
    const auto& segment = program->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD || (segment.p_flags & PF_W) != 0) continue;
    const uintptr_t start = (program->dlpi_addr + segment.p_vaddr) & ~(kPage - 1);
    const uintptr_t end = (program->dlpi_addr + segment.p_vaddr + segment.p_filesz + kPage - 1) & ~(kPage - 1);
    (void)Host(SYS_madvise, start, end - start, MADV_DONTNEED);  // if the host refuses, nothing is lost
  }
  return 1;
}

}  // namespace

void DropCleanPages() { dl_iterate_phdr(&DropSegments, nullptr); }

}  // namespace base

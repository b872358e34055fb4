// tmpfs (mm/shmem.c): files in the sandbox's memory file, names and attributes in the sentry.
#ifndef SENTRY_FS_TMPFS_TMPFS_H_
#define SENTRY_FS_TMPFS_TMPFS_H_

#include <cstdint>
#include <memory>
#include <string_view>

#include "platform/memory_file.h"
#include "sentry/vfs/file_description.h"
#include "sentry/vfs/vfs.h"

namespace sentry::tmpfs {

struct Options {
  // Bytes of file pages, long symlinks and extended attributes; ENOSPC beyond.
  uint64_t size = UINT64_MAX;
  // Inodes live at once; ENOSPC beyond. Every one costs the sentry some 600 bytes.
  uint64_t inodes = kDefaultInodes;
  // Whose limit inodes count against, if not that of the memory that holds the files' pages.
  platform::MemoryFile* charged_to = nullptr;
  uint32_t mode = 01777;  // of the root
  uint32_t uid = 0, gid = 0;
  static constexpr uint64_t kDefaultInodes = 1 << 20;
};

// mount(2)'s data: size=, nr_blocks=, nr_inodes=, mode=, uid=, gid= (man 5 tmpfs); EINVAL for what is unknown.
// `defaults` are kept for what is not named; "size=50%" is of `total_memory`.
Result<Options> ParseOptions(std::string_view text, const Options& defaults, uint64_t total_memory);

// A new file system; `memory` has to outlive everything in it.
Result<vfs::NewMount> Create(platform::MemoryFile& memory, const Options& options);
// One whose files are in a file of its own (MemoryFile::CreateOn).
Result<vfs::NewMount> Create(std::unique_ptr<platform::MemoryFile> memory, const Options& options);

// Registers "tmpfs" (and "ramfs", "shm" is tmpfs). Mounts without size= get half of `total_memory`, as on Linux.
void Register(platform::MemoryFile& memory, uint64_t total_memory);

// memfd_create(2): a nameless file with seals, open for reading and writing. `flags`: MFD_*; hugetlb is refused by the
// caller. `name` without the "memfd:" prefix.
Result<RefPtr<FileDescription>> NewMemfd(platform::MemoryFile& memory, VfsContext& ctx, std::string_view name,
                                         uint32_t flags);
// F_GET_SEALS, F_ADD_SEALS (man 2 fcntl). EINVAL for what is not a tmpfs file; EPERM, EBUSY.
Result<uint32_t> GetSeals(FileDescription& file);
Result<void> AddSeals(FileDescription& file, uint32_t seals);

}  // namespace sentry::tmpfs

#endif  // SENTRY_FS_TMPFS_TMPFS_H_

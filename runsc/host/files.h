// Small files of the host: configuration, state, cgroup and proc entries.
#ifndef RUNSC_HOST_FILES_H_
#define RUNSC_HOST_FILES_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace runsc::host {

inline constexpr size_t kMaxFileBytes = 16 << 20;

// open(2) with O_CLOEXEC. `dir` is AT_FDCWD or a directory that `path` is relative to.
absl::StatusOr<base::UniqueFd> Open(int dir, const std::string& path, int flags, int mode = 0);
// The whole file; refuses more than max_bytes (a configuration that is a device or never ends).
absl::StatusOr<std::string> ReadFile(int dir, const std::string& path, size_t max_bytes = kMaxFileBytes);
inline absl::StatusOr<std::string> ReadFile(const std::string& path) { return ReadFile(-100 /*AT_FDCWD*/, path); }
absl::StatusOr<std::string> ReadAll(int fd, std::string_view name, size_t max_bytes = kMaxFileBytes);
// Writes to an existing file with one write(2), as cgroup and proc files want it.
absl::Status WriteExisting(int dir, const std::string& path, std::string_view data);
// Creates or replaces: a reader sees the old contents or the new ones, never a part.
absl::Status WriteAtomically(int dir, const std::string& path, std::string_view data, int mode);
absl::Status WriteAll(int fd, std::string_view data);
// mkdir -p.
absl::Status MakeDirectories(const std::string& path, int mode);
// Removes a directory and what is in it (no sub-directories are expected; those make it fail).
absl::Status RemoveFlatDirectory(const std::string& path);
// The path made absolute with the working directory and cleaned of "." and ".." by text, as Go's filepath.Abs.
std::string AbsolutePath(std::string_view path);
// The same for a path whose root is "/": cleaned, never above it.
std::string CleanPath(std::string_view path);

}  // namespace runsc::host

#endif  // RUNSC_HOST_FILES_H_

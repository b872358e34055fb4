#include "runsc/host/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <vector>

#include "base/status_macros.h"
#include "runsc/host/errno_status.h"

namespace runsc::host {

absl::StatusOr<base::UniqueFd> Open(int dir, const std::string& path, int flags, int mode) {
  int fd;
  do {
    fd = openat(dir, path.c_str(), flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return ErrnoStatus(errno, "cannot open " + path);
  return base::UniqueFd(fd);
}

absl::StatusOr<std::string> ReadAll(int fd, std::string_view name, size_t max_bytes) {
  std::string data;
  size_t used = 0;
  for (;;) {
    if (data.size() < used + 4096) data.resize(data.empty() ? 4096 : data.size() * 2);
    ssize_t n = read(fd, data.data() + used, data.size() - used);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, "cannot read " + std::string(name));
    if (n == 0) break;
    used += static_cast<size_t>(n);
    if (used > max_bytes) {
      return absl::InvalidArgumentError(std::string(name) + " is larger than " + std::to_string(max_bytes) + " bytes");
    }
  }
  data.resize(used);
  return data;
}

absl::StatusOr<std::string> ReadFile(int dir, const std::string& path, size_t max_bytes) {
  ASSIGN_OR_RETURN(base::UniqueFd fd, Open(dir, path, O_RDONLY));
  return ReadAll(fd.get(), path, max_bytes);
}

absl::Status WriteAll(int fd, std::string_view data) {
  while (!data.empty()) {
    ssize_t n = write(fd, data.data(), data.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, "cannot write");
    data.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

absl::Status WriteExisting(int dir, const std::string& path, std::string_view data) {
  ASSIGN_OR_RETURN(base::UniqueFd fd, Open(dir, path, O_WRONLY | O_TRUNC));
  ssize_t n;
  do {
    n = write(fd.get(), data.data(), data.size());
  } while (n < 0 && errno == EINTR);
  if (n < 0) return ErrnoStatus(errno, "cannot write \"" + std::string(data) + "\" to " + path);
  return absl::OkStatus();
}

absl::Status WriteAtomically(int dir, const std::string& path, std::string_view data, int mode) {
  std::string temporary = path + ".tmp." + std::to_string(getpid());
  ASSIGN_OR_RETURN(base::UniqueFd fd, Open(dir, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode));
  absl::Status written = WriteAll(fd.get(), data);
  if (written.ok() && renameat(dir, temporary.c_str(), dir, path.c_str()) < 0) {
    written = ErrnoStatus(errno, "cannot rename " + temporary);
  }
  if (!written.ok()) {
    unlinkat(dir, temporary.c_str(), 0);
    return absl::Status(written.code(), "cannot write " + path + ": " + std::string(written.message()));
  }
  return absl::OkStatus();
}

absl::Status MakeDirectories(const std::string& path, int mode) {
  if (mkdir(path.c_str(), mode) == 0 || errno == EEXIST) return absl::OkStatus();
  if (errno != ENOENT) return ErrnoStatus(errno, "cannot create directory " + path);
  size_t slash = path.find_last_of('/');
  if (slash == std::string::npos || slash == 0) return ErrnoStatus(ENOENT, "cannot create directory " + path);
  RETURN_IF_ERROR(MakeDirectories(path.substr(0, slash), mode));
  if (mkdir(path.c_str(), mode) == 0 || errno == EEXIST) return absl::OkStatus();
  return ErrnoStatus(errno, "cannot create directory " + path);
}

absl::Status RemoveFlatDirectory(const std::string& path) {
  DIR* dir = opendir(path.c_str());
  if (dir == nullptr) return errno == ENOENT ? absl::OkStatus() : ErrnoStatus(errno, "cannot open " + path);
  while (dirent* entry = readdir(dir)) {
    std::string_view name = entry->d_name;
    if (name != "." && name != "..") unlinkat(dirfd(dir), entry->d_name, 0);
  }
  closedir(dir);
  if (rmdir(path.c_str()) < 0 && errno != ENOENT) return ErrnoStatus(errno, "cannot remove " + path);
  return absl::OkStatus();
}

std::string CleanPath(std::string_view path) {
  std::vector<std::string_view> parts;
  while (!path.empty()) {
    size_t slash = path.find('/');
    std::string_view part = path.substr(0, slash);
    path.remove_prefix(slash == std::string_view::npos ? path.size() : slash + 1);
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      if (!parts.empty()) parts.pop_back();
      continue;
    }
    parts.push_back(part);
  }
  std::string result;
  for (std::string_view part : parts) {
    result += '/';
    result += part;
  }
  return result.empty() ? "/" : result;
}

std::string AbsolutePath(std::string_view path) {
  if (!path.empty() && path[0] == '/') return CleanPath(path);
  char cwd[PATH_MAX];
  if (getcwd(cwd, sizeof(cwd)) == nullptr) return CleanPath(path);
  return CleanPath(std::string(cwd) + "/" + std::string(path));
}

}  // namespace runsc::host

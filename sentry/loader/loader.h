// The program loader: ELF and #! (fs/exec.c, fs/binfmt_elf.c, fs/binfmt_script.c; man 2 execve, man 5 elf).
#ifndef SENTRY_LOADER_LOADER_H_
#define SENTRY_LOADER_LOADER_H_

#include <array>
#include <functional>
#include <string>
#include <vector>

#include "base/errno.h"
#include "base/ref_ptr.h"
#include "sentry/loader/vdso.h"
#include "sentry/mm/memory_manager.h"
#include "sentry/vfs/file_description.h"

namespace sentry::loader {

// Who the new program runs as, for its auxiliary vector.
struct ExecIdentity {
  uint32_t uid = 0, euid = 0, gid = 0, egid = 0;
  bool secure = false;  // AT_SECURE: set-ID or gained capabilities
};

struct LoadArgs {
  MmEnvironment* env = nullptr;
  Vdso* vdso = nullptr;  // null: none
  // The file that execve named, opened for execution: a regular file, on which the caller has checked x permission and
  // noexec.
  base::RefPtr<FileDescription> file;
  // As execve got it: AT_EXECFN, comm, and a script's argument. fexecve: "/dev/fd/3" or "/dev/fd/3/name".
  std::string filename;
  // The descriptor behind /dev/fd/N is close-on-exec, so that no interpreter could open it: a script is ENOENT
  // (BINPRM_FLAGS_PATH_INACCESSIBLE).
  bool path_inaccessible = false;
  // Opens a #! or ELF interpreter likewise, as the calling task.
  std::function<base::Result<base::RefPtr<FileDescription>>(const std::string& path)> open;
  // Called once, when it is known which file supplies the program (a script's interpreter): set-user-ID and file
  // capabilities are its.
  std::function<base::Result<ExecIdentity>(FileDescription& executable)> identify;
  std::vector<std::string> argv, envp;
  MmLimits limits;
  std::array<std::byte, 16> random{};  // AT_RANDOM
  bool randomize = true;               // personality ADDR_NO_RANDOMIZE off
  // The mm is left without an address space: the caller calls Attach or TakeOver.
  bool detached = false;
};

struct LoadedImage {
  base::RefPtr<MemoryManager> mm;            // one user, for the task
  Addr entry = 0;                            // rip
  Addr stack = 0;                            // rsp; all other registers start as 0
  std::string comm;                          // at most 15 bytes
  base::RefPtr<FileDescription> executable;  // its path() is /proc/pid/exe; held for the mm as layout().exe
};

// Parks. ENOEXEC, ELIBBAD, ENOENT, EACCES, E2BIG, ELOOP, ENOMEM, EIO, EINVAL as man 2 execve. Where Linux is past the
// point of no return and kills the process, this fails with the error: nothing of the caller has been touched.
base::Result<LoadedImage> Load(LoadArgs args);

}  // namespace sentry::loader

#endif  // SENTRY_LOADER_LOADER_H_

// What a new program finds on its stack: argc, argv, envp, the auxiliary vector, and the strings they point at
// (fs/exec.c, fs/binfmt_elf.c create_elf_tables; System V ABI, AMD64 supplement, 3.4).
#ifndef SENTRY_LOADER_INITIAL_STACK_H_
#define SENTRY_LOADER_INITIAL_STACK_H_

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "base/errno.h"
#include "sentry/mm/memory_manager.h"

namespace sentry::loader {

struct InitialStack {
  std::vector<std::byte> bytes;  // from `rsp` to the top
  Addr rsp = 0;
  Addr arg_start = 0, arg_end = 0, env_start = 0, env_end = 0;
  std::vector<uint64_t> auxv;  // with AT_NULL
};

struct StackContents {
  const std::vector<std::string>* argv = nullptr;
  const std::vector<std::string>* envp = nullptr;
  std::string filename;                             // AT_EXECFN
  std::array<std::byte, 16> random{};               // AT_RANDOM
  std::vector<std::pair<uint64_t, uint64_t>> auxv;  // without those that point into the stack, and AT_NULL
  uint64_t shift = 0;  // random distance of the stack pointer from the strings, multiple of 16
};

// E2BIG as execve: a string of more than 128 KiB, or all of them beyond a quarter of the stack limit (at least 128 KiB,
// at most 6 MiB).
base::Result<void> CheckArguments(const std::vector<std::string>& argv, const std::vector<std::string>& envp,
                                  const std::string& filename, uint64_t stack_limit);
InitialStack BuildStack(Addr top, const StackContents& contents);

}  // namespace sentry::loader

#endif  // SENTRY_LOADER_INITIAL_STACK_H_

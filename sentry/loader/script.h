// The first line of an interpreter script (fs/binfmt_script.c).
#ifndef SENTRY_LOADER_SCRIPT_H_
#define SENTRY_LOADER_SCRIPT_H_

#include <cstddef>
#include <optional>
#include <span>
#include <string>

#include "base/errno.h"

namespace sentry::loader {

// What the kernel reads of a file to tell what it is (BINPRM_BUF_SIZE).
inline constexpr size_t kHeadBytes = 256;

struct ScriptLine {
  std::string interpreter;
  std::optional<std::string> argument;  // everything after the interpreter, as one
};
// `head` is kHeadBytes long, padded with zeros, and begins with "#!". ENOEXEC without an interpreter, or with one that
// is cut off.
base::Result<ScriptLine> ParseScript(std::span<const std::byte> head);

}  // namespace sentry::loader

#endif  // SENTRY_LOADER_SCRIPT_H_

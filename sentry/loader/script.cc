#include "sentry/loader/script.h"

#include <algorithm>
#include <string_view>

namespace sentry::loader {

base::Result<ScriptLine> ParseScript(std::span<const std::byte> head) {
  constexpr std::string_view kBlank = " \t";
  std::string_view text(reinterpret_cast<const char*>(head.data()), std::min(head.size(), kHeadBytes));
  if (!text.starts_with("#!")) return base::Errno(ENOEXEC);
  size_t newline = text.find('\n');
  size_t nul = text.find('\0');
  if (newline != std::string_view::npos && newline < nul) {
    text = text.substr(2, newline - 2);
  } else {
    // No end of line in what was read: fine if the name itself ended.
    text = text.substr(2);
    size_t name = text.find_first_not_of(kBlank);
    if (name == std::string_view::npos) return base::Errno(ENOEXEC);
    if (text.find_first_of(std::string_view(" \t\0", 3), name) == std::string_view::npos) return base::Errno(ENOEXEC);
    // The last byte of the buffer is where the kernel puts its terminator.
    if (text.size() == kHeadBytes - 2) text.remove_suffix(1);
    text = text.substr(0, text.find('\0'));
  }
  size_t start = text.find_first_not_of(kBlank);
  if (start == std::string_view::npos) return base::Errno(ENOEXEC);
  text = text.substr(start, text.find_last_not_of(kBlank) + 1 - start);
  ScriptLine line;
  size_t end = text.find_first_of(kBlank);
  line.interpreter = std::string(text.substr(0, end));
  if (line.interpreter.empty()) return base::Errno(ENOEXEC);
  if (end != std::string_view::npos) line.argument = std::string(text.substr(text.find_first_not_of(kBlank, end)));
  return line;
}

}  // namespace sentry::loader

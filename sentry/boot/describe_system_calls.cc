// `runsc syscalls`: the one table, printed.
#include <algorithm>
#include <string>

#include "base/errno.h"
#include "sentry/boot/boot.h"
#include "sentry/syscalls/table.h"

namespace sentry::boot {
namespace {

std::string_view SupportName(Support support) {
  switch (support) {
    case Support::kFull:
      return "full";
    case Support::kPartial:
      return "partial";
    case Support::kErrno:
      break;
  }
  return "error";
}

std::string Note(const Row& row) {
  std::string note;
  if (row.support == Support::kErrno) note = base::ErrnoName(row.error);
  if (!row.note.empty()) note += (note.empty() ? "" : ": ") + std::string(row.note);
  return note;
}

std::string Padded(std::string text, size_t width) {
  text.resize(std::max(text.size() + 1, width), ' ');
  return text;
}

std::string Quoted(std::string_view text) {
  std::string quoted = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + "\"";
}

}  // namespace

std::string DescribeSystemCalls(bool json) {
  std::string text = json ? "[\n" : Padded("NUMBER", 8) + Padded("NAME", 26) + Padded("SUPPORT", 10) + "NOTE\n";
  bool first = true;
  for (int number = 0; number < kTableSize; ++number) {
    const Row* row = FindRow(static_cast<uint64_t>(number));
    if (row == nullptr) continue;
    if (json) {
      text += std::string(first ? "" : ",\n") + "  {\"number\": " + std::to_string(number) +
              ", \"name\": " + Quoted(row->name) + ", \"support\": " + Quoted(SupportName(row->support)) +
              ", \"note\": " + Quoted(Note(*row)) + "}";
    } else {
      std::string line = Padded(std::to_string(number), 8) + Padded(std::string(row->name), 26) +
                         Padded(std::string(SupportName(row->support)), 10) + Note(*row);
      line.erase(line.find_last_not_of(' ') + 1);
      text += line + "\n";
    }
    first = false;
  }
  return text + (json ? "\n]\n" : "");
}

}  // namespace sentry::boot

#include "sentry/syscalls/strace.h"

#include <algorithm>
#include <string>

#include "base/logging.h"

namespace sentry {

namespace {

std::string Quote(std::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20) {
      out += '?';
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string Format(Task& task, ArgKind kind, uint64_t value) {
  char buffer[32];
  switch (kind) {
    case ArgKind::kNone:
      return "";
    case ArgKind::kInt:
    case ArgKind::kFd:
      return std::to_string(static_cast<int32_t>(value));
    case ArgKind::kUnsigned:
      return std::to_string(static_cast<uint32_t>(value));
    case ArgKind::kPath: {
      Result<std::string> path = UserPath{value}.Read(task);
      if (path.ok()) return Quote(*path);
      break;
    }
    case ArgKind::kHex:
    case ArgKind::kPointer:
      break;
  }
  snprintf(buffer, sizeof(buffer), "%#lx", value);
  return buffer;
}

std::string Call(Task& task, const Row* row, uint64_t number, const uint64_t args[6]) {
  std::string out = row != nullptr ? std::string(row->name) : "syscall_" + std::to_string(number);
  out += "(";
  const int arity = row != nullptr && row->handler != nullptr ? row->arity : 6;
  for (int i = 0; i < arity; ++i) {
    if (i != 0) out += ", ";
    out += Format(task, row != nullptr && row->handler != nullptr ? row->kinds[i] : ArgKind::kHex, args[i]);
  }
  return out + ")";
}

}  // namespace

void StraceEnter(Task& task, const Row* row, uint64_t number, const uint64_t args[6]) {
  LOG_INFO("[%4d:%4d] %s E %s", task.thread_group().pid(), task.tid(), task.comm().c_str(),
           Call(task, row, number, args).c_str());
}

void StraceExit(Task& task, const Row* row, uint64_t number, const uint64_t args[6], const Result<int64_t>& result) {
  const char* name = row != nullptr ? row->name.data() : "?";
  if (result.ok()) {
    LOG_INFO("[%4d:%4d] %s X %s = %ld (%#lx)", task.thread_group().pid(), task.tid(), task.comm().c_str(), name,
             *result, static_cast<uint64_t>(*result));
  } else {
    LOG_INFO("[%4d:%4d] %s X %s = -1 %s", task.thread_group().pid(), task.tid(), task.comm().c_str(), name,
             base::ErrnoName(result.error().value()));
  }
}

}  // namespace sentry

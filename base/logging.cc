#include "base/logging.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <atomic>
#include <cstdint>
#include <string>

#include "base/logging_internal.h"
#include "base/syscall_unsafe.h"
#include "base/time.h"

namespace base {
namespace {

// A sink's options in one word, so that readers need no lock: the descriptor, the format, the level.
class Sink {
 public:
  void Set(const LogOptions& options) {
    uint64_t packed = static_cast<uint32_t>(options.fd) | static_cast<uint64_t>(options.format) << 32 |
                      static_cast<uint64_t>(options.level) << 40;
    packed_.store(packed, std::memory_order_relaxed);
  }
  LogOptions Get() const {
    uint64_t packed = packed_.load(std::memory_order_relaxed);
    return {.fd = static_cast<int>(static_cast<uint32_t>(packed)),
            .format = static_cast<LogFormat>(packed >> 32 & 0xff),
            .level = static_cast<LogLevel>(packed >> 40 & 0xff)};
  }

 private:
  std::atomic<uint64_t> packed_{0xffffffff};
};

constinit Sink user_log, debug_log;

// Text that is built on the stack and moves to the heap only when it is long. `kMayGrow` false: cut instead (signal
// handlers).
class Line {
 public:
  explicit Line(bool may_grow) : may_grow_(may_grow) {}

  void Append(std::string_view text) {
    if (heap_.empty() && used_ + text.size() <= sizeof(stack_)) {
      memcpy(stack_ + used_, text.data(), text.size());
      used_ += text.size();
      return;
    }
    if (!may_grow_) {
      text = text.substr(0, sizeof(stack_) - used_);
      memcpy(stack_ + used_, text.data(), text.size());
      used_ += text.size();
      return;
    }
    if (heap_.empty()) heap_.assign(stack_, used_);
    heap_.append(text);
  }
  void Append(char c) { Append(std::string_view(&c, 1)); }
  // Decimal, with leading zeros up to `width`.
  void Number(uint64_t value, int width) {
    char digits[20];
    int n = 0;
    do {
      digits[n++] = static_cast<char>('0' + value % 10);
      value /= 10;
    } while (value != 0 || n < width);
    while (n > 0) Append(digits[--n]);
  }
  void Hex(uint8_t byte) {
    Append("0123456789abcdef"[byte >> 4]);
    Append("0123456789abcdef"[byte & 15]);
  }
  void Reserve(size_t bytes) {
    if (!may_grow_ && used_ > sizeof(stack_) - bytes) used_ = sizeof(stack_) - bytes;
  }
  std::string_view view() const { return heap_.empty() ? std::string_view(stack_, used_) : std::string_view(heap_); }

 private:
  const bool may_grow_;
  size_t used_ = 0;
  char stack_[1536];
  std::string heap_;
};

struct CivilTime {
  int year, month, day, hour, minute, second;
  int microsecond;
};

// UTC. Not gmtime_r: that takes glibc's time zone lock and may open /etc/localtime, which a sentry cannot.
CivilTime ToCivil(int64_t realtime_ns) {
  int64_t seconds = realtime_ns / 1'000'000'000;
  int64_t days = seconds / 86400;
  int second_of_day = static_cast<int>(seconds % 86400);
  // Days since 1970 to a date, with years that begin in March so that the leap day is the last one.
  int64_t shifted = days + 719468;
  int64_t era = shifted / 146097;
  int64_t day_of_era = shifted % 146097;
  int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  int64_t month_from_march = (5 * day_of_year + 2) / 153;
  CivilTime t;
  t.day = static_cast<int>(day_of_year - (153 * month_from_march + 2) / 5 + 1);
  t.month = static_cast<int>(month_from_march < 10 ? month_from_march + 3 : month_from_march - 9);
  t.year = static_cast<int>(year_of_era + era * 400 + (t.month <= 2 ? 1 : 0));
  t.hour = second_of_day / 3600;
  t.minute = second_of_day / 60 % 60;
  t.second = second_of_day % 60;
  t.microsecond = static_cast<int>(realtime_ns % 1'000'000'000 / 1000);
  return t;
}

// Length of the UTF-8 sequence at the start of `text`, 0 if it is none (RFC 3629: no overlong forms, no surrogates).
size_t Utf8Length(std::string_view text) {
  auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  uint8_t first = byte(0);
  if (first < 0x80) return 1;
  size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  uint8_t second = byte(1);
  if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) || (first == 0xf0 && second < 0x90) ||
      (first == 0xf4 && second > 0x8f)) {
    return 0;
  }
  return length;
}

void AppendJsonString(Line& out, std::string_view text) {
  out.Append('"');
  while (!text.empty()) {
    char c = text.front();
    size_t length = Utf8Length(text);
    if (length == 0) {
      out.Append("\\ufffd");  // JSON is UTF-8; a guest's strings need not be
      length = 1;
    } else if (c == '"' || c == '\\') {
      out.Append('\\');
      out.Append(c);
    } else if (c == '\n') {
      out.Append("\\n");
    } else if (c == '\t') {
      out.Append("\\t");
    } else if (c == '\r') {
      out.Append("\\r");
    } else if (static_cast<uint8_t>(c) < 0x20) {
      out.Append("\\u00");
      out.Hex(static_cast<uint8_t>(c));
    } else {
      out.Append(text.substr(0, length));
    }
    text.remove_prefix(length);
  }
  out.Append('"');
}

// Control characters are shown, not written: a guest whose strings are logged must not be able to make up lines.
void AppendPlain(Line& out, std::string_view text) {
  for (char c : text) {
    if (c == '\n') {
      out.Append("\\n");
    } else if ((static_cast<uint8_t>(c) < 0x20 && c != '\t') || c == 0x7f) {
      out.Append("\\x");
      out.Hex(static_cast<uint8_t>(c));
    } else {
      out.Append(c);
    }
  }
}

const char* JsonLevel(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
  }
  return "error";
}

const char* BaseName(const char* path) {
  const char* slash = strrchr(path, '/');
  return slash != nullptr ? slash + 1 : path;
}

struct Record {
  char letter;  // D I W E, F for the last words
  LogLevel level;
  const char* file;  // null: no position
  int line;
  std::string_view message;
};

void AppendText(Line& out, const Record& record) {
  CivilTime t = ToCivil(HostClockNs(CLOCK_REALTIME));
  out.Append(record.letter);
  out.Number(t.month, 2);
  out.Number(t.day, 2);
  out.Append(' ');
  out.Number(t.hour, 2);
  out.Append(':');
  out.Number(t.minute, 2);
  out.Append(':');
  out.Number(t.second, 2);
  out.Append('.');
  out.Number(t.microsecond, 6);
  out.Append(' ');
  if (record.file != nullptr) {
    out.Append(BaseName(record.file));
    out.Append(':');
    out.Number(record.line, 1);
    out.Append("] ");
  }
  AppendPlain(out, record.message);
  out.Reserve(1);
  out.Append('\n');
}

void AppendJson(Line& out, const Record& record) {
  CivilTime t = ToCivil(HostClockNs(CLOCK_REALTIME));
  out.Append("{\"level\":\"");
  out.Append(JsonLevel(record.level));
  out.Append("\",\"time\":\"");
  out.Number(t.year, 4);
  out.Append('-');
  out.Number(t.month, 2);
  out.Append('-');
  out.Number(t.day, 2);
  out.Append('T');
  out.Number(t.hour, 2);
  out.Append(':');
  out.Number(t.minute, 2);
  out.Append(':');
  out.Number(t.second, 2);
  out.Append('.');
  out.Number(t.microsecond, 6);
  out.Append("Z\",\"msg\":");
  AppendJsonString(out, record.message);
  out.Append("}\n");
}

// One write for a line, so that lines of several processes in one file do not mix; more only if the host takes part of
// it.
void WriteAll(int fd, std::string_view text) {
  while (!text.empty()) {
    auto written = HostRetry(SYS_write, fd, text.data(), text.size());
    if (!written.ok() || *written == 0) return;  // nobody to tell
    text.remove_prefix(*written);
  }
}

void WriteRecord(const LogOptions& sink, const Record& record, bool may_grow = true) {
  Line out(may_grow);
  if (sink.format == LogFormat::kJson) {
    AppendJson(out, record);
  } else {
    AppendText(out, record);
  }
  WriteAll(sink.fd, out.view());
}

bool Takes(const LogOptions& sink, LogLevel level) { return sink.fd >= 0 && level >= sink.level; }

}  // namespace

void SetUserLog(LogOptions options) { user_log.Set(options); }
void SetDebugLog(LogOptions options) { debug_log.Set(options); }

bool LogEnabled(LogLevel level) { return Takes(user_log.Get(), level) || Takes(debug_log.Get(), level); }

void LogAt(LogLevel level, const char* file, int line, const char* format, ...) {
  char stack[1024];
  std::string heap;
  std::string_view message;
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(stack, sizeof(stack), format, arguments);
  va_end(arguments);
  if (length < 0) return;
  if (static_cast<size_t>(length) < sizeof(stack)) {
    message = {stack, static_cast<size_t>(length)};
  } else {
    heap.resize(length);
    va_start(arguments, format);
    vsnprintf(heap.data(), heap.size() + 1, format, arguments);
    va_end(arguments);
    message = heap;
  }
  while (message.ends_with('\n')) message.remove_suffix(1);
  Record record{"DIWE"[static_cast<int>(level)], level, file, line, message};
  for (const Sink* sink : {&user_log, &debug_log}) {
    LogOptions options = sink->Get();
    if (Takes(options, level)) WriteRecord(options, record);
  }
}

void LogFatalToUser(std::string_view message) {
  LogOptions options = user_log.Get();
  if (options.fd < 0) return;
  WriteRecord(options, Record{'E', LogLevel::kError, nullptr, 0, message});
}

namespace internal {

void EmergencyLog(std::string_view message) {
  Record record{'F', LogLevel::kError, nullptr, 0, message};
  WriteRecord({.fd = 2, .format = LogFormat::kText}, record, false);
  for (const Sink* sink : {&user_log, &debug_log}) {
    LogOptions options = sink->Get();
    if (options.fd >= 0 && options.fd != 2) WriteRecord(options, record, false);
  }
}

}  // namespace internal

}  // namespace base

// Logging as text or JSON lines. printf-style so that a call that is filtered out costs one load and nothing is built.
// Safe on fibers; one write(2) per line; no lock is held during the write.
#ifndef BASE_LOGGING_H_
#define BASE_LOGGING_H_

#include <string_view>

namespace base {

enum class LogLevel { kDebug, kInfo, kWarning, kError };
enum class LogFormat { kText, kJson };

struct LogOptions {
  int fd = -1;  // −1: discard. Not owned.
  LogFormat format = LogFormat::kText;
  LogLevel level = LogLevel::kInfo;
};

// Two sinks, as runsc has them: `--log` (errors for the caller, format chosen by the engine) and `--debug-log`.
void SetUserLog(LogOptions options);
void SetDebugLog(LogOptions options);

bool LogEnabled(LogLevel level);
[[gnu::format(printf, 4, 5)]] void LogAt(LogLevel level, const char* file, int line, const char* format, ...);
// A JSON line {"msg","level","time"} or text in the user log, whatever its level: what the engine shows a person.
void LogFatalToUser(std::string_view message);

#define LOG_AT_(lvl, ...) (::base::LogEnabled(lvl) ? ::base::LogAt(lvl, __FILE__, __LINE__, __VA_ARGS__) : (void)0)
#define LOG_DEBUG(...) LOG_AT_(::base::LogLevel::kDebug, __VA_ARGS__)
#define LOG_INFO(...) LOG_AT_(::base::LogLevel::kInfo, __VA_ARGS__)
#define LOG_WARNING(...) LOG_AT_(::base::LogLevel::kWarning, __VA_ARGS__)
#define LOG_ERROR(...) LOG_AT_(::base::LogLevel::kError, __VA_ARGS__)

}  // namespace base

#endif  // BASE_LOGGING_H_

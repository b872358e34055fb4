// printf into a string, for the texts of /proc.
#ifndef SENTRY_FS_PROC_APPEND_H_
#define SENTRY_FS_PROC_APPEND_H_

#include <string>

namespace sentry::proc {

// At most 1023 bytes at a time; the rest is cut.
[[gnu::format(printf, 2, 3)]] void Append(std::string& out, const char* format, ...);

}  // namespace sentry::proc

#endif  // SENTRY_FS_PROC_APPEND_H_

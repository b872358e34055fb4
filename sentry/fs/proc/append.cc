#include "sentry/fs/proc/append.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>

namespace sentry::proc {

void Append(std::string& out, const char* format, ...) {
  char buffer[1024];
  va_list args;
  va_start(args, format);
  const int n = vsnprintf(buffer, sizeof(buffer), format, args);
  va_end(args);
  if (n > 0) out.append(buffer, std::min<size_t>(static_cast<size_t>(n), sizeof(buffer) - 1));
}

}  // namespace sentry::proc

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

#include "base/logging_internal.h"
#include "base/syscall_unsafe.h"

namespace base {
namespace {

// No stdio and no allocation: this runs in signal handlers and on fiber stacks that are nearly used up.
size_t AppendText(char* out, size_t used, size_t capacity, const char* text) {
  size_t n = strnlen(text, capacity - used);
  memcpy(out + used, text, n);
  return used + n;
}

size_t AppendNumber(char* out, size_t used, size_t capacity, unsigned value) {
  char digits[16];
  size_t n = 0;
  do {
    digits[n++] = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  while (n > 0 && used < capacity) out[used++] = digits[--n];
  return used;
}

}  // namespace

void CheckFailed(const char* file, int line, const char* text) {
  char message[512];
  size_t used = 0;
  used = AppendText(message, used, sizeof(message), file);
  used = AppendText(message, used, sizeof(message), ":");
  used = AppendNumber(message, used, sizeof(message), static_cast<unsigned>(line));
  used = AppendText(message, used, sizeof(message), ": CHECK failed: ");
  used = AppendText(message, used, sizeof(message) - 1, text);
  internal::EmergencyLog(std::string_view(message, used));
  abort();
}

}  // namespace base

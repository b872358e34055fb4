// What the crash paths of base (CHECK, the fault handlers) need from the log: no allocation, no lock, signal-safe.
#ifndef BASE_LOGGING_INTERNAL_H_
#define BASE_LOGGING_INTERNAL_H_

#include <string_view>

namespace base::internal {

// Writes one line to stderr and, in their formats, to the user log and the debug log.
void EmergencyLog(std::string_view message);

}  // namespace base::internal

#endif  // BASE_LOGGING_INTERNAL_H_

// RETURN_IF_ERROR and ASSIGN_OR_RETURN for absl::Status, which Debian 12's Abseil does not bring. For host-side code:
// what a guest sees is base::Result with TRY.
#ifndef BASE_STATUS_MACROS_H_
#define BASE_STATUS_MACROS_H_

#include <utility>

#define STATUS_MACROS_CONCAT_(a, b) a##b
#define STATUS_MACROS_NAME_(a, b) STATUS_MACROS_CONCAT_(a, b)

#define RETURN_IF_ERROR(...)           \
  do {                                 \
    auto status_ = (__VA_ARGS__);      \
    if (!status_.ok()) return status_; \
  } while (false)

// ASSIGN_OR_RETURN(auto value, expression);
#define ASSIGN_OR_RETURN(lhs, ...) ASSIGN_OR_RETURN_IMPL_(STATUS_MACROS_NAME_(status_or_, __LINE__), lhs, __VA_ARGS__)
#define ASSIGN_OR_RETURN_IMPL_(name, lhs, ...) \
  auto name = (__VA_ARGS__);                   \
  if (!name.ok()) return name.status();        \
  lhs = std::move(name).value()

#endif  // BASE_STATUS_MACROS_H_

// Errno and Result<T>: what a guest sees of an operation that failed.
//
// Guest-visible failure is always an Errno; failure of the host or of a configuration is an absl::Status. The two never
// mix: nothing converts a Status to an Errno.
#ifndef BASE_ERRNO_H_
#define BASE_ERRNO_H_

#include <cerrno>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#include "base/check.h"

namespace base {

// A Linux error number (man 3 errno), positive. `Errno(ENOENT)`.
class [[nodiscard]] Errno {
 public:
  constexpr explicit Errno(int value) : value_(value) {}
  constexpr int value() const { return value_; }
  friend constexpr bool operator==(Errno a, Errno b) { return a.value_ == b.value_; }
  friend constexpr bool operator==(Errno a, int b) { return a.value_ == b; }

 private:
  int value_;
};

// The kernel's own result codes, never seen by a guest (include/linux/errno.h). A handler that was interrupted by a
// signal returns one of them, and the signal delivery code turns it into a restart or EINTR.
inline constexpr int ERESTARTSYS_ = 512;            // restart if SA_RESTART or no handler, else EINTR
inline constexpr int ERESTARTNOINTR_ = 513;         // always restart
inline constexpr int ERESTARTNOHAND_ = 514;         // restart if no handler runs, else EINTR
inline constexpr int ERESTART_RESTARTBLOCK_ = 516;  // restart through restart_syscall(2) if no handler, else EINTR

// Name of an errno value as in errno.h ("ENOENT"), or "errno 4095" for one without a name. Never null.
const char* ErrnoName(int value);

// A T or the Errno that says why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  using value_type = T;
  Result(Errno error) : data_(std::in_place_index<1>, error) {}  // NOLINT: implicit by design
  template <typename U = T>
  requires(std::is_constructible_v<T, U&&> && !std::is_same_v<std::remove_cvref_t<U>, Errno> &&
           !std::is_same_v<std::remove_cvref_t<U>, Result>) Result(U&& value)  // NOLINT: implicit by design
      : data_(std::in_place_index<0>, std::forward<U>(value)) {}

  bool ok() const { return data_.index() == 0; }
  explicit operator bool() const = delete;  // Result<bool> would be ambiguous: write ok().

  T& value() & {
    CHECK(ok());
    return *std::get_if<0>(&data_);
  }
  const T& value() const& {
    CHECK(ok());
    return *std::get_if<0>(&data_);
  }
  T&& value() && {
    CHECK(ok());
    return std::move(*std::get_if<0>(&data_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  T value_or(T other) const { return ok() ? value() : std::move(other); }

  // The Errno; CHECK-fails on success.
  Errno error() const {
    CHECK(!ok());
    return *std::get_if<1>(&data_);
  }
  bool failed_with(int e) const { return !ok() && error() == e; }

 private:
  std::variant<T, Errno> data_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Errno error) : error_(error.value()) {}  // NOLINT: implicit by design
  bool ok() const { return error_ == 0; }
  Errno error() const {
    CHECK(error_ != 0);
    return Errno(error_);
  }
  bool failed_with(int e) const { return error_ == e; }
  void value() const { CHECK(ok()); }

 private:
  int error_ = 0;
};

// Converts the raw result of a host system call (value, or −errno).
inline Result<long> FromRaw(long raw) {
  if (raw < 0 && raw >= -4095) return Errno(static_cast<int>(-raw));
  return raw;
}

// TRY(expression): the value of a Result, or return its Errno from the enclosing function.
#define TRY(...)                                       \
  ({                                                   \
    auto try_result_ = (__VA_ARGS__);                  \
    if (!try_result_.ok()) return try_result_.error(); \
    std::move(try_result_).value();                    \
  })

}  // namespace base

#endif  // BASE_ERRNO_H_

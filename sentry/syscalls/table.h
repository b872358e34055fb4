// The system call table: one row per number of Linux 6.x on amd64, built at compile time (DESIGN.md §4).
//
// A handler is a free function with typed parameters, `Result<T> SysName(Task&, A…)`; Handle<> decodes the registers
// into those types. Each family header lists its rows next to its declarations; table.cc joins the families. `runsc
// syscalls` prints the table.
#ifndef SENTRY_SYSCALLS_TABLE_H_
#define SENTRY_SYSCALLS_TABLE_H_

#include <sys/syscall.h>

#include <array>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "base/errno.h"
#include "sentry/kernel/task.h"
#include "sentry/mm/user_memory.h"

namespace sentry {

using RawHandler = Result<int64_t> (*)(Task& task, const uint64_t args[6]);

enum class Support : uint8_t {
  kFull,     // behaves as the manual page says
  kPartial,  // `note` says what is missing
  kErrno,    // always fails with `error`; `note` says why
};

// How strace prints an argument; deduced from the parameter's type.
enum class ArgKind : uint8_t { kNone, kInt, kUnsigned, kHex, kFd, kPath, kPointer };

struct Row {
  uint16_t number = 0;
  std::string_view name;
  RawHandler handler = nullptr;
  Support support = Support::kErrno;
  int error = ENOSYS;
  std::string_view note;
  uint8_t arity = 0;
  std::array<ArgKind, 6> kinds{};
};

// Parameter types beyond integers and UserPtr<T>.
enum class FdArg : int32_t {};  // a descriptor number; converts to Fd with Fd(x)
struct UserPath {               // a NUL-terminated path in guest memory
  Addr addr = 0;
  Result<std::string> Read(Task& task) const;  // EFAULT, ENAMETOOLONG
};

namespace internal {

template <typename T>
struct FromRegister;
template <typename T>
requires std::is_integral_v<T>
struct FromRegister<T> {
  // The ABI: narrow integers are the low bits; the guest's upper bits are not to be trusted.
  static T Convert(uint64_t r) { return static_cast<T>(r); }
  static constexpr ArgKind kKind =
      std::is_signed_v<T> ? ArgKind::kInt : (sizeof(T) == 8 ? ArgKind::kHex : ArgKind::kUnsigned);
};
template <>
struct FromRegister<FdArg> {
  static FdArg Convert(uint64_t r) { return static_cast<FdArg>(static_cast<int32_t>(r)); }
  static constexpr ArgKind kKind = ArgKind::kFd;
};
template <typename T>
struct FromRegister<UserPtr<T>> {
  static UserPtr<T> Convert(uint64_t r) { return {r}; }
  static constexpr ArgKind kKind = ArgKind::kPointer;
};
template <>
struct FromRegister<UserPath> {
  static UserPath Convert(uint64_t r) { return {r}; }
  static constexpr ArgKind kKind = ArgKind::kPath;
};

template <typename T>
Result<int64_t> ToReturn(Result<T>&& r) {
  if (!r.ok()) return r.error();
  if constexpr (std::is_void_v<T>) {
    return int64_t{0};
  } else {
    return static_cast<int64_t>(*r);
  }
}

template <auto F, typename Sig = decltype(F)>
struct Handle;
template <auto F, typename R, typename... A>
struct Handle<F, R (*)(Task&, A...)> {
  static_assert(sizeof...(A) <= 6, "a system call has at most six arguments");
  static constexpr uint8_t kArity = sizeof...(A);
  static constexpr std::array<ArgKind, 6> kKinds{FromRegister<A>::kKind...};
  template <size_t... I>
  static Result<int64_t> Call(Task& task, const uint64_t args[6], std::index_sequence<I...>) {
    return ToReturn(F(task, FromRegister<A>::Convert(args[I])...));
  }
  static Result<int64_t> Raw(Task& task, const uint64_t args[6]) {
    return Call(task, args, std::index_sequence_for<A...>{});
  }
};

}  // namespace internal

// Rows: SYSCALL(read, SysRead), SYSCALL_PARTIAL(ioctl, SysIoctl, "no block devices"), SYSCALL_ERRNO(kexec_load, EPERM,
// "…"). Name and number come from one token.
#define SYSCALL(name_, function_)                                                                       \
  ::sentry::Row {                                                                                       \
    SYS_##name_, #name_, &::sentry::internal::Handle<&function_>::Raw, ::sentry::Support::kFull, 0, "", \
        ::sentry::internal::Handle<&function_>::kArity, ::sentry::internal::Handle<&function_>::kKinds  \
  }
#define SYSCALL_PARTIAL(name_, function_, note_)                                                              \
  ::sentry::Row {                                                                                             \
    SYS_##name_, #name_, &::sentry::internal::Handle<&function_>::Raw, ::sentry::Support::kPartial, 0, note_, \
        ::sentry::internal::Handle<&function_>::kArity, ::sentry::internal::Handle<&function_>::kKinds        \
  }
#define SYSCALL_ERRNO(name_, error_, note_) \
  ::sentry::Row { SYS_##name_, #name_, nullptr, ::sentry::Support::kErrno, error_, note_ }

inline constexpr int kTableSize = 462;  // through mseal (6.10)

// Row of a number; null for one that Linux does not have (ENOSYS).
const Row* FindRow(uint64_t number);
// What Kernel::SetSystemCallHandler gets. Prints a strace line when the kernel was asked to.
Result<int64_t> ServeSystemCall(Task& task, uint64_t number, const uint64_t args[6]);

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_TABLE_H_

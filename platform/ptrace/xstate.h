// A buffer for the host's whole XSAVE area, which PTRACE_SETREGSET wants in exactly its size, more than guests may see
// (registers.h).
#ifndef PLATFORM_PTRACE_XSTATE_H_
#define PLATFORM_PTRACE_XSTATE_H_

#include <cpuid.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>

#include "base/check.h"
#include "platform/registers.h"

namespace platform::ptrace {

class XStateBuffer {
 public:
  XStateBuffer() : data_(static_cast<std::byte*>(std::aligned_alloc(64, (HostSize() + 63) & ~size_t{63}))) {
    CHECK(data_ != nullptr);
  }
  std::byte* data() { return data_.get(); }
  const std::byte* data() const { return data_.get(); }
  static size_t size() { return HostSize(); }

  void SetInitial() {
    memset(data(), 0, size());
    InitXState(data());
  }
  void Set(std::span<const std::byte> area) {
    memset(data(), 0, size());
    memcpy(data(), area.data(), std::min<size_t>(area.size(), XStateSize()));
  }

 private:
  // CPUID leaf 0xD: the size for the features that the kernel has enabled.
  static size_t HostSize() {
    static const size_t size = [] {
      unsigned a, b, c, d;
      __cpuid_count(0xd, 0, a, b, c, d);
      return std::max<size_t>(b, XStateSize());
    }();
    return size;
  }
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  std::unique_ptr<std::byte, Free> data_;
};

}  // namespace platform::ptrace

#endif  // PLATFORM_PTRACE_XSTATE_H_

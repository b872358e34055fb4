// A socket address as a guest gives it: bytes with a length, whose family says what they are.
#ifndef SENTRY_SOCKET_SOCKET_ADDRESS_H_
#define SENTRY_SOCKET_SOCKET_ADDRESS_H_

#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

namespace sentry {

struct SocketAddress {
  static constexpr size_t kMax = 128;  // sizeof(struct sockaddr_storage)
  uint8_t bytes[kMax] = {};
  uint32_t length = 0;

  uint16_t family() const {
    uint16_t f = AF_UNSPEC;
    if (length >= sizeof(f)) memcpy(&f, bytes, sizeof(f));
    return f;
  }
  // What is missing reads as zero.
  template <typename T>
  T As() const {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= kMax);
    T value;
    memcpy(&value, bytes, sizeof(T));
    return value;
  }
  template <typename T>
  static SocketAddress Of(const T& value, size_t length = sizeof(T)) {
    SocketAddress a;
    a.length = static_cast<uint32_t>(std::min(length, kMax));
    memcpy(a.bytes, &value, std::min(sizeof(T), static_cast<size_t>(a.length)));
    return a;
  }
};

}  // namespace sentry

#endif  // SENTRY_SOCKET_SOCKET_ADDRESS_H_

// Requests of NETLINK_ROUTE as a guest may write them.
#include <string_view>

#include "sentry/socket/netlink/netlink_socket.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  (void)sentry::AnswerRoute(std::string_view(reinterpret_cast<const char*>(data), size), 1);
  return 0;
}

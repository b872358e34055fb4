// The gofer protocol's two parsers. Besides not crashing: what parses as a request and is encoded again is the same
// packet.
#include <cstddef>
#include <cstdint>
#include <span>
#include <variant>
#include <vector>

#include "base/check.h"
#include "gofer/protocol/messages.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::span<const uint8_t> packet(data, size);
  gofer::ParsedRequest request;
  if (gofer::ParseRequest(packet, request).ok()) {
    std::vector<uint8_t> again;
    bool encoded = std::visit(
        [&](const auto& body) { return gofer::EncodeRequest(body, request.header.tag, request.closes, again); },
        request.body);
    CHECK(encoded);
    CHECK(again.size() == size);
    for (size_t i = 0; i < size; ++i) {
      // The CPU is a hint that is filled in when a packet is sent.
      if (i != gofer::kCpuOffset && i != gofer::kCpuOffset + 1) CHECK(again[i] == data[i]);
    }
  }
  (void)gofer::ParseReply(packet);
  return 0;
}

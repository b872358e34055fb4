// Programs of seccomp(2): what the checker takes, the interpreter runs without a read or a jump out of bounds, and what
// it says from the number alone is what it says about any call of that number.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "sentry/kernel/seccomp_bpf.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sentry;
  seccomp_data call{};
  if (size < sizeof(call)) return 0;
  memcpy(&call, data, sizeof(call));
  data += sizeof(call);
  size -= sizeof(call);
  // Exactly as long as the program, so that the sanitizer sees what goes beyond.
  std::vector<sock_filter> program(size / sizeof(sock_filter));
  if (!program.empty()) memcpy(program.data(), data, program.size() * sizeof(sock_filter));
  // Codes that exist are rare among random ones: keep the bits that any of them uses.
  for (sock_filter& insn : program) insn.code &= 0xff;
  if (!CheckSeccompProgram(program).ok()) return 0;
  CHECK(SeccompProgramCost(program) > program.size());
  const uint32_t answer = RunSeccompProgram(program, call);
  if (auto known = RunSeccompProgramOnNumber(program, call.nr, call.arch)) CHECK(*known == answer);
  return 0;
}

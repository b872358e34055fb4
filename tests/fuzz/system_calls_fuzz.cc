// The whole system call table: random calls with random arguments, by up to 24 tasks, against a kernel on the fake
// platform.
#include "tests/unit/system_calls/random_calls.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  (void)sentry::testing::MakeRandomCalls({data, size});
  return 0;
}

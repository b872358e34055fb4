#include "platform/ptrace/ptrace_platform.h"
#include "platform/tests/guest.h"

namespace platform {

std::vector<Factory> Factories() {
  return {{"ptrace",
           [] {
             auto made = ptrace::New();
             EXPECT_TRUE(made.ok());
             return made.ok() ? std::move(*made) : nullptr;
           },
           true}};
}

}  // namespace platform

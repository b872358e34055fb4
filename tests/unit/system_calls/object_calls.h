// A guest that makes one of every kind of object, once each, and gives none of them back itself.
#ifndef TESTS_UNIT_SYSTEM_CALLS_OBJECT_CALLS_H_
#define TESTS_UNIT_SYSTEM_CALLS_OBJECT_CALLS_H_

#include <cstdint>
#include <string>

namespace sentry::testing {

struct ObjectCallsOutcome {
  int status = 0;      // wait4's, of the first process
  std::string failed;  // of its calls: "number: errno" each
  // How often the kernel asked whether there may be one more object, and was told that there may not.
  uint64_t asked = 0, refused = 0;
};

// Makes the calls while base::ChargedMemory fails as FailFrom says, from the guest's first call on until it has ended.
ObjectCallsOutcome MakeObjectCalls(uint64_t first_failure, uint64_t every);

}  // namespace sentry::testing

#endif  // TESTS_UNIT_SYSTEM_CALLS_OBJECT_CALLS_H_

// AddressSpace: batches of changes, isolation, release.
#include "platform/tests/guest.h"

namespace platform {
namespace {

class AddressSpaceTest : public PlatformTest {};
INSTANTIATE_TEST_SUITE_P(All, AddressSpaceTest, ::testing::ValuesIn(Factories()),
                         [](const auto& info) { return info.param.name; });

TEST_P(AddressSpaceTest, AnEmptyBatchSucceeds) {
  InFiber([&] { EXPECT_TRUE(NewSpace()->Apply({}).ok()); });
}

}  // namespace
}  // namespace platform

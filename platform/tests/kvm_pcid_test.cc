// PcidSlots, against a model of what a processor has cached.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "platform/kvm/pcid_slots.h"

namespace platform::kvm {
namespace {

class Processor {
 public:
  // A load of CR3, after which something of the address space is cached.
  void Load(uint64_t bits, uint64_t id) {
    pcid_ = bits & 0xfff;
    if (!(bits & PcidSlots::kNoFlush)) cached_[pcid_].clear();
    cached_[pcid_].insert(id);
  }
  const std::set<uint64_t>& Visible() { return cached_[pcid_]; }

 private:
  uint64_t pcid_ = 0;
  std::map<uint64_t, std::set<uint64_t>> cached_;
};

// Loads that happen and are known, that happen and are not known (the virtual CPU was set to something else before it
// told), and that do not happen.
TEST(PcidSlots, NothingOfAnotherAddressSpaceIsVisible) {
  std::mt19937 random(9);
  PcidSlots slots;
  Processor processor;
  for (int i = 0; i < 100'000; ++i) {
    const uint64_t id = 1 + random() % 12 + static_cast<uint64_t>(i / 1000);
    const uint64_t bits = slots.Choose(id);
    ASSERT_NE(bits & 0xfff, 0u);
    const uint32_t what = random() % 8;
    if (what == 0) continue;
    processor.Load(bits, id);
    ASSERT_EQ(processor.Visible(), std::set<uint64_t>{id});
    if (what != 1) slots.Loaded();
  }
}

TEST(PcidSlots, AFewThatTakeTurnsKeepTheirs) {
  PcidSlots slots;
  for (uint64_t id = 1; id <= 8; ++id) {
    EXPECT_EQ(slots.Choose(id) & PcidSlots::kNoFlush, 0u);
    slots.Loaded();
  }
  std::set<uint64_t> pcids;
  for (uint64_t id = 1; id <= 8; ++id) {
    const uint64_t bits = slots.Choose(id);
    EXPECT_NE(bits & PcidSlots::kNoFlush, 0u);
    pcids.insert(bits & 0xfff);
  }
  EXPECT_EQ(pcids.size(), 8u);
  EXPECT_EQ(slots.Choose(9) & PcidSlots::kNoFlush, 0u);
}

}  // namespace
}  // namespace platform::kvm

#include "base/flags.h"

#include <gtest/gtest.h>

namespace base {
namespace {

enum class Bit : unsigned { kA = 1, kB = 2, kC = 4 };

TEST(Flags, SetsAndTestsBits) {
  Flags<Bit> flags{Bit::kA, Bit::kC};
  EXPECT_TRUE(flags.Has(Bit::kA));
  EXPECT_FALSE(flags.Has(Bit::kB));
  EXPECT_TRUE(flags.HasAny({Bit::kB, Bit::kC}));
  EXPECT_FALSE(flags.HasAll({Bit::kB, Bit::kC}));
  EXPECT_EQ(flags.Without(Bit::kA), Flags<Bit>(Bit::kC));
  flags.Set(Bit::kB).Set(Bit::kA, false);
  EXPECT_EQ(flags.bits(), 6u);
  EXPECT_TRUE(Flags<Bit>().empty());
}

TEST(Flags, ValidRejectsUnknownBits) {
  EXPECT_TRUE(Flags<Bit>::Valid(3, {Bit::kA, Bit::kB}));
  EXPECT_FALSE(Flags<Bit>::Valid(8, {Bit::kA, Bit::kB, Bit::kC}));
}

}  // namespace
}  // namespace base

#include "base/interval_map.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace base {
namespace {

// Values of which neighbours merge when they are equal.
struct EqualMerges {
  static int Split(int& left, Range, uint64_t) { return left; }
  static bool Merge(int& left, Range, const int& right, Range) { return left == right; }
};
// Values that are the offset of the range's start, as a file mapping has.
struct Offsets {
  static uint64_t Split(uint64_t& left, Range whole, uint64_t at) { return left + (at - whole.start); }
  static bool Merge(uint64_t& left, Range l, const uint64_t& right, Range) { return left + l.length() == right; }
};

TEST(IntervalMap, FindsTheRangeThatContainsAPoint) {
  IntervalMap<int> map;
  map.Insert({10, 20}, 1);
  map.Insert({30, 40}, 2);
  EXPECT_EQ(map.Find(9), map.end());
  EXPECT_EQ(map.Find(10)->second.value, 1);
  EXPECT_EQ(map.Find(19)->second.value, 1);
  EXPECT_EQ(map.Find(20), map.end());
  EXPECT_EQ(map.LowerBound(20)->second.value, 2);
  EXPECT_EQ(map.LowerBound(35)->second.value, 2);
  EXPECT_EQ(map.LowerBound(40), map.end());
}

TEST(IntervalMap, RemoveCutsAtBothEnds) {
  IntervalMap<uint64_t, Offsets> map;
  map.Insert({100, 200}, 1000);
  std::vector<std::pair<Range, uint64_t>> removed;
  map.Remove({120, 150}, [&](Range r, uint64_t&& v) { removed.emplace_back(r, v); });
  ASSERT_EQ(removed.size(), 1u);
  EXPECT_EQ(removed[0].first, (Range{120, 150}));
  EXPECT_EQ(removed[0].second, 1020u);
  EXPECT_EQ(map.size(), 2u);
  EXPECT_EQ(map.Find(199)->second.value, 1050u);
  map.Insert({120, 150}, 1020);  // fits: all three become one again
  EXPECT_EQ(map.size(), 1u);
  EXPECT_EQ(map.RangeOf(map.begin()), (Range{100, 200}));
}

TEST(IntervalMap, HoldsTheTopOfTheAddressSpace) {
  IntervalMap<int> map;
  map.Insert({UINT64_MAX - 10, UINT64_MAX}, 1);
  EXPECT_NE(map.Find(UINT64_MAX - 1), map.end());
  EXPECT_EQ(map.Find(UINT64_MAX), map.end());
}

TEST(IntervalMap, AgreesWithAnArray) {
  constexpr int kSize = 200;
  IntervalMap<int, EqualMerges> map;
  int model[kSize] = {};
  std::mt19937 random(7);
  for (int round = 0; round < 5000; ++round) {
    uint64_t a = random() % kSize, b = random() % kSize;
    Range r{std::min(a, b), std::max(a, b) + 1};
    int value = random() % 4;  // 0: remove only
    uint64_t removed = 0, expected = 0;
    map.Remove(r, [&](Range piece, int&& v) {
      removed += piece.length();
      for (uint64_t x = piece.start; x < piece.end; ++x) ASSERT_EQ(model[x], v);
    });
    for (uint64_t x = r.start; x < r.end; ++x) {
      expected += model[x] != 0;
      model[x] = value;
    }
    ASSERT_EQ(removed, expected);
    if (value != 0) map.Insert(r, value);
    uint64_t x = round % kSize;
    auto it = map.Find(x);
    ASSERT_EQ(it == map.end() ? 0 : it->second.value, model[x]);
  }
  int previous_value = 0;
  uint64_t previous_end = UINT64_MAX;
  for (auto it = map.begin(); it != map.end(); ++it) {
    if (it->first == previous_end) {
      EXPECT_NE(it->second.value, previous_value);
    }
    previous_end = it->second.end;
    previous_value = it->second.value;
  }
}

}  // namespace
}  // namespace base

// IntervalMap<V>: disjoint half-open ranges of uint64_t, each with a value. Backs VMAs, the pages behind them, and the
// memory file's reference counts; its nodes are charged to the sandbox.
#ifndef BASE_INTERVAL_MAP_H_
#define BASE_INTERVAL_MAP_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <utility>

#include "base/charged_memory.h"
#include "base/check.h"

namespace base {

struct Range {
  uint64_t start = 0;
  uint64_t end = 0;  // exclusive
  uint64_t length() const { return end - start; }
  bool empty() const { return start >= end; }
  bool Contains(uint64_t x) const { return x >= start && x < end; }
  bool Contains(const Range& r) const { return r.start >= start && r.end <= end; }
  bool Overlaps(const Range& r) const { return start < r.end && r.start < end; }
  Range Intersect(const Range& r) const { return {start > r.start ? start : r.start, end < r.end ? end : r.end}; }
  friend bool operator==(const Range&, const Range&) = default;
};

// Traits<V> may specialise: `V Split(V& left, Range whole, uint64_t at)` — the value of the right part when a range is
// cut at `at` (the left part's value may change too) — and `bool Merge(V& left, Range l, const V& right, Range r)`.
template <typename V>
struct IntervalTraits {
  static V Split(V& left, Range whole, uint64_t at) { return left; }
  static bool Merge(V& left, Range l, const V& right, Range r) { return false; }
};

// Iterators stay valid until their own range is erased (std::map). Not thread-safe.
template <typename V, typename Traits = IntervalTraits<V>>
class IntervalMap {
 public:
  struct Node {
    uint64_t end;
    V value;
  };
  using Map = std::map<uint64_t, Node, std::less<uint64_t>, ChargedAllocator<std::pair<const uint64_t, Node>>>;
  using iterator = typename Map::iterator;
  using const_iterator = typename Map::const_iterator;

  static Range RangeOf(const_iterator it) { return {it->first, it->second.end}; }

  iterator begin() { return map_.begin(); }
  iterator end() { return map_.end(); }
  const_iterator begin() const { return map_.begin(); }
  const_iterator end() const { return map_.end(); }
  bool empty() const { return map_.empty(); }
  size_t size() const { return map_.size(); }
  void clear() { map_.clear(); }

  // The range that contains x, or end().
  iterator Find(uint64_t x) {
    auto it = map_.upper_bound(x);
    if (it == map_.begin()) return map_.end();
    --it;
    return x < it->second.end ? it : map_.end();
  }
  const_iterator Find(uint64_t x) const { return const_cast<IntervalMap*>(this)->Find(x); }
  // The first range that ends above x (contains x or lies after it), or end().
  iterator LowerBound(uint64_t x) {
    auto it = Find(x);
    return it != map_.end() ? it : map_.lower_bound(x);
  }
  const_iterator LowerBound(uint64_t x) const { return const_cast<IntervalMap*>(this)->LowerBound(x); }

  // Inserts a range that overlaps none; merges with its neighbours where Traits allow it. Returns the range that holds
  // it.
  iterator Insert(Range r, V value) {
    CHECK(!r.empty());
    auto next = LowerBound(r.start);
    CHECK(next == map_.end() || next->first >= r.end);
    auto it = map_.emplace_hint(next, r.start, Node{r.end, std::move(value)});
    return MergeAround(it);
  }
  // Cuts the range at x, if x lies inside of one. Returns the range that starts at or after x.
  iterator SplitAt(uint64_t x) {
    auto it = Find(x);
    if (it == map_.end()) return map_.lower_bound(x);
    if (it->first == x) return it;
    Range whole = RangeOf(it);
    V right = Traits::Split(it->second.value, whole, x);
    it->second.end = x;
    return map_.emplace_hint(std::next(it), x, Node{whole.end, std::move(right)});
  }
  // Removes everything in r (cutting at its ends), calling f(Range, V&&) for each piece removed.
  template <typename F>
  void Remove(Range r, F&& f) {
    if (r.empty()) return;
    auto it = SplitAt(r.start);
    SplitAt(r.end);
    while (it != map_.end() && it->first < r.end) {
      f(RangeOf(it), std::move(it->second.value));
      it = map_.erase(it);
    }
  }
  iterator Erase(iterator it) { return map_.erase(it); }
  // Merges `it` with both neighbours where Traits allow it.
  iterator MergeAround(iterator it) {
    if (it != map_.begin()) {
      auto prev = std::prev(it);
      if (prev->second.end == it->first &&
          Traits::Merge(prev->second.value, RangeOf(prev), it->second.value, RangeOf(it))) {
        prev->second.end = it->second.end;
        map_.erase(it);
        it = prev;
      }
    }
    auto next = std::next(it);
    if (next != map_.end() && it->second.end == next->first &&
        Traits::Merge(it->second.value, RangeOf(it), next->second.value, RangeOf(next))) {
      it->second.end = next->second.end;
      map_.erase(next);
    }
    return it;
  }

 private:
  Map map_;
};

}  // namespace base

#endif  // BASE_INTERVAL_MAP_H_

#include "base/ref_ptr.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace base {
namespace {

struct Object : RefCounted {
  explicit Object(bool* dead) : dead(dead) {}
  ~Object() override { *dead = true; }
  bool* dead;
};
struct Derived : Object {
  using Object::Object;
};

TEST(RefPtr, DestroysWithTheLastReference) {
  bool dead = false;
  RefPtr<Object> a = MakeRef<Object>(&dead);
  EXPECT_EQ(a->ref_count(), 1u);
  RefPtr<Object> b = a;
  EXPECT_EQ(a->ref_count(), 2u);
  a.reset();
  EXPECT_FALSE(dead);
  b = nullptr;
  EXPECT_TRUE(dead);
}

TEST(RefPtr, ConvertsToABaseAndBack) {
  bool dead = false;
  RefPtr<Derived> derived = MakeRef<Derived>(&dead);
  RefPtr<Object> object = derived;
  EXPECT_EQ(StaticRefCast<Derived>(object), derived);
  RefPtr<Object> moved = std::move(derived);
  EXPECT_FALSE(derived);
  EXPECT_EQ(moved->ref_count(), 2u);
}

TEST(RefPtr, AssigningItselfIsHarmless) {
  bool dead = false;
  RefPtr<Object> a = MakeRef<Object>(&dead);
  RefPtr<Object>& alias = a;
  a = alias;
  a = std::move(alias);
  EXPECT_FALSE(dead);
  EXPECT_EQ(a->ref_count(), 1u);
}

// An object whose memory outlives its count, as one in a table of weak pointers does until it has taken itself out.
struct Undead : RefCounted {
  void OnLastUnref() const override {}
  ~Undead() override = default;
};

TEST(RefPtr, TryRefFailsOnAnObjectThatIsDying) {
  Undead object;
  EXPECT_TRUE(object.TryRef());
  object.Unref();
  object.Unref();
  EXPECT_FALSE(object.TryRef());
}

TEST(RefPtr, CountsFromManyThreads) {
  bool dead = false;
  RefPtr<Object> object = MakeRef<Object>(&dead);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([copy = object] {
      for (int i = 0; i < 10000; ++i) RefPtr<Object> another = copy;
    });
  }
  for (auto& thread : threads) thread.join();
  threads.clear();
  EXPECT_EQ(object->ref_count(), 1u);
  object.reset();
  EXPECT_TRUE(dead);
}

#ifdef RUNSC_LEAK_REGISTRY
TEST(LeakRegistry, KnowsWhatIsAlive) {
  bool dead = false;
  size_t before = ReportLeaks();
  RefPtr<Object> object = MakeRef<Object>(&dead);
  EXPECT_EQ(ReportLeaks(), before + 1);
  object.reset();
  EXPECT_EQ(ReportLeaks(), before);
}
#endif

}  // namespace
}  // namespace base

#include "base/clean_pages.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>

namespace base {
namespace {

// Resident kilobytes of the mapping that holds `address`.
long ResidentKb(const void* address) {
  std::ifstream maps("/proc/self/smaps");
  std::string line;
  bool here = false;
  while (std::getline(maps, line)) {
    uintptr_t start, end;
    if (sscanf(line.c_str(), "%zx-%zx ", &start, &end) == 2) {
      here = start <= reinterpret_cast<uintptr_t>(address) && reinterpret_cast<uintptr_t>(address) < end;
    } else if (here && line.compare(0, 4, "Rss:") == 0) {
      return std::stol(line.substr(4));
    }
  }
  return -1;
}

int g_written = 1;
const char kConstant[] = "a constant";

TEST(CleanPages, CodeIsGivenBackAndEverythingStillWorks) {
  g_written = 42;
  // Another part of the program, so that there is something to give back.
  std::ostringstream out;
  out << ::testing::UnitTest::GetInstance()->total_test_count() << 1.5;
  const long before = ResidentKb(reinterpret_cast<const void*>(&ResidentKb));
  ASSERT_GT(before, 0);
  DropCleanPages();
  const long after = ResidentKb(reinterpret_cast<const void*>(&ResidentKb));
  EXPECT_LE(after, before);
  EXPECT_EQ(g_written, 42);
  EXPECT_EQ(std::string(kConstant), "a constant");
  EXPECT_FALSE(out.str().empty());
}

}  // namespace
}  // namespace base

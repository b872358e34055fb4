#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <thread>
#include <vector>

#include "base/fiber.h"
#include "base/safe_copy_unsafe.h"
#include "base/unique_fd.h"

namespace base {
namespace {

constexpr size_t kPage = 4096;

// Two pages of which the second cannot be accessed.
class HalfMapped {
 public:
  HalfMapped() {
    memory_ = static_cast<char*>(mmap(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(memory_ + kPage, kPage, PROT_NONE);
  }
  ~HalfMapped() { munmap(memory_, 2 * kPage); }
  char* end() const { return memory_ + kPage; }

 private:
  char* memory_;
};

class SafeCopyTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { InstallSafeCopyHandlers(); }
};

TEST_F(SafeCopyTest, CopiesEveryLengthAndAlignment) {
  std::vector<char> from(600), to(600);
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<char>(i * 7 + 1);
  for (size_t length = 0; length < 300; ++length) {
    for (size_t shift : {0, 1, 3, 8, 13}) {
      std::fill(to.begin(), to.end(), 0);
      CopyOutcome outcome = SafeCopy(to.data() + 5, from.data() + shift, length);
      ASSERT_EQ(outcome.copied, length);
      ASSERT_EQ(outcome.signal, 0);
      ASSERT_EQ(memcmp(to.data() + 5, from.data() + shift, length), 0);
      ASSERT_EQ(to[5 + length], 0);
    }
  }
}

TEST_F(SafeCopyTest, CountsTheBytesBeforeAFaultOfTheSourceExactly) {
  HalfMapped memory;
  char out[512];
  for (size_t accessible = 0; accessible < 260; ++accessible) {
    memset(memory.end() - accessible, 'x', accessible);
    CopyOutcome outcome = SafeCopy(out, memory.end() - accessible, accessible + 37);
    ASSERT_EQ(outcome.copied, accessible);
    ASSERT_EQ(outcome.signal, SIGSEGV);
  }
}

TEST_F(SafeCopyTest, CountsTheBytesBeforeAFaultOfTheDestinationExactly) {
  HalfMapped memory;
  char from[512];
  memset(from, 'y', sizeof(from));
  for (size_t accessible = 0; accessible < 260; ++accessible) {
    memset(memory.end() - 300, 0, 300);
    CopyOutcome outcome = SafeCopy(memory.end() - accessible, from, accessible + 37);
    ASSERT_EQ(outcome.copied, accessible);
    ASSERT_EQ(outcome.signal, SIGSEGV);
    for (size_t i = 1; i <= accessible; ++i) ASSERT_EQ(memory.end()[-static_cast<long>(i)], 'y');
  }
}

TEST_F(SafeCopyTest, ATruncatedFileIsSIGBUS) {
  UniqueFd file(memfd_create("safe_copy", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(file.get(), 2 * kPage), 0);
  char* mapped = static_cast<char*>(mmap(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0));
  ASSERT_NE(mapped, MAP_FAILED);
  ASSERT_EQ(ftruncate(file.get(), kPage), 0);
  std::vector<char> out(2 * kPage);
  CopyOutcome outcome = SafeCopy(out.data(), mapped, 2 * kPage);
  EXPECT_EQ(outcome.copied, kPage);
  EXPECT_EQ(outcome.signal, SIGBUS);
  outcome = SafeZero(mapped + 100, 2 * kPage - 100);
  EXPECT_EQ(outcome.copied, kPage - 100);
  EXPECT_EQ(outcome.signal, SIGBUS);
  munmap(mapped, 2 * kPage);
}

TEST_F(SafeCopyTest, ZeroesUpToAFault) {
  HalfMapped memory;
  memset(memory.end() - 200, 'z', 200);
  CopyOutcome outcome = SafeZero(memory.end() - 150, 1000);
  EXPECT_EQ(outcome.copied, 150u);
  EXPECT_EQ(outcome.signal, SIGSEGV);
  EXPECT_EQ(memory.end()[-151], 'z');
  EXPECT_EQ(memory.end()[-150], 0);
  EXPECT_EQ(memory.end()[-1], 0);
}

TEST_F(SafeCopyTest, ANonCanonicalAddressIsAFaultToo) {
  char out[16];
  CopyOutcome outcome = SafeCopy(out, reinterpret_cast<const void*>(0x8000'0000'0000'0000), sizeof(out));
  EXPECT_EQ(outcome.copied, 0u);
  EXPECT_EQ(outcome.signal, SIGSEGV);
}

TEST_F(SafeCopyTest, AtomicsWorkOrFail) {
  alignas(4) uint32_t word = 5;
  EXPECT_EQ(*SafeLoad32(&word), 5u);
  EXPECT_EQ(*SafeCompareExchange32(&word, 5, 6), 5u);
  EXPECT_EQ(word, 6u);
  EXPECT_EQ(*SafeCompareExchange32(&word, 5, 7), 6u);
  EXPECT_EQ(word, 6u);
  HalfMapped memory;
  auto* bad = reinterpret_cast<uint32_t*>(memory.end());
  EXPECT_TRUE(SafeLoad32(bad).failed_with(EFAULT));
  EXPECT_TRUE(SafeCompareExchange32(bad, 0, 1).failed_with(EFAULT));
}

TEST_F(SafeCopyTest, WorksOnFibersAndOnSeveralThreads) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([] {
      RunInFiber([] {
        HalfMapped memory;
        char out[64];
        for (int i = 0; i < 200; ++i) ASSERT_EQ(SafeCopy(out, memory.end() - 10, 20).copied, 10u);
      });
    });
  }
  for (auto& thread : threads) thread.join();
}

#if GTEST_HAS_DEATH_TEST && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST(SafeCopyDeathTest, AFaultElsewhereIsFatalAndReported) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        InstallSafeCopyHandlers();
        *reinterpret_cast<volatile int*>(0x123000) = 1;
      },
      testing::KilledBySignal(SIGSEGV), "SIGSEGV at address 0x123000");
}

TEST(SafeCopyDeathTest, ASignalThatWasSentIsFatal) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        InstallSafeCopyHandlers();
        kill(getpid(), SIGSEGV);
      },
      testing::KilledBySignal(SIGSEGV), "sent by a process");
}

[[gnu::noinline]] int Recurse(int depth) {
  volatile char frame[512];
  frame[0] = static_cast<char>(depth);
  if (depth == 1 << 30) return 0;
  return Recurse(depth + 1) + frame[0];
}

TEST(SafeCopyDeathTest, TheOverflowOfAFibersStackIsReported) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        InstallSafeCopyHandlers();
        RunInFiber([] { Recurse(0); });
      },
      testing::KilledBySignal(SIGSEGV), "stack overflow of a fiber");
}
#endif

}  // namespace
}  // namespace base

#include "sentry/fs/pipe/pipe.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <string>
#include <thread>

namespace sentry {
namespace {

RefPtr<Pipe> Make() {
  auto pipe = Pipe::Create();
  EXPECT_TRUE(pipe.ok());
  (*pipe)->AddEnds(true, true);
  return *pipe;
}

Result<size_t> Write(Pipe& pipe, std::string text, bool packets = false) {
  KernelIo io(std::as_writable_bytes(std::span(text)));
  return pipe.Write(io, packets);
}

std::string Read(Pipe& pipe, size_t max = 1 << 20) {
  std::string buffer(max, '\0');
  KernelIo io(std::as_writable_bytes(std::span(buffer)));
  auto n = pipe.Read(io);
  if (!n.ok()) return std::string("error ") + base::ErrnoName(n.error().value());
  buffer.resize(*n);
  return buffer;
}

TEST(PipeBuffer, SmallWritesShareAPage) {
  auto pipe = Make();
  for (int i = 0; i < 4096; ++i) ASSERT_TRUE(Write(*pipe, "0123456789abcdef").ok()) << i;
  EXPECT_EQ(pipe->bytes(), 65536u);
  EXPECT_TRUE(Write(*pipe, "x").failed_with(EAGAIN));
  EXPECT_EQ(Read(*pipe, 3), "012");
  EXPECT_EQ(pipe->bytes(), 65533u);
}

TEST(PipeBuffer, PacketsKeepTheirBorders) {
  auto pipe = Make();
  ASSERT_TRUE(Write(*pipe, "one", true).ok());
  ASSERT_TRUE(Write(*pipe, "two", true).ok());
  EXPECT_EQ(Read(*pipe, 2), "on") << "the rest of a packet is dropped";
  EXPECT_EQ(Read(*pipe), "two");
  EXPECT_EQ(pipe->bytes(), 0u);
}

TEST(PipeBuffer, TransferSharesPagesThatAreNotWrittenAgain) {
  auto a = Make(), b = Make();
  ASSERT_TRUE(Write(*a, "shared").ok());
  auto n = Pipe::Transfer(*a, *b, 100, /*consume=*/false);
  ASSERT_TRUE(n.ok());
  EXPECT_EQ(*n, 6u);
  ASSERT_TRUE(Write(*a, "-a").ok());
  ASSERT_TRUE(Write(*b, "-b").ok());
  EXPECT_EQ(Read(*a), "shared-a");
  EXPECT_EQ(Read(*b), "shared-b");
  EXPECT_TRUE(Pipe::Transfer(*a, *b, 100, true).failed_with(EAGAIN));
  a->DropEnds(false, true);
  EXPECT_EQ(Pipe::Transfer(*a, *b, 100, true).value(), 0u);
}

TEST(PipeBuffer, ResizeKeepsTheContentOrRefuses) {
  auto pipe = Make();
  ASSERT_TRUE(Write(*pipe, std::string(10'000, 'x') + "end").ok());
  EXPECT_TRUE(pipe->Resize(4096, false).failed_with(EBUSY));
  EXPECT_EQ(pipe->Resize(12'000, false).value(), 16384u);
  EXPECT_EQ(pipe->Resize(1 << 20, false).value(), size_t{1} << 20);
  EXPECT_TRUE(pipe->Resize((1 << 20) + 1, false).failed_with(EPERM));
  EXPECT_TRUE(pipe->Resize(uint64_t{1} << 40, true).failed_with(EINVAL));
  std::string all = Read(*pipe);
  EXPECT_EQ(all.size(), 10'003u);
  EXPECT_EQ(all.substr(10'000), "end");
}

TEST(PipeBuffer, DrainTakesOnlyWhatIsUsed) {
  auto pipe = Make();
  ASSERT_TRUE(Write(*pipe, "abcdef").ok());
  auto n = pipe->Drain(100, [](std::span<std::byte> page) -> Result<size_t> { return page.size() - 2; });
  EXPECT_EQ(*n, 4u);
  EXPECT_TRUE(pipe->Drain(100, [](std::span<std::byte>) -> Result<size_t> { return Errno(EIO); }).failed_with(EIO));
  EXPECT_EQ(Read(*pipe), "ef");
  EXPECT_TRUE(
      pipe->Fill(100, [](std::span<std::byte>) -> Result<size_t> { return Errno(EAGAIN); }).failed_with(EAGAIN));
  n = pipe->Fill(10'000, [](std::span<std::byte> page) -> Result<size_t> {
    memset(page.data(), 'f', page.size());
    return page.size();
  });
  EXPECT_EQ(*n, 10'000u);
  EXPECT_EQ(pipe->bytes(), 10'000u);
}

TEST(PipeBuffer, SlotsAreChargedForTheSandbox) {
  std::vector<RefPtr<Pipe>> pipes;
  int64_t slots = 0;
  bool shrunk = false;
  for (;;) {
    auto pipe = Pipe::Create();
    if (!pipe.ok()) {
      EXPECT_TRUE(pipe.failed_with(ENFILE));
      break;
    }
    slots += static_cast<int64_t>((*pipe)->capacity_bytes() / kPageSize);
    if ((*pipe)->capacity_bytes() == 2 * kPageSize) {
      shrunk = true;
      EXPECT_TRUE((*pipe)->Resize(1 << 20, true).failed_with(EPERM));
    }
    pipes.push_back(*std::move(pipe));
    ASSERT_LE(slots, Pipe::kHardSlots);
  }
  EXPECT_TRUE(shrunk);
  pipes.clear();
  EXPECT_EQ(Make()->capacity_bytes(), 65536u);
}

TEST(PipeBuffer, ReadersAndWritersRace) {
  auto pipe = Make();
  constexpr size_t kTotal = 4 << 20;
  std::atomic<uint64_t> in{0}, out{0};
  auto writer = [&](size_t size) {
    std::string text(size, '\1');
    for (size_t done = 0; done < kTotal;) {
      auto n = Write(*pipe, text);
      if (!n.ok()) {
        std::this_thread::yield();
        continue;
      }
      done += *n;
      in += *n;
    }
  };
  std::thread w1(writer, 5000), w2(writer, 100);
  std::atomic<bool> done{false};
  std::thread reader([&] {
    for (;;) {
      bool last = done.load();
      std::string got = Read(*pipe, 70'000);
      if (got == "error EAGAIN") {
        if (last) return;
        std::this_thread::yield();
        continue;
      }
      out += got.size();
    }
  });
  w1.join();
  w2.join();
  done = true;
  reader.join();
  EXPECT_EQ(in.load(), out.load());
}

}  // namespace
}  // namespace sentry

// Lifetimes and races of epoll that a guest program cannot provoke on purpose. What it reports is tested by the
// conformance suite.
#include "sentry/fs/anon/epoll.h"

#include <gtest/gtest.h>
#include <sys/epoll.h>

#include <atomic>
#include <thread>

#include "sentry/fs/anon/eventfd.h"

namespace sentry {
namespace {

std::vector<abi::EpollEvent> Collect(EpollFile& epoll, size_t max = 64, size_t deliver = SIZE_MAX) {
  std::vector<abi::EpollEvent> events;
  auto n = epoll.Collect(max, [&](std::span<const abi::EpollEvent> ready) {
    size_t taken = std::min(deliver, ready.size());
    events.assign(ready.begin(), ready.begin() + static_cast<ptrdiff_t>(taken));
    return taken;
  });
  if (!n.ok()) events.clear();
  return events;
}

RefPtr<FileDescription> NewEvent(uint32_t count) { return base::MakeRef<EventFd>(count, false, 0); }

TEST(EpollSet, AFileThatEndsLeavesEverySet) {
  auto a = base::MakeRef<EpollFile>(), b = base::MakeRef<EpollFile>();
  auto file = NewEvent(1);
  ASSERT_TRUE(a->Add(3, file, {EPOLLIN, 1}).ok());
  ASSERT_TRUE(b->Add(3, file, {EPOLLIN, 2}).ok());
  EXPECT_EQ(Collect(*a).size(), 1u);
  file.reset();
  EXPECT_TRUE(Collect(*a).empty());
  EXPECT_TRUE(Collect(*b).empty());
}

TEST(EpollSet, ASetThatEndsLeavesItsFiles) {
  auto file = NewEvent(0);
  {
    auto epoll = base::MakeRef<EpollFile>();
    ASSERT_TRUE(epoll->Add(3, file, {EPOLLIN, 1}).ok());
  }
  static_cast<EventFd&>(*file).Signal(1);  // nobody listens, nothing breaks
  EXPECT_TRUE(file->wait_queue()->empty());
}

TEST(EpollSet, WhatCannotBeDeliveredStaysReady) {
  auto epoll = base::MakeRef<EpollFile>();
  std::vector<RefPtr<FileDescription>> files;
  for (int i = 0; i < 4; ++i) {
    files.push_back(NewEvent(1));
    uint32_t mode = i == 1 ? uint32_t{EPOLLET} : i == 2 ? uint32_t{EPOLLONESHOT} : 0;
    ASSERT_TRUE(epoll->Add(i, files.back(), {EPOLLIN | mode, static_cast<uint64_t>(i)}).ok());
  }
  EXPECT_EQ(Collect(*epoll, 64, 1).size(), 1u);
  EXPECT_EQ(Collect(*epoll).size(), 4u) << "the edge and the one shot were not used up";
  EXPECT_EQ(Collect(*epoll).size(), 2u) << "now they are";
}

TEST(EpollSet, LoopsAndDeepNestsAreRefused) {
  std::vector<RefPtr<EpollFile>> chain;
  for (int i = 0; i < 6; ++i) chain.push_back(base::MakeRef<EpollFile>());
  EXPECT_TRUE(chain[0]->Add(1, chain[0], {EPOLLIN, 0}).failed_with(EINVAL));
  for (int i = 0; i + 1 < 5; ++i) ASSERT_TRUE(chain[i]->Add(1, chain[i + 1], {EPOLLIN, 0}).ok()) << i;
  EXPECT_TRUE(chain[4]->Add(1, chain[5], {EPOLLIN, 0}).failed_with(ELOOP));
  EXPECT_TRUE(chain[3]->Add(2, chain[0], {EPOLLIN, 0}).failed_with(ELOOP));
  // An event at the bottom shows at the top.
  auto file = NewEvent(0);
  ASSERT_TRUE(chain[4]->Add(1, file, {EPOLLIN, 0}).ok());
  EXPECT_EQ(chain[0]->Readiness(), 0u);
  static_cast<EventFd&>(*file).Signal(1);
  EXPECT_NE(chain[0]->Readiness(), 0u);
  EXPECT_EQ(Collect(*chain[0]).size(), 1u);
}

TEST(EpollSet, FilesAndSetsEndWhileEventsCome) {
  for (int round = 0; round < 200; ++round) {
    auto epoll = base::MakeRef<EpollFile>();
    auto file = NewEvent(0);
    ASSERT_TRUE(epoll->Add(1, file, {EPOLLIN | EPOLLET, 7}).ok());
    std::atomic<int> go{0};
    auto start = [&go] {
      go.fetch_add(1);
      while (go.load() < 3) std::this_thread::yield();
    };
    std::thread signaller([&, f = file]() mutable {
      start();
      for (int i = 0; i < 20; ++i) static_cast<EventFd&>(*f).Signal(1);
      f.reset();
    });
    std::thread collector([&, e = epoll]() mutable {
      start();
      for (int i = 0; i < 20; ++i) Collect(*e);
      e.reset();
    });
    start();
    if (round % 2 == 0) {
      file.reset();
      epoll.reset();
    } else {
      epoll.reset();
      file.reset();
    }
    signaller.join();
    collector.join();
  }
}

TEST(EpollSet, AddAndDeleteRaceWithEvents) {
  auto epoll = base::MakeRef<EpollFile>();
  auto file = NewEvent(0);
  std::atomic<bool> stop{false};
  std::thread signaller([&] {
    while (!stop) static_cast<EventFd&>(*file).Signal(1);
  });
  for (int i = 0; i < 2000; ++i) {
    ASSERT_TRUE(epoll->Add(1, file, {EPOLLIN, 7}).ok());
    Collect(*epoll);
    ASSERT_TRUE(epoll->Modify(1, *file, {EPOLLIN | EPOLLONESHOT, 8}).ok());
    ASSERT_TRUE(epoll->Delete(1, *file).ok());
    EXPECT_TRUE(Collect(*epoll).empty());
  }
  stop = true;
  signaller.join();
}

}  // namespace
}  // namespace sentry

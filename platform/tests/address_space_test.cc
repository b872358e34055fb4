// AddressSpace: batches of changes, isolation, release, death.
#include <signal.h>
#include <sys/syscall.h>

#include <atomic>
#include <cstring>
#include <random>
#include <thread>

#include "base/syscall_unsafe.h"
#include "platform/tests/guest.h"

namespace platform {
namespace {

class AddressSpaceTest : public PlatformTest {
 protected:
  // What a guest finds when it loads from the address: a value or the kind of fault.
  std::string Load(AddressSpace& as, uint64_t address) { return Try(as, BLOB_OF(load), address); }
  std::string Store(AddressSpace& as, uint64_t address) { return Try(as, BLOB_OF(store), address); }

 private:
  std::string Try(AddressSpace& as, const std::string& code, uint64_t address) {
    MapOp op = MapOf(*file_, kCodeAddress, FileOf(code), kR | kX);
    EXPECT_TRUE(as.Apply({&op, 1}).ok());
    auto context = ContextAt(kCodeAddress);
    context->registers().rdi = address;
    Exit exit = RunGuest(*context, as);
    if (exit.reason == ExitReason::kFault) return exit.access == AccessType::kWrite ? "write fault" : "read fault";
    if (exit.reason != ExitReason::kSystemCall) return "exit " + std::to_string(static_cast<int>(exit.reason));
    return std::to_string(context->registers().orig_rax);
  }
};
INSTANTIATE_TEST_SUITE_P(All, AddressSpaceTest, ::testing::ValuesIn(Factories()),
                         [](const auto& info) { return info.param.name; });

constexpr uint64_t kA = 0x20000000;

TEST_P(AddressSpaceTest, AnEmptyBatchSucceeds) {
  InFiber([&] { EXPECT_TRUE(NewSpace()->Apply({}).ok()); });
}

TEST_P(AddressSpaceTest, TheGuestsRangeIsNearlyAllThatTheProcessorHas) {
  base::Range range = platform_->GuestRange();
  EXPECT_LE(range.start, 64u << 10);
  EXPECT_GE(range.end, (uint64_t{1} << 47) - (256 << 20));
  InFiber([&] {
    auto as = NewSpace();
    FileRange page = FileOf("");
    MapOp ops[] = {MapOf(*file_, range.start, page, kR | kW), MapOf(*file_, range.end - kPageSize, page, kR | kW)};
    EXPECT_TRUE(as->Apply(ops).ok());
  });
}

TEST_P(AddressSpaceTest, ChangesOutsideOfTheRangeOrNotOfPagesAreRefused) {
  InFiber([&] {
    auto as = NewSpace();
    FileRange page = FileOf("");
    const base::Range range = platform_->GuestRange();
    MapOp good = MapOf(*file_, kA, page, kR);
    std::vector<MapOp> bad(8, good);
    bad[0].start += 1;
    bad[1].length += 1;
    bad[2].offset += 1;
    bad[3].length = 0;
    bad[4].start = range.end;
    bad[5].start = range.end - kPageSize, bad[5].length = 2 * kPageSize;
    bad[6].start = range.start - kPageSize;
    bad[7].start = kA, bad[7].length = ~uint64_t{0} & ~(kPageSize - 1);
    for (const MapOp& op : bad) EXPECT_TRUE(as->Apply({&op, 1}).failed_with(EINVAL));
  });
}

TEST_P(AddressSpaceTest, MappingsAppearChangeAndGo) {
  REQUIRE_CODE();
  InFiber([&] {
    auto as = NewSpace();
    FileRange one = FileOf(std::string("\x01\0\0\0\0\0\0\0", 8)), two = FileOf(std::string("\x02\0\0\0\0\0\0\0", 8));
    EXPECT_EQ(Load(*as, kA), "read fault");
    MapOp op = MapOf(*file_, kA, one, kR | kW);
    ASSERT_TRUE(as->Apply({&op, 1}).ok());
    EXPECT_EQ(Load(*as, kA), "1");
    op = MapOf(*file_, kA, two, kR | kW);  // replaces
    ASSERT_TRUE(as->Apply({&op, 1}).ok());
    EXPECT_EQ(Load(*as, kA), "2");
    op = ProtectOf(kA, kPageSize, kR);
    ASSERT_TRUE(as->Apply({&op, 1}).ok());
    EXPECT_EQ(Store(*as, kA), "write fault");
    EXPECT_EQ(Load(*as, kA), "2");
    op = ProtectOf(kA, kPageSize, 0);
    ASSERT_TRUE(as->Apply({&op, 1}).ok());
    EXPECT_EQ(Load(*as, kA), "read fault");
    op = ProtectOf(kA, kPageSize, kR | kW);
    ASSERT_TRUE(as->Apply({&op, 1}).ok());
    EXPECT_EQ(Store(*as, kA), "0");
    EXPECT_EQ(ReadWord(two.start), 42u);
    op = UnmapOf(kA, kPageSize);
    ASSERT_TRUE(as->Apply({&op, 1}).ok());
    EXPECT_EQ(Load(*as, kA), "read fault");
    as->Release();
  });
}

TEST_P(AddressSpaceTest, ABatchIsMadeInOrderHoweverLong) {
  REQUIRE_CODE();
  InFiber([&] {
    auto as = NewSpace();
    std::vector<MapOp> ops;
    std::vector<FileRange> pages;
    for (uint64_t i = 0; i < 200; ++i) {
      pages.push_back(FileOf(""));
      WriteWord(pages.back().start, i + 1);
      ops.push_back(MapOf(*file_, kA + i * kPageSize, pages.back(), kR | kW));
    }
    ops.push_back(MapOf(*file_, kA, pages[150], kR));  // over the first
    ops.push_back(UnmapOf(kA + kPageSize, kPageSize));
    ASSERT_TRUE(as->Apply(ops).ok());
    EXPECT_EQ(Load(*as, kA), "151");
    EXPECT_EQ(Load(*as, kA + kPageSize), "read fault");
    EXPECT_EQ(Load(*as, kA + 2 * kPageSize), "3");
    EXPECT_EQ(Load(*as, kA + 199 * kPageSize), "200");
    as->Release();
  });
}

TEST_P(AddressSpaceTest, TheFirstFailureEndsTheBatch) {
  InFiber([&] {
    auto as = NewSpace();
    FileRange one = FileOf(std::string("\x01\0\0\0\0\0\0\0", 8));
    MapOp good = MapOf(*file_, kA, one, kR), bad = good, later = good;
    bad.start = kA + kPageSize;
    bad.fd = 99999;
    later.start = kA + 2 * kPageSize;
    MapOp ops[] = {good, bad, later};
    EXPECT_TRUE(as->Apply(ops).failed_with(EBADF));
    if (GetParam().runs_code) {
      EXPECT_EQ(Load(*as, kA), "1");
      EXPECT_EQ(Load(*as, kA + 2 * kPageSize), "read fault");
    }
    EXPECT_TRUE(as->Apply({&good, 1}).ok());
    as->Release();
  });
}

TEST_P(AddressSpaceTest, ReservationsOf16TiBAreCheap) {
  REQUIRE_CODE();
  InFiber([&] {
    auto as = NewSpace();
    auto range = file_->Allocate(uint64_t{16} << 40);
    ASSERT_TRUE(range.ok());
    MapOp op = MapOf(*file_, uint64_t{1} << 44, *range, kR | kW);
    ASSERT_TRUE(as->Apply({&op, 1}).ok());
    EXPECT_EQ(Store(*as, (uint64_t{2} << 44) - kPageSize), "0");
    EXPECT_EQ(ReadWord(range->end - kPageSize), 42u);
    as->Release();
  });
}

TEST_P(AddressSpaceTest, TwoDoNotSeeEachOther) {
  REQUIRE_CODE();
  InFiber([&] {
    auto a = NewSpace(), b = NewSpace();
    MapOp op = MapOf(*file_, kA, FileOf(std::string("\x05\0\0\0\0\0\0\0", 8)), kR);
    ASSERT_TRUE(a->Apply({&op, 1}).ok());
    EXPECT_EQ(Load(*a, kA), "5");
    EXPECT_EQ(Load(*b, kA), "read fault");
    a->Release();
    b->Release();
  });
}

TEST_P(AddressSpaceTest, AReusedOneIsEmptyAndSoAreItsRegisters) {
  REQUIRE_CODE();
  InFiber([&] {
    for (int i = 0; i < 5; ++i) {
      auto as = SpaceWith(BLOB_OF(vector128));
      EXPECT_EQ(Load(*as, kA), "read fault");
      MapOp ops[] = {MapOf(*file_, kA, FileOf(std::string("secret##")), kR),
                     MapOf(*file_, kCodeAddress, FileOf(BLOB_OF(vector128)), kR | kX)};
      ASSERT_TRUE(as->Apply(ops).ok());
      auto context = ContextAt(kCodeAddress);
      const auto fresh = context->XState();
      std::vector<std::byte> initial(XStateSize());
      InitXState(initial.data());
      EXPECT_EQ(memcmp(fresh.data() + 160, initial.data() + 160, 256), 0);  // xmm
      context->registers().rdi = kDataAddress;
      context->registers().rsi = kDataAddress + 512;
      WriteWord(data_.start, 0x7365637265742121);
      // First the second half: what a new context finds in its vector registers.
      context->registers().rip = kCodeAddress + BLOB_OF(vector128).find("\x0f\x05") + 2;
      ASSERT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
      EXPECT_EQ(ReadWord(data_.start + 512), 0u);
      EXPECT_EQ(ReadWord(data_.start + 512 + 16), 0u);
      context->registers().rip = kCodeAddress;
      ASSERT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
      context.reset();
      as->Release();
    }
  });
}

TEST_P(AddressSpaceTest, ManyContextsShareOne) {
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(syscall_loop));
    constexpr int kContexts = 200;
    std::vector<base::RefPtr<base::Fiber>> fibers;
    std::atomic<int> calls{0};
    for (int i = 0; i < kContexts; ++i) {
      fibers.push_back(base::Fiber::Spawn(*scheduler_, {}, [&, i] {
        auto context = SystemCallContext();
        for (uint64_t n = 0; n < 10; ++n) {
          context->registers().rax = i * 100 + n;
          EXPECT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
          EXPECT_EQ(context->registers().orig_rax, i * 100 + n);
          ++calls;
        }
      }));
    }
    for (auto& f : fibers) f->Join();
    EXPECT_EQ(calls, kContexts * 10);
    as->Release();
  });
}

TEST_P(AddressSpaceTest, ContextsMayBePreparedByAnotherFiber) {
  StartScheduler(2);
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(syscall_loop));
    for (int i = 0; i < 4; ++i) {
      auto context = SystemCallContext();
      ASSERT_TRUE(context->Prepare(*as).ok());
      if (i == 3) break;  // never started
      base::Fiber::Options options;
      options.executor = scheduler_->executors()[i % 2].get();
      base::Fiber::Spawn(*scheduler_, options, [&] {
        EXPECT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
      })->Join();
    }
    as->Release();
    auto late = SystemCallContext();
    if (GetParam().runs_code) {
      EXPECT_TRUE(late->Prepare(*as).failed_with(ESRCH));
    }
    EXPECT_EQ(RunGuest(*late, *as).reason, ExitReason::kDead);
  });
}

TEST_P(AddressSpaceTest, ContextsOfOneShareItsMemory) {
  REQUIRE_CODE();
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(add_loop));
    std::vector<base::RefPtr<base::Fiber>> fibers;
    for (int i = 0; i < 4; ++i) {
      fibers.push_back(base::Fiber::Spawn(*scheduler_, {}, [&] {
        auto context = ContextAt(kCodeAddress);
        context->registers().rdi = kDataAddress;
        context->registers().rbx = 1'000'000;
        EXPECT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
      }));
    }
    for (auto& f : fibers) f->Join();
    EXPECT_EQ(ReadWord(data_.start), 4'000'000u);
    as->Release();
  });
}

TEST_P(AddressSpaceTest, GuestsRunOnSeveralExecutors) {
  StartScheduler(2);
  std::vector<base::RefPtr<base::Fiber>> fibers;
  std::atomic<int> calls{0};
  for (int i = 0; i < 8; ++i) {
    base::Fiber::Options options;
    options.executor = scheduler_->executors()[i % 2].get();
    fibers.push_back(base::Fiber::Spawn(*scheduler_, options, [&] {
      Guest g;
      for (int n = 0; n < 200; ++n) {
        if (n % 50 == 0) {
          if (g.as) {
            g.context.reset();
            g.as->Release();
          }
          g = {NewSpace(), SystemCallContext()};
          MapOp op = MapOf(*file_, kCodeAddress, FileOf(BLOB_OF(syscall_loop)), kR | kX);
          EXPECT_TRUE(g.as->Apply({&op, 1}).ok());
        }
        g.context->registers().rax = n;
        EXPECT_EQ(g.Run().reason, ExitReason::kSystemCall);
        ++calls;
      }
    }));
  }
  for (auto& f : fibers) f->Join();
  fibers.clear();
  EXPECT_EQ(calls, 8 * 200);
}

TEST_P(AddressSpaceTest, AnyFiberMayChangeItWhileItsGuestRuns) {
  REQUIRE_CODE();
  StartScheduler(2);
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(compute_and_call));
    std::atomic<bool> stop{false};
    base::Fiber::Options elsewhere;
    elsewhere.executor = scheduler_->executors()[1].get();
    auto changer = base::Fiber::Spawn(*scheduler_, elsewhere, [&] {
      FileRange page = FileOf("");
      while (!stop) {
        MapOp ops[] = {MapOf(*file_, kA, page, kR), UnmapOf(kA, kPageSize)};
        EXPECT_TRUE(as->Apply(ops).ok());
      }
    });
    auto context = ContextAt(kCodeAddress);
    context->registers().rbx = 1000;
    for (int i = 0; i < 2000; ++i) ASSERT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
    stop = true;
    changer->Join();
    context.reset();
    as->Release();
  });
}

TEST_P(AddressSpaceTest, AContextMovesFromOneToAnother) {
  StartScheduler(2);
  InFiber([&] {
    Guest g = SystemCallGuest();
    g.context->registers().rbx = 77;
    ASSERT_EQ(g.Run().reason, ExitReason::kSystemCall);
    for (int i = 0; i < 10; ++i) {
      base::Fiber::MoveTo(*scheduler_->executors()[i % 2]);
      auto next = NewSpace();
      MapOp op = MapOf(*file_, kCodeAddress, FileOf(BLOB_OF(syscall_loop)), kR | kX);
      ASSERT_TRUE(next->Apply({&op, 1}).ok());
      if (i % 2) g.as->Release();  // before or after the move
      ASSERT_EQ(RunGuest(*g.context, *next).reason, ExitReason::kSystemCall);
      g.as->Release();
      g.as = next;
      EXPECT_EQ(g.context->registers().rbx, 77u);
    }
    g.as->Release();
  });
}

TEST_P(AddressSpaceTest, VectorStateMovesWithTheContext) {
  REQUIRE_CODE();
  InFiber([&] {
    for (bool release_first : {false, true}) {
      auto as = SpaceWith(BLOB_OF(vector128));
      WriteWord(data_.start, 1234567);
      auto context = ContextAt(kCodeAddress);
      context->registers().rdi = kDataAddress;
      context->registers().rsi = kDataAddress + 512;
      ASSERT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
      if (release_first) as->Release();
      auto next = SpaceWith(BLOB_OF(vector128));
      ASSERT_EQ(RunGuest(*context, *next).reason, ExitReason::kSystemCall);
      EXPECT_EQ(ReadWord(data_.start + 512), 1234567u);
      if (!release_first) as->Release();
      next->Release();
    }
  });
}

TEST_P(AddressSpaceTest, VectorStateCanBeReadAndReplaced) {
  REQUIRE_CODE();
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(vector128));
    WriteWord(data_.start, 111);
    auto context = ContextAt(kCodeAddress);
    context->registers().rdi = kDataAddress;
    context->registers().rsi = kDataAddress + 512;
    ASSERT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
    auto seen = context->XState();
    ASSERT_EQ(seen.size(), XStateSize());
    uint64_t xmm0;
    memcpy(&xmm0, seen.data() + 160, 8);
    EXPECT_EQ(xmm0, 111u);
    std::vector<std::byte> area(seen.begin(), seen.end());
    xmm0 = 222;
    memcpy(area.data() + 160, &xmm0, 8);
    ASSERT_TRUE(SanitizeXState(area.data(), area.size()));
    context->SetXState(area);
    ASSERT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
    EXPECT_EQ(ReadWord(data_.start + 512), 222u);
    EXPECT_EQ(ReadWord(data_.start + 512 + 16), 111u);
    as->Release();
  });
}

TEST_P(AddressSpaceTest, AReleasedOneRunsNothingAndRefusesChanges) {
  InFiber([&] {
    Guest g = SystemCallGuest();
    ASSERT_EQ(g.Run().reason, ExitReason::kSystemCall);
    g.as->Release();
    g.as->Release();
    EXPECT_EQ(g.Run().reason, ExitReason::kDead);
    EXPECT_EQ(g.Run().reason, ExitReason::kDead);
    MapOp op = UnmapOf(kA, kPageSize);
    EXPECT_TRUE(g.as->Apply({&op, 1}).failed_with(ESRCH));
  });
}

TEST_P(AddressSpaceTest, ReleaseEndsAGuestThatRuns) {
  InFiber([&] {
    Guest g = SpinGuest();
    auto killer = base::Fiber::Spawn(*scheduler_, {}, [&] { g.as->Release(); });
    EXPECT_EQ(g.Run().reason, ExitReason::kDead);
    killer->Join();
  });
}

TEST_P(AddressSpaceTest, DeathOnTheHostIsReportedEverywhereAndNeverAHang) {
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(spin));
    const std::vector<int> children = ChildProcesses();
    auto idle = SystemCallContext();
    std::vector<base::RefPtr<base::Fiber>> fibers;
    std::atomic<int> dead{0};
    for (int i = 0; i < 3; ++i) {
      fibers.push_back(base::Fiber::Spawn(*scheduler_, {}, [&] {
        auto context = SpinContext();
        EXPECT_EQ(RunGuest(*context, *as).reason, ExitReason::kDead);
        EXPECT_EQ(RunGuest(*context, *as).reason, ExitReason::kDead);
        ++dead;
      }));
    }
    std::thread killer([&] {
      while (platform_->RunningContexts() < 3) std::this_thread::yield();
      if (GetParam().kill) {
        GetParam().kill(*as);
      } else {
        (void)base::Host(SYS_kill, children.back(), SIGKILL);  // the youngest: the stub of `as`
      }
    });
    for (auto& f : fibers) f->Join();
    killer.join();
    EXPECT_EQ(dead, 3);
    EXPECT_EQ(RunGuest(*idle, *as).reason, ExitReason::kDead);
    MapOp op = UnmapOf(kA, kPageSize);
    EXPECT_TRUE(as->Apply({&op, 1}).failed_with(ESRCH));
    as->Release();
    // Others are not affected.
    Guest g = SystemCallGuest();
    EXPECT_EQ(g.Run().reason, ExitReason::kSystemCall);
    g.as->Release();
  });
}

TEST_P(AddressSpaceTest, DeathWhileNothingRunsIsFoundAtTheNextUse) {
  InFiber([&] {
    Guest g = SystemCallGuest();
    ASSERT_EQ(g.Run().reason, ExitReason::kSystemCall);
    if (GetParam().kill) {
      GetParam().kill(*g.as);
    } else {
      (void)base::Host(SYS_kill, ChildProcesses().back(), SIGKILL);
    }
    EXPECT_EQ(g.Run().reason, ExitReason::kDead);
    g.as->Release();
  });
}

TEST_P(AddressSpaceTest, EveryOrderOfEndingIsFine) {
  InFiber([&] {
    {  // a context that never ran, before its platform's scheduler
      auto context = NewContext();
    }
    {  // an address space that is only dropped
      Guest g = SystemCallGuest();
      ASSERT_EQ(g.Run().reason, ExitReason::kSystemCall);
      g.as.reset();
    }
    {  // the context first
      Guest g = SystemCallGuest();
      ASSERT_EQ(g.Run().reason, ExitReason::kSystemCall);
      g.context.reset();
      g.as.reset();
    }
    {  // released, then the context
      Guest g = SystemCallGuest();
      ASSERT_EQ(g.Run().reason, ExitReason::kSystemCall);
      g.as->Release();
      g.as.reset();
      g.context.reset();
    }
  });
  // On no executor at all.
  Guest outside;
  InFiber([&] {
    outside = SystemCallGuest();
    EXPECT_EQ(outside.Run().reason, ExitReason::kSystemCall);
  });
  outside.context.reset();
  outside.as.reset();
}

// Address spaces, contexts, changes, interrupts, moves and deaths in random order on several executors.
TEST_P(AddressSpaceTest, RandomLivesEndWell) {
  StartScheduler(3);
  constexpr int kFibers = 8, kSteps = 150;
  std::vector<base::RefPtr<base::Fiber>> fibers;
  std::atomic<int> done{0};
  const FileRange loop = FileOf(BLOB_OF(syscall_loop)), page = FileOf("");
  for (int f = 0; f < kFibers; ++f) {
    base::Fiber::Options options;
    options.executor = scheduler_->executors()[f % 3].get();
    fibers.push_back(base::Fiber::Spawn(*scheduler_, options, [&, f] {
      std::mt19937 random(f);
      struct Life {
        base::RefPtr<AddressSpace> as;
        std::unique_ptr<Context> context;
      };
      std::vector<Life> lives(3);
      for (int step = 0; step < kSteps; ++step) {
        Life& life = lives[random() % lives.size()];
        if (!life.as) {
          auto as = platform_->NewAddressSpace();
          ASSERT_TRUE(as.ok());
          life.as = *as;
          MapOp op = MapOf(*file_, kCodeAddress, loop, kR | kX);
          ASSERT_TRUE(life.as->Apply({&op, 1}).ok());
          if (!life.context) life.context = SystemCallContext();
        }
        switch (random() % 8) {
          case 0: {
            MapOp ops[] = {MapOf(*file_, kA, page, kR | kW), UnmapOf(kA, kPageSize)};
            EXPECT_TRUE(life.as->Apply(ops).ok());
            break;
          }
          case 1:
            life.context->Interrupt();
            EXPECT_EQ(RunGuest(*life.context, *life.as).reason, ExitReason::kInterrupted);
            break;
          case 2:  // the context lives on in the next one
            if (random() % 2) life.as->Release();
            life.as.reset();
            break;
          case 3:
            life.as->Release();
            EXPECT_EQ(RunGuest(*life.context, *life.as).reason, ExitReason::kDead);
            life = {};
            break;
          case 4:
            base::Fiber::MoveTo(*scheduler_->executors()[random() % 3]);
            break;
          case 5:
            if (random() % 2) (void)life.context->XState();
            life.context.reset();
            life.context = SystemCallContext();
            break;
          default:
            for (int i = 0; i < 5; ++i) {
              life.context->registers().rax = step * 10 + i;
              EXPECT_EQ(RunGuest(*life.context, *life.as).reason, ExitReason::kSystemCall);
              EXPECT_EQ(life.context->registers().orig_rax, static_cast<uint64_t>(step * 10 + i));
            }
        }
      }
      ++done;
    }));
  }
  for (auto& fiber : fibers) fiber->Join();
  EXPECT_EQ(done, kFibers);
}

TEST_P(AddressSpaceTest, NothingIsLeftOfManyThatEnded) {
  InFiber([&] {
    for (int round = 0; round < 3; ++round) {
      std::vector<Guest> guests;
      for (int i = 0; i < 20; ++i) {
        guests.push_back(SystemCallGuest());
        ASSERT_EQ(guests.back().Run().reason, ExitReason::kSystemCall);
      }
      for (Guest& g : guests) {
        g.context.reset();
        g.as->Release();
      }
    }
  });
  scheduler_.reset();
  platform_.reset();
  EXPECT_EQ(ChildProcesses(), std::vector<int>{});
}

}  // namespace
}  // namespace platform

// The KVM platform: hostile guests (docs/security.md), stale translations, files that become shorter, fairness.
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "base/reactor.h"
#include "base/time.h"
#include "base/unique_fd.h"
#include "platform/kvm/ring0_layout.h"
#include "platform/tests/guest.h"

namespace platform {
namespace {

class KvmTest : public PlatformTest {
 protected:
  std::string Code(std::initializer_list<int> bytes) {
    std::string code;
    for (int b : bytes) code.push_back(static_cast<char>(b));
    return code + std::string("\x0f\x05", 2);  // syscall
  }
};
INSTANTIATE_TEST_SUITE_P(Only, KvmTest, ::testing::ValuesIn(KvmFactories()),
                         [](const auto& info) { return info.param.name; });

// What ring 3 may not do is a signal, as on Linux, and leaves the registers alone.
TEST_P(KvmTest, PrivilegedInstructionsAreTheGuestsOwnSignals) {
  struct Case {
    const char* name;
    std::initializer_list<int> code;
    int signo;
  };
  const Case cases[] = {
      {"out to the port of ring 0", {0xe6, RING0_PORT}, SIGSEGV},
      {"out to the port of the gate", {0xe6, RING0_GATE_PORT}, SIGSEGV},
      {"out to the port of the gate in dx", {0x66, 0xba, RING0_GATE_PORT, 0, 0xee}, SIGSEGV},
      {"out dx", {0xee}, SIGSEGV},
      {"in dx", {0xec}, SIGSEGV},
      {"in imm", {0xe4, 0x80}, SIGSEGV},
      {"rep outsb", {0xf3, 0x6e}, SIGSEGV},
      {"rep insb", {0xf3, 0x6c}, SIGSEGV},
      {"cli", {0xfa}, SIGSEGV},
      {"sti", {0xfb}, SIGSEGV},
      {"hlt", {0xf4}, SIGSEGV},
      {"rdmsr", {0x0f, 0x32}, SIGSEGV},
      {"wrmsr", {0x0f, 0x30}, SIGSEGV},
      {"rdpmc", {0x0f, 0x33}, SIGSEGV},
      {"swapgs", {0x0f, 0x01, 0xf8}, SIGSEGV},
      {"mov from cr3", {0x0f, 0x20, 0xd8}, SIGSEGV},
      {"mov to cr3", {0x0f, 0x22, 0xd8}, SIGSEGV},
      {"mov to cr0", {0x0f, 0x22, 0xc0}, SIGSEGV},
      {"mov to cr4", {0x0f, 0x22, 0xe0}, SIGSEGV},
      {"mov to dr7", {0x0f, 0x23, 0xf8}, SIGSEGV},
      {"invlpg", {0x0f, 0x01, 0x3f}, SIGSEGV},
      {"lgdt", {0x0f, 0x01, 0x17}, SIGSEGV},
      {"lidt", {0x0f, 0x01, 0x1f}, SIGSEGV},
      {"ltr", {0x0f, 0x00, 0xd8}, SIGSEGV},
      {"lldt", {0x0f, 0x00, 0xd0}, SIGSEGV},
      {"sysret", {0x48, 0x0f, 0x07}, SIGSEGV},
      {"wbinvd", {0x0f, 0x09}, SIGSEGV},
      {"xsetbv", {0x0f, 0x01, 0xd1}, SIGSEGV},
      {"clts", {0x0f, 0x06}, SIGSEGV},
      {"int 0x80", {0xcd, 0x80}, SIGSEGV},
      {"int of the kick", {0xcd, VECTOR_KICK}, SIGSEGV},
      {"int of the page fault", {0xcd, 14}, SIGSEGV},
      {"int of the double fault", {0xcd, 8}, SIGSEGV},
      {"int of the nmi", {0xcd, 2}, SIGSEGV},
      {"ud2", {0x0f, 0x0b}, SIGILL},
      {"int3", {0xcc}, SIGTRAP},
      {"icebp", {0xf1}, SIGTRAP},
  };
  InFiber([&] {
    Guest witness = SystemCallGuest();
    for (const Case& c : cases) {
      auto as = SpaceWith(Code(c.code));
      auto context = ContextAt(kCodeAddress);
      Registers& r = context->registers();
      r.rdx = r.rax = 0x80;
      r.rcx = 1;
      r.rsi = r.rdi = kDataAddress;
      r.rbx = 77;
      Exit exit = RunGuest(*context, *as);
      EXPECT_EQ(exit.reason, ExitReason::kException) << c.name;
      EXPECT_EQ(exit.signo, c.signo) << c.name;
      EXPECT_EQ(r.rbx, 77u) << c.name;
      EXPECT_EQ(r.cs, 0x33u) << c.name;
      if (c.signo != SIGTRAP) {
        EXPECT_EQ(r.rip, kCodeAddress + (c.code.size() == 5 ? 4 : 0)) << c.name;
      }
      // Neither this guest nor another one is the worse for it.
      r.rip = kCodeAddress + c.code.size();
      r.rax = 5;
      EXPECT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall) << c.name;
      EXPECT_EQ(r.orig_rax, 5u) << c.name;
      witness.context->registers().rax = 9;
      EXPECT_EQ(witness.Run().reason, ExitReason::kSystemCall) << c.name;
      EXPECT_EQ(witness.context->registers().orig_rax, 9u) << c.name;
      as->Release();
    }
    witness.as->Release();
  });
}

// The host's KVM refuses those of its own kind by itself; the others are invalid opcodes. The code stays as it is.
TEST_P(KvmTest, HypercallsAreInvalidOrRefused) {
  InFiber([&] {
    for (const auto& code : {Code({0x0f, 0x01, 0xc1}), Code({0x0f, 0x01, 0xd9})}) {
      auto as = NewSpace();
      const FileRange page = FileOf(code);
      MapOp op = MapOf(*file_, kCodeAddress, page, kR | kW | kX);
      ASSERT_TRUE(as->Apply({&op, 1}).ok());
      const uint64_t before = ReadWord(page.start);
      auto context = ContextAt(kCodeAddress);
      Registers& r = context->registers();
      for (uint64_t number = 0; number < 16; ++number) {
        r.rip = kCodeAddress;
        r.rax = number;
        r.rbx = kCodeAddress;
        Exit exit = RunGuest(*context, *as);
        if (exit.reason == ExitReason::kSystemCall) {
          EXPECT_EQ(r.orig_rax, static_cast<uint64_t>(-EPERM));
        } else {
          EXPECT_EQ(exit.reason, ExitReason::kException);
          EXPECT_EQ(exit.signo, SIGILL);
          EXPECT_EQ(exit.address, kCodeAddress);
          EXPECT_EQ(r.rax, number);
        }
      }
      EXPECT_EQ(ReadWord(page.start), before);
      as->Release();
    }
  });
}

TEST_P(KvmTest, TheMemoryOfRing0IsOutOfReach) {
  InFiber([&] {
    for (uint64_t offset : {0, RING0_STATE_OFFSET, RING0_STATE_OFFSET + STATE_GPRS, RING0_IDT_OFFSET, 0x40000}) {
      for (const std::string& code : {BLOB_OF(load), BLOB_OF(store)}) {
        auto as = SpaceWith(code);
        auto context = ContextAt(kCodeAddress);
        context->registers().rdi = RING0_START + offset;
        Exit exit = RunGuest(*context, *as);
        EXPECT_EQ(exit.reason, ExitReason::kFault);
        EXPECT_EQ(exit.address, RING0_START + offset);
        as->Release();
      }
    }
  });
}

// Jumps into ring 0's text are faults; one to the entry of `syscall` may be a system call of the guest's own.
TEST_P(KvmTest, TheTextOfRing0CannotBeExecuted) {
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(jump));
    for (uint64_t offset = 0; offset < 0x1000; ++offset) {
      auto context = ContextAt(kCodeAddress);
      Registers& r = context->registers();
      r.rdi = RING0_START + offset;
      r.rcx = kCodeAddress;
      Exit exit = RunGuest(*context, *as);
      if (exit.reason == ExitReason::kSystemCall) {
        EXPECT_EQ(r.rip, kCodeAddress);
        continue;
      }
      ASSERT_EQ(exit.reason, ExitReason::kFault);
      ASSERT_EQ(exit.address, RING0_START + offset);
      ASSERT_EQ(exit.access, AccessType::kExecute);
    }
    as->Release();
  });
}

TEST_P(KvmTest, VsyscallAndFarAddressesAreFaultsOfExecution) {
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(jump));
    for (uint64_t target : {0xffffffffff600000, 0xffff800000000000, 0xffffffff81000000}) {
      auto context = ContextAt(kCodeAddress);
      context->registers().rdi = target;
      Exit exit = RunGuest(*context, *as);
      EXPECT_EQ(exit.reason, ExitReason::kFault);
      EXPECT_EQ(exit.address, target);
      EXPECT_EQ(exit.access, AccessType::kExecute);
      // The same where the sentry lets it go on (sigreturn).
      context->registers().rip = target;
      exit = RunGuest(*context, *as);
      EXPECT_EQ(exit.reason, ExitReason::kFault);
      EXPECT_EQ(exit.address, target);
    }
    as->Release();
  });
}

// Two guests write, each on a CPU of its own, to a page that the sentry takes away, protects and gives back: after
// Apply no write arrives that is not allowed any more.
TEST_P(KvmTest, NoTranslationOutlivesItsRemoval) {
  StartScheduler(2);
  std::atomic<bool> stop{false};
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(add_loop));
    const FileRange page = FileOf("");
    constexpr uint64_t kPage = 0x20000000;
    std::vector<base::RefPtr<base::Fiber>> writers;
    for (int i = 0; i < 2; ++i) {
      base::Fiber::Options options;
      options.executor = scheduler_->executors()[i].get();
      writers.push_back(base::Fiber::Spawn(*scheduler_, options, [&] {
        auto context = ContextAt(kCodeAddress);
        context->registers().rdi = kPage;
        context->registers().rbx = ~uint64_t{0};
        while (!stop) {
          Exit exit = RunGuest(*context, *as);
          if (exit.reason == ExitReason::kDead && stop) return;
          EXPECT_EQ(exit.reason, ExitReason::kFault);
          base::Fiber::Yield();
        }
      }));
    }
    int moved = 0;
    // Bounded on a busy machine, where each change waits for host threads that are not running.
    const base::MonotonicNs end = base::MonotonicNow() + 4'000'000'000;
    for (int i = 0; i < 300 && base::MonotonicNow() < end; ++i) {
      MapOp map = MapOf(*file_, kPage, page, kR | kW);
      ASSERT_TRUE(as->Apply({&map, 1}).ok());
      const uint64_t before = ReadWord(page.start);
      (void)base::Fiber::ParkUntil(base::MonotonicNow() + 300'000);
      MapOp away = i % 2 ? UnmapOf(kPage, kPageSize) : ProtectOf(kPage, kPageSize, kR);
      ASSERT_TRUE(as->Apply({&away, 1}).ok());
      const uint64_t after = ReadWord(page.start);
      moved += after != before;
      for (int k = 0; k < 5; ++k) {
        ASSERT_EQ(ReadWord(page.start), after) << "round " << i;
        std::this_thread::yield();
      }
    }
    EXPECT_GT(moved, 0);
    stop = true;
    as->Release();
    for (auto& w : writers) w->Join();
  });
}

// The host may translate the neighbours of a page that is touched, in advance: not those that have not been used, for
// they are removed without telling it.
TEST_P(KvmTest, NeighboursOfATouchedPageGoTheShortWay) {
  InFiber([&] {
    constexpr uint64_t kStart = 0x20000000, kPages = 64;
    auto range = file_->Allocate(kPages * kPageSize);
    ASSERT_TRUE(range.ok());
    const std::string bytes(kPages * kPageSize, 'x');
    ASSERT_TRUE(file_->Write(range->start, std::as_bytes(std::span(bytes))).ok());
    auto try_at = [&](AddressSpace& as, uint64_t address) {
      auto context = ContextAt(kCodeAddress);
      context->registers().rdi = address;
      return RunGuest(*context, as).reason;
    };
    for (uint64_t touched : {uint64_t{0}, uint64_t{7}, uint64_t{31}, uint64_t{63}}) {
      for (const std::string& code : {BLOB_OF(load), BLOB_OF(store)}) {
        auto as = SpaceWith(code);
        MapOp map = MapOf(*file_, kStart, *range, kR | kW);
        map.populate = touched % 2;
        ASSERT_TRUE(as->Apply({&map, 1}).ok());
        ASSERT_EQ(try_at(*as, kStart + touched * kPageSize), ExitReason::kSystemCall);
        MapOp unmap = UnmapOf(kStart, kPages * kPageSize);
        ASSERT_TRUE(as->Apply({&unmap, 1}).ok());
        for (uint64_t i = 0; i < kPages; ++i) {
          ASSERT_EQ(try_at(*as, kStart + i * kPageSize), ExitReason::kFault) << i << " after " << touched;
        }
        // The same where only the right to write goes.
        ASSERT_TRUE(as->Apply({&map, 1}).ok());
        ASSERT_EQ(try_at(*as, kStart + touched * kPageSize), ExitReason::kSystemCall);
        MapOp protect = ProtectOf(kStart, kPages * kPageSize, kR);
        ASSERT_TRUE(as->Apply({&protect, 1}).ok());
        const ExitReason want = code == BLOB_OF(load) ? ExitReason::kSystemCall : ExitReason::kFault;
        for (uint64_t i = 0; i < kPages; ++i) {
          ASSERT_EQ(try_at(*as, kStart + i * kPageSize), want) << i << " after " << touched;
        }
        as->Release();
      }
    }
  });
}

// Tables are recycled when their address space has ended: what the host's KVM had made of them must be gone.
TEST_P(KvmTest, RecycledTablesShowNothingOfTheOldSpace) {
  InFiber([&] {
    const FileRange secret = FileOf(std::string("secret##"));
    const FileRange code = FileOf(BLOB_OF(load));
    for (int i = 0; i < 1200; ++i) {
      auto as = NewSpace();
      // Far apart, so that there are many tables.
      const uint64_t address = 0x100000000 + static_cast<uint64_t>(i % 7) * 0x4000000000;
      const bool mapped = i % 3 != 0;
      MapOp ops[] = {MapOf(*file_, kCodeAddress, code, kR | kX), MapOf(*file_, address, secret, kR)};
      ASSERT_TRUE(as->Apply({ops, mapped ? size_t{2} : size_t{1}}).ok());
      auto context = ContextAt(kCodeAddress);
      context->registers().rdi = address;
      Exit exit = RunGuest(*context, *as);
      ASSERT_EQ(exit.reason, mapped ? ExitReason::kSystemCall : ExitReason::kFault) << i;
      as->Release();
    }
  });
}

// Windows that nobody uses are given to other files, and to other parts of the same one.
TEST_P(KvmTest, WindowsShowWhatIsMappedThereNow) {
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(load));
    MapOp op{MapOp::Kind::kMap};
    op.prot = kR;
    op.start = 0x20000000;
    op.length = kPageSize;
    auto load = [&] {
      EXPECT_TRUE(as->Apply({&op, 1}).ok());
      auto context = ContextAt(kCodeAddress);
      context->registers().rdi = op.start;
      EXPECT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
      return context->registers().orig_rax;
    };
    base::UniqueFd sparse(memfd_create("sparse", MFD_CLOEXEC));
    ASSERT_EQ(ftruncate(sparse.get(), int64_t{1} << 40), 0);
    for (uint64_t i = 0; i < 1500; ++i) {
      const bool other = i % 4 == 0;
      base::UniqueFd file;
      if (other) {
        file.reset(memfd_create("file", MFD_CLOEXEC));
        ASSERT_EQ(ftruncate(file.get(), kPageSize), 0);
      }
      op.fd = other ? file.get() : sparse.get();
      op.offset = other ? 0 : i << 21;
      const uint64_t value = i + 1;
      ASSERT_EQ(pwrite(op.fd, &value, sizeof(value), static_cast<off_t>(op.offset)), 8);
      ASSERT_EQ(load(), value);
    }
    as->Release();
  });
}

TEST_P(KvmTest, AFileThatBecomesShorterIsABusError) {
  InFiber([&] {
    base::UniqueFd fd(memfd_create("file", MFD_CLOEXEC));
    ASSERT_EQ(ftruncate(fd.get(), 4 * kPageSize), 0);
    auto as = SpaceWith(BLOB_OF(load));
    MapOp op{MapOp::Kind::kMap};
    op.prot = kR | kW;
    op.fd = fd.get();
    op.start = 0x20000000;
    op.length = 8 * kPageSize;
    ASSERT_TRUE(as->Apply({&op, 1}).ok());
    auto load = [&](uint64_t address) {
      auto context = ContextAt(kCodeAddress);
      context->registers().rdi = address;
      return RunGuest(*context, *as);
    };
    EXPECT_EQ(load(op.start + 3 * kPageSize).reason, ExitReason::kSystemCall);
    Exit beyond = load(op.start + 5 * kPageSize + 8);
    EXPECT_EQ(beyond.reason, ExitReason::kException);
    EXPECT_EQ(beyond.signo, SIGBUS);
    EXPECT_EQ(beyond.address, op.start + 5 * kPageSize + 8);
    ASSERT_EQ(ftruncate(fd.get(), kPageSize), 0);
    for (int i = 1; i < 4; ++i) {
      Exit gone = load(op.start + i * kPageSize);
      EXPECT_EQ(gone.reason, ExitReason::kException);
      EXPECT_EQ(gone.signo, SIGBUS);
      EXPECT_EQ(gone.address, op.start + i * kPageSize);
    }
    EXPECT_EQ(load(op.start).reason, ExitReason::kSystemCall);
    ASSERT_EQ(ftruncate(fd.get(), 8 * kPageSize), 0);
    EXPECT_EQ(load(op.start + 5 * kPageSize).reason, ExitReason::kSystemCall);
    as->Release();
  });
}

TEST_P(KvmTest, AFileOpenForReadingIsMapped) {
  InFiber([&] {
    base::UniqueFd fd(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(fd.valid());
    auto as = SpaceWith(BLOB_OF(load));
    MapOp op{MapOp::Kind::kMap};
    op.prot = kR;
    op.fd = fd.get();
    op.start = 0x20000000;
    op.length = kPageSize;
    ASSERT_TRUE(as->Apply({&op, 1}).ok());
    fd.reset();
    auto context = ContextAt(kCodeAddress);
    context->registers().rdi = op.start;
    ASSERT_EQ(RunGuest(*context, *as).reason, ExitReason::kSystemCall);
    EXPECT_EQ(context->registers().orig_rax & 0xffffffff, 0x464c457fu);  // an ELF file
    op.kind = MapOp::Kind::kProtect;
    op.prot = kR | kW;
    EXPECT_TRUE(as->Apply({&op, 1}).failed_with(EACCES));
    as->Release();
  });
}

// One executor, many guests that compute: all of them get on, and a guest that makes calls is served between them.
TEST_P(KvmTest, GuestsThatComputeShareAVirtualCpu) {
  StartScheduler(1);
  InFiber([&] {
    constexpr int kSpinners = 5;
    auto as = SpaceWith(BLOB_OF(add_loop));
    std::vector<base::RefPtr<base::Fiber>> fibers;
    std::vector<std::unique_ptr<Context>> contexts;
    for (uint64_t i = 0; i < kSpinners; ++i) {
      contexts.push_back(ContextAt(kCodeAddress));
      contexts.back()->registers().rdi = kDataAddress + i * 64;
      contexts.back()->registers().rbx = ~uint64_t{0};
    }
    for (auto& context : contexts) {
      fibers.push_back(base::Fiber::Spawn(
          *scheduler_, {}, [&] { EXPECT_EQ(RunGuest(*context, *as).reason, ExitReason::kInterrupted); }));
    }
    const FileRange counters = data_;
    Guest caller = SystemCallGuest();
    for (int i = 0; i < 100; ++i) {
      caller.context->registers().rax = i;
      ASSERT_EQ(caller.Run().reason, ExitReason::kSystemCall);
      ASSERT_EQ(caller.context->registers().orig_rax, static_cast<uint64_t>(i));
    }
    for (uint64_t i = 0; i < kSpinners; ++i) {
      while (ReadWord(counters.start + i * 64) == 0) (void)base::Fiber::ParkUntil(base::MonotonicNow() + 1'000'000);
    }
    for (auto& context : contexts) context->Interrupt();
    for (auto& fiber : fibers) fiber->Join();
    caller.as->Release();
    as->Release();
  });
}

// One executor, in ring 3, that no tick takes out, for nobody else wants to run there: timers, host descriptors, other
// fibers and other threads get it all the same.
TEST_P(KvmTest, NothingInTheSentryWaitsForRing3) {
  StartScheduler(1);
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(spin));
    auto context = SpinContext();
    auto spinner = base::Fiber::Spawn(*scheduler_, {},
                                      [&] { EXPECT_EQ(RunGuest(*context, *as).reason, ExitReason::kInterrupted); });
    base::UniqueFd event(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    base::Fiber* self = base::Fiber::Current();
    std::atomic<int> ready{0};
    base::FdWatch watch(scheduler_->reactor(), event.get(), EPOLLIN, [&](uint32_t) {
      ++ready;
      self->Unpark();
    });
    for (int i = 0; i < 100; ++i) {
      // A timer.
      (void)base::Fiber::ParkUntil(base::MonotonicNow() + 500'000);
      ASSERT_EQ(platform_->RunningContexts(), 1);
      // A host thread that makes a fiber runnable, and one that makes a descriptor ready.
      auto other = base::Fiber::Spawn(*scheduler_, {}, [] { (void)base::Fiber::ParkUntil(base::MonotonicNow() + 1); });
      other->Join();
      std::atomic<bool> posted{false};
      const int seen = ready;
      std::thread thread([&] {
        std::this_thread::sleep_for(std::chrono::microseconds(300));
        const uint64_t one = 1;
        EXPECT_EQ(write(event.get(), &one, sizeof(one)), 8);
        while (ready == seen) std::this_thread::yield();
        scheduler_->executors()[0]->Post([&] {
          posted = true;
          self->Unpark();
        });
      });
      while (!posted) base::Fiber::Park();
      thread.join();
    }
    context->Interrupt();
    spinner->Join();
    as->Release();
  });
}

// The other way round: a fiber that computes for long is in the way of the guest threads of its executor until another
// thread takes that over.
TEST_P(KvmTest, GuestsDoNotWaitForAFiberThatComputes) {
  StartScheduler(1, false, 5'000'000);
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(add_loop));
    const FileRange counter = data_;
    auto context = ContextAt(kCodeAddress);
    context->registers().rdi = kDataAddress;
    context->registers().rbx = ~uint64_t{0};
    auto spinner = base::Fiber::Spawn(*scheduler_, {},
                                      [&] { EXPECT_EQ(RunGuest(*context, *as).reason, ExitReason::kInterrupted); });
    while (ReadWord(counter.start) == 0) (void)base::Fiber::ParkUntil(base::MonotonicNow() + 1'000'000);
    for (int i = 0; i < 3; ++i) {
      const uint64_t before = ReadWord(counter.start);
      const base::MonotonicNs end = base::MonotonicNow() + 20'000'000'000;
      while (ReadWord(counter.start) == before && base::MonotonicNow() < end) {
      }
      EXPECT_NE(ReadWord(counter.start), before);
      base::Fiber::Yield();
    }
    context->Interrupt();
    spinner->Join();
    as->Release();
  });
}

// Also at the moment when a guest gives way to another one of its address space: the virtual CPU must not stay in it.
TEST_P(KvmTest, DeathAtAnyMomentLeavesTheVirtualCpuToOthers) {
  InFiber([&] {
    for (int i = 0; i < 80; ++i) {
      auto as = SpaceWith(BLOB_OF(spin));
      std::vector<base::RefPtr<base::Fiber>> fibers;
      for (int k = 0; k < 3; ++k) {
        fibers.push_back(base::Fiber::Spawn(*scheduler_, {}, [&] {
          auto context = SpinContext();
          EXPECT_EQ(RunGuest(*context, *as).reason, ExitReason::kDead);
        }));
      }
      std::thread killer([&] {
        while (platform_->RunningContexts() < 3) std::this_thread::yield();
        std::this_thread::sleep_for(std::chrono::microseconds(3500 + i * 10));
        as->Release();
      });
      for (auto& f : fibers) f->Join();
      killer.join();
      Guest g = SystemCallGuest();
      g.context->registers().rax = 600 + i;
      ASSERT_EQ(g.Run().reason, ExitReason::kSystemCall);
      ASSERT_EQ(g.context->registers().orig_rax, 600u + i);
      g.as->Release();
    }
  });
}

// Guests that compute and were started on one executor spread over those that have nothing to do.
TEST_P(KvmTest, GuestsThatComputeSpread) {
  StartScheduler(2);
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(spin));
    std::vector<std::unique_ptr<Context>> contexts;
    std::vector<base::RefPtr<base::Fiber>> fibers;
    base::Fiber::Options here;
    here.executor = base::Executor::Current();
    for (int i = 0; i < 2; ++i) contexts.push_back(SpinContext());
    for (auto& context : contexts) {
      fibers.push_back(base::Fiber::Spawn(*scheduler_, here, [&] {
        EXPECT_EQ(RunGuest(*context, *as).reason, ExitReason::kInterrupted);
        EXPECT_EQ(RunGuest(*context, *as).reason, ExitReason::kInterrupted);
      }));
    }
    for (int round = 0; round < 2; ++round) {
      (void)base::Fiber::ParkUntil(base::MonotonicNow() + 20'000'000);
      for (auto& context : contexts) context->Interrupt();
    }
    for (auto& fiber : fibers) fiber->Join();
    as->Release();
  });
}

}  // namespace
}  // namespace platform

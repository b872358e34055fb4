// What a platform costs without a kernel above it: the way of a system call to the sentry and back, and the life of an
// address space. One executor; `taskset -c N` binds it and the guest to one CPU.
#include <benchmark/benchmark.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/executor.h"
#include "base/fiber.h"
#include "base/safe_copy_unsafe.h"
#include "platform/memory_file.h"
#include "platform/platform.h"
#include "platform/ptrace/ptrace_platform.h"
#include "platform/sync.h"
#include "platform/systrap/entry.h"
#include "platform/systrap/systrap_platform.h"

namespace {

using platform::ExitReason;

constexpr uint64_t kCode = 0x400000;
constexpr size_t kPage = 4096;
// 1: syscall; jmp 1b
constexpr unsigned char kTrapLoop[] = {0x0f, 0x05, 0xeb, 0xfc};
// 1: lea 2f(%rip), %rcx; jmp *%rbx; syscall; 2: jmp 1b — as a patched call site does it
constexpr unsigned char kJumpLoop[] = {0x48, 0x8d, 0x0d, 4, 0, 0, 0, 0xff, 0xe3, 0x0f, 0x05, 0xeb, 0xf3};

enum class Kind { kPtrace, kSystrap };

class Bench {
 public:
  explicit Bench(Kind kind, int executors = 1) {
    base::InstallSafeCopyHandlers();
    file_ = std::move(*platform::MemoryFile::Create({}));
    platform_ = std::move(*(kind == Kind::kPtrace ? platform::ptrace::New() : platform::systrap::New()));
    base::Scheduler::Options options;
    options.executors = executors;
    options.bind_cpus = true;
    options.idle = [this](int index) { return platform_->NewIdleStrategy(index); };
    scheduler_ = std::make_unique<base::Scheduler>(std::move(options));
  }
  ~Bench() {
    scheduler_.reset();
    platform_.reset();
  }
  void Run(std::function<void()> body) { base::Fiber::Spawn(*scheduler_, {}, std::move(body))->Join(); }
  platform::MapOp Code(const void* code, size_t bytes) {
    const platform::FileRange range = *file_->Allocate(kPage);
    CHECK(file_->Write(range.start, {static_cast<const std::byte*>(code), bytes}).ok());
    platform::MapOp op{platform::MapOp::Kind::kMap};
    op.prot = 5;
    op.fd = file_->fd();
    op.start = kCode;
    op.length = kPage;
    op.offset = range.start;
    return op;
  }
  platform::Platform& platform() { return *platform_; }

 private:
  std::unique_ptr<platform::MemoryFile> file_;
  std::unique_ptr<platform::Platform> platform_;
  std::unique_ptr<base::Scheduler> scheduler_;
};

void Calls(benchmark::State& state, Kind kind, const void* code, size_t bytes, uint64_t rbx, int executors = 1) {
  Bench bench(kind, executors);
  bench.Run([&] {
    auto as = std::move(*bench.platform().NewAddressSpace());
    const platform::MapOp map = bench.Code(code, bytes);
    CHECK(as->Apply({&map, 1}).ok());
    auto context = std::move(*bench.platform().NewContext());
    context->registers().rip = kCode;
    context->registers().rbx = rbx;
    for (auto _ : state) CHECK(platform::Run(*context, *as).reason == ExitReason::kSystemCall);
    context.reset();
    as->Release();
  });
}

void PtraceCall(benchmark::State& state) { Calls(state, Kind::kPtrace, kTrapLoop, sizeof(kTrapLoop), 0); }
void SystrapCallByTrap(benchmark::State& state) { Calls(state, Kind::kSystrap, kTrapLoop, sizeof(kTrapLoop), 0); }
void SystrapCallByJump(benchmark::State& state) {
  if (!platform::systrap::HostHasEntry()) return state.SkipWithError("the host does not support the entry");
  Calls(state, Kind::kSystrap, kJumpLoop, sizeof(kJumpLoop),
        platform::systrap::StubAddress(platform::systrap::runsc_systrap_entry));
}
BENCHMARK(PtraceCall)->UseRealTime();
BENCHMARK(SystrapCallByTrap)->UseRealTime();
BENCHMARK(SystrapCallByJump)->UseRealTime();
// With another executor, which lends its CPU to the guest thread: the two spin for each other.
void SystrapCallByTrapApart(benchmark::State& state) {
  Calls(state, Kind::kSystrap, kTrapLoop, sizeof(kTrapLoop), 0, 2);
}
void SystrapCallByJumpApart(benchmark::State& state) {
  if (!platform::systrap::HostHasEntry()) return state.SkipWithError("the host does not support the entry");
  Calls(state, Kind::kSystrap, kJumpLoop, sizeof(kJumpLoop),
        platform::systrap::StubAddress(platform::systrap::runsc_systrap_entry), 2);
}
BENCHMARK(SystrapCallByTrapApart)->UseRealTime();
BENCHMARK(SystrapCallByJumpApart)->UseRealTime();

// An address space, a thread that makes one call, and their end: what fork, exec and exit need of the platform.
void Life(benchmark::State& state, Kind kind) {
  Bench bench(kind);
  bench.Run([&] {
    const platform::MapOp map = bench.Code(kTrapLoop, sizeof(kTrapLoop));
    for (auto _ : state) {
      auto as = std::move(*bench.platform().NewAddressSpace());
      CHECK(as->Apply({&map, 1}).ok());
      auto context = std::move(*bench.platform().NewContext());
      context->registers().rip = kCode;
      CHECK(platform::Run(*context, *as).reason == ExitReason::kSystemCall);
      context.reset();
      as->Release();
    }
  });
}
void PtraceLife(benchmark::State& state) { Life(state, Kind::kPtrace); }
void SystrapLife(benchmark::State& state) { Life(state, Kind::kSystrap); }
BENCHMARK(PtraceLife)->UseRealTime();
BENCHMARK(SystrapLife)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();

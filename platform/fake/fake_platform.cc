#include "platform/fake/fake_platform.h"

#include <errno.h>

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <thread>
#include <utility>

#include "base/syscall_unsafe.h"
#include "base/time.h"
#include "platform/memory_file.h"

namespace platform::fake {
namespace {

constexpr base::Range kGuestRange = {0x10000, 0x7ffffff00000};

struct MappingTraits {
  static Mapping Split(Mapping& left, base::Range whole, uint64_t at) {
    return {left.fd, left.offset + (at - whole.start), left.prot};
  }
  static bool Merge(Mapping& left, base::Range l, const Mapping& right, base::Range) {
    return left.fd == right.fd && left.prot == right.prot && left.offset + l.length() == right.offset;
  }
};

class FakeContext;
class FakeAddressSpace;

// Host threads that complete what is due. Its lock guards everything of the platform. std::mutex, not base::Mutex:
// these are no executors, and they wait with it.
class Engine {
 public:
  explicit Engine(const Options& options) : options_(options), random_(options.seed) {
    for (int i = 0; i < options.threads; ++i) threads_.emplace_back([this] { Loop(); });
  }
  ~Engine() {
    {
      std::lock_guard lock(mu);
      stop_ = true;
    }
    changed_.notify_all();
    for (auto& t : threads_) t.join();
  }

  std::mutex mu;

  // With the lock: has the context looked at once more, at a random time.
  void Schedule(FakeContext& context) {
    int64_t delay = static_cast<int64_t>(random_() % static_cast<uint64_t>(options_.longest_delay_ns + 1));
    due_.emplace(base::MonotonicNow() + delay, &context);
    changed_.notify_one();
  }

 private:
  void Loop();

  const Options options_;
  std::condition_variable changed_;
  std::mt19937_64 random_;
  std::multimap<int64_t, FakeContext*> due_;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

// State of both classes is guarded by Engine::mu.
class FakeAddressSpace final : public AddressSpace {
 public:
  explicit FakeAddressSpace(Engine& engine) : engine_(engine) {}

  base::Result<void> Apply(std::span<const MapOp> ops) override {
    for (const MapOp& op : ops) {
      bool aligned = (op.start | op.length | op.offset) % kPageSize == 0 && op.length != 0;
      if (!aligned || op.start < kGuestRange.start || op.start >= kGuestRange.end ||
          op.length > kGuestRange.end - op.start) {
        return base::Errno(EINVAL);
      }
    }
    std::lock_guard lock(engine_.mu);
    if (dead) return base::Errno(ESRCH);
    for (const MapOp& op : ops) {
      if (fail_after && (*fail_after)-- == 0) {
        fail_after.reset();
        return base::Errno(fail_error);
      }
      TRY(Change(op));
    }
    return {};
  }
  void Release() override {
    std::lock_guard lock(engine_.mu);
    Die();
  }
  void Die();  // with the lock

  base::IntervalMap<Mapping, MappingTraits> map;
  std::set<FakeContext*> running;
  bool dead = false;
  std::optional<size_t> fail_after;
  int fail_error = 0;
  Engine& engine() { return engine_; }

 private:
  base::Result<void> Change(const MapOp& op) {
    const base::Range r = {op.start, op.start + op.length};
    const auto drop = [](base::Range, Mapping&&) {};
    switch (op.kind) {
      case MapOp::Kind::kMap:
        if (!base::Host(SYS_fcntl, op.fd, 1 /* F_GETFD */, 0).ok()) return base::Errno(EBADF);
        map.Remove(r, drop);
        map.Insert(r, {op.fd, op.offset, op.prot});
        return {};
      case MapOp::Kind::kUnmap:
        map.Remove(r, drop);
        return {};
      case MapOp::Kind::kProtect: {
        uint64_t covered = 0;
        map.SplitAt(r.start);
        map.SplitAt(r.end);
        for (auto it = map.LowerBound(r.start); it != map.end() && it->first < r.end; ++it) {
          it->second.value.prot = op.prot;
          covered += it->second.end - it->first;
        }
        if (covered != r.length()) return base::Errno(ENOMEM);  // as mprotect(2)
        return {};
      }
    }
    return {};
  }

  Engine& engine_;
};

class FakeContext final : public Context {
 public:
  FakeContext(Engine& engine, std::atomic<int>& running)
      : engine_(engine), running_(running), script_(SystemCalls()), xstate_(XStateSize()) {
    InitXState(xstate_.data());
    registers_.cs = 0x33;
    registers_.ss = 0x2b;
    registers_.rflags = 0x202;
  }
  ~FakeContext() override { CHECK(done_ == nullptr); }

  void Start(AddressSpace& as, Completion& done) override {
    Exit exit;
    {
      std::lock_guard lock(engine_.mu);
      CHECK(done_ == nullptr);
      as_ = &static_cast<FakeAddressSpace&>(as);
      if (std::exchange(interrupted_, false)) {
        exit.reason = ExitReason::kInterrupted;
      } else if (!as_->dead) {
        as_->running.insert(this);
        done_ = &done;
        asked_ = false;
        running_.fetch_add(1);
        Schedule();
        return;
      }
    }
    done.Complete(exit);
  }

  void Interrupt() override {
    std::lock_guard lock(engine_.mu);
    interrupted_ = true;
    if (done_) Schedule();
  }

  // With the lock, on a thread of the engine, which lets go of it for the script and the completion.
  void OnDue(std::unique_lock<std::mutex>& lock) {
    scheduled_ = false;
    Exit exit;
    if (as_->dead) {
      exit.reason = ExitReason::kDead;
    } else if (interrupted_) {
      exit.reason = ExitReason::kInterrupted;
    } else if (!std::exchange(asked_, true)) {
      scheduled_ = true;  // while the script runs nobody else looks at the context
      Script script = script_;
      lock.unlock();
      std::optional<Exit> next = script(registers_);
      lock.lock();
      scheduled_ = false;
      if (!next) {
        if (interrupted_ || as_->dead) Schedule();
        return;
      }
      exit = *next;
    } else {
      return;
    }
    interrupted_ = false;
    Completion* done = std::exchange(done_, nullptr);
    as_->running.erase(this);
    running_.fetch_sub(1);
    lock.unlock();
    done->Complete(exit);
    lock.lock();
  }

  // With the lock.
  void Schedule() {
    if (!std::exchange(scheduled_, true)) engine_.Schedule(*this);
  }

  std::span<const std::byte> XState() override { return xstate_; }
  void SetXState(std::span<const std::byte> area) override {
    std::copy_n(area.begin(), std::min(area.size(), xstate_.size()), xstate_.begin());
  }
  void SetSingleStep(bool) override {}
  int LastCpu() const override { return 0; }
  void set_script(Script script) { script_ = std::move(script); }

 private:
  Engine& engine_;
  std::atomic<int>& running_;
  Script script_;
  std::vector<std::byte> xstate_;
  Completion* done_ = nullptr;  // not null: running
  FakeAddressSpace* as_ = nullptr;
  bool interrupted_ = false;
  bool scheduled_ = false;  // OnDue will be called, or is in the script
  bool asked_ = false;      // the script has been asked in this run
};

void Engine::Loop() {
  std::unique_lock lock(mu);
  while (!stop_) {
    if (due_.empty()) {
      changed_.wait(lock);
      continue;
    }
    auto first = due_.begin();
    if (int64_t wait = first->first - base::MonotonicNow(); wait > 0) {
      changed_.wait_for(lock, std::chrono::nanoseconds(wait));
      continue;
    }
    FakeContext* context = first->second;
    due_.erase(first);
    context->OnDue(lock);
  }
}

void FakeAddressSpace::Die() {
  dead = true;
  map.clear();
  for (FakeContext* c : running) c->Schedule();
}

class FakePlatform final : public Platform {
 public:
  explicit FakePlatform(Options options) : engine_(options) {}
  std::string_view name() const override { return "fake"; }
  base::Range GuestRange() const override { return kGuestRange; }
  base::Result<base::RefPtr<AddressSpace>> NewAddressSpace() override {
    return base::RefPtr<AddressSpace>(base::MakeRef<FakeAddressSpace>(engine_));
  }
  base::Result<std::unique_ptr<Context>> NewContext() override {
    return std::unique_ptr<Context>(std::make_unique<FakeContext>(engine_, running_));
  }
  int RunningContexts() const override { return running_.load(); }

 private:
  std::atomic<int> running_{0};
  Engine engine_;
};

}  // namespace

std::unique_ptr<Platform> New(Options options) { return std::make_unique<FakePlatform>(options); }

Script SystemCalls() {
  return [](Registers& r) -> std::optional<Exit> {
    Exit exit;
    exit.reason = ExitReason::kSystemCall;
    r.orig_rax = r.rax;
    r.rax = static_cast<uint64_t>(-ENOSYS);
    r.rcx = r.rip;
    r.r11 = r.rflags;
    return exit;
  };
}

Script Spin() {
  return [](Registers&) -> std::optional<Exit> { return std::nullopt; };
}

void SetScript(Context& context, Script script) { static_cast<FakeContext&>(context).set_script(std::move(script)); }

std::optional<Mapping> MappingAt(AddressSpace& as, uint64_t address) {
  auto& fake = static_cast<FakeAddressSpace&>(as);
  std::lock_guard lock(fake.engine().mu);
  auto it = fake.map.Find(address);
  if (it == fake.map.end()) return std::nullopt;
  Mapping m = it->second.value;
  m.offset += address - it->first;
  return m;
}

void FailOperation(AddressSpace& as, size_t n, int error) {
  auto& fake = static_cast<FakeAddressSpace&>(as);
  std::lock_guard lock(fake.engine().mu);
  fake.fail_after = n;
  fake.fail_error = error;
}

void Kill(AddressSpace& as) {
  auto& fake = static_cast<FakeAddressSpace&>(as);
  std::lock_guard lock(fake.engine().mu);
  fake.Die();
}

}  // namespace platform::fake

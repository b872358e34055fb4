#include "tests/unit/system_calls/random_calls.h"

#include <fcntl.h>
#include <sys/syscall.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "base/fiber.h"
#include "base/safe_copy_unsafe.h"
#include "platform/fake/fake_platform.h"
#include "sentry/boot/exec_loader.h"
#include "sentry/boot/file_tree.h"
#include "sentry/boot/registry.h"
#include "sentry/kernel/kernel.h"
#include "sentry/syscalls/table.h"
#include "sentry/vfs/vfs.h"
#include "tests/unit/system_calls/guest_program.h"

namespace sentry::testing {
namespace {

constexpr int kMaxCalls = 400;
constexpr auto kPatience = std::chrono::milliseconds(3);  // a call that waits longer is interrupted
constexpr auto kLife = std::chrono::milliseconds(300);    // then everything is killed

// Calls as the bytes say. All contexts of a sandbox draw from one stream.
class Stream {
 public:
  explicit Stream(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  // `first`: the process whose end is the end of everything; it does not leave early of its own will.
  void Next(platform::Registers& r, bool first) {
    std::lock_guard lock(mu_);
    if (const auto result = static_cast<int64_t>(r.rax); result >= 0 && result < 64) results_[turn_++ % 8] = result;
    uint64_t number = SYS_exit_group;
    if (at_ < bytes_.size() && calls_ < kMaxCalls) {
      ++calls_;
      number = static_cast<uint64_t>(Byte() | Byte() << 8) % (kTableSize + 2);
      if (first && (number == SYS_exit || number == SYS_exit_group)) number = SYS_getpid;
    }
    r.orig_rax = number;
    r.rax = static_cast<uint64_t>(-ENOSYS);
    r.rcx = r.rip;
    r.r11 = r.rflags;
    for (uint64_t* argument : {&r.rdi, &r.rsi, &r.rdx, &r.r10, &r.r8, &r.r9}) *argument = Argument();
    progress_.fetch_add(1, std::memory_order_relaxed);
  }
  int calls() const {
    std::lock_guard lock(mu_);
    return calls_;
  }
  uint64_t progress() const { return progress_.load(std::memory_order_relaxed); }

 private:
  uint8_t Byte() { return at_ < bytes_.size() ? bytes_[at_++] : 0; }
  uint64_t Wide(int bytes) {
    uint64_t value = 0;
    for (int i = 0; i < bytes; ++i) value |= uint64_t{Byte()} << (8 * i);
    return value;
  }
  // Mostly values that get past the first check.
  uint64_t Argument() {
    const uint8_t kind = Byte();
    switch (kind % 14) {
      case 0:
        return 0;
      case 1:
        return static_cast<uint64_t>(-1);
      case 2:
        return kind / 14;
      case 3:
        return Byte();
      case 4:
        return results_[Byte() % 8];
      case 5:
        return kNamesAt + (Byte() % Names().size()) * kNameBytes;
      case 6:
        return kVectorAt + (Byte() % 64) * 16;
      case 7:
        return kBytesAt + Wide(2) % (kProgramEnd - kBytesAt);
      case 8:
        return uint64_t{1} << (Byte() % 64);
      case 9:
        return kProgramEnd - Byte() % 16;  // at the end of what is mapped
      case 10:
        return (Wide(2) % 64) * 0x1000;
      case 11:
        return static_cast<uint64_t>(-100);  // AT_FDCWD
      case 12:
        return Wide(4);
      default:
        return Wide(8);
    }
  }

  mutable std::mutex mu_;
  const std::span<const uint8_t> bytes_;
  size_t at_ = 0;
  int calls_ = 0;
  int64_t results_[8] = {0, 1, 2, 3, 4, 5, 6, 7};  // small ones: descriptors, most of them
  size_t turn_ = 0;
  std::atomic<uint64_t> progress_{0};
};

// The fake platform, every context of which follows the stream.
class StreamPlatform final : public platform::Platform {
 public:
  explicit StreamPlatform(Stream& stream)
      : stream_(stream), fake_(platform::fake::New({.threads = 2, .seed = 1, .longest_delay_ns = 0})) {}
  std::string_view name() const override { return "stream"; }
  base::Range GuestRange() const override { return fake_->GuestRange(); }
  base::Result<base::RefPtr<platform::AddressSpace>> NewAddressSpace() override { return fake_->NewAddressSpace(); }
  base::Result<std::unique_ptr<platform::Context>> NewContext() override {
    std::unique_ptr<platform::Context> context = TRY(fake_->NewContext());
    const bool first = !made_.exchange(true);
    platform::fake::SetScript(*context, [this, first](platform::Registers& r) -> std::optional<platform::Exit> {
      stream_.Next(r, first);
      platform::Exit exit;
      exit.reason = platform::ExitReason::kSystemCall;
      return exit;
    });
    return context;
  }
  int RunningContexts() const override { return fake_->RunningContexts(); }

 private:
  Stream& stream_;
  std::unique_ptr<platform::Platform> fake_;
  std::atomic<bool> made_{false};
};

void WriteProgram(MountNamespace& mounts, std::span<const uint8_t> input) {
  VfsContext ctx = boot::RootContext(mounts);
  CHECK(boot::MakeDirectories(ctx, "/bin", 0755).ok());
  CHECK(boot::MakeDirectories(ctx, "/tmp/d", 0777).ok());
  auto file = vfs::Open(ctx, ctx.root, "/bin/guest", {O_WRONLY | O_CREAT, 0755, 0});
  CHECK(file.ok());
  std::vector<std::byte> program = MakeProgram(input);
  KernelIo io(program);
  CHECK((*file)->Write(io, {}).value_or(0) == program.size());
}

boot::BootSpec MakeSpec() {
  boot::BootSpec spec;
  spec.cpu_count = 2;
  for (auto [destination, type] : {std::pair("/proc", "proc"),
                                   {"/sys", "sysfs"},
                                   {"/dev", "tmpfs"},
                                   {"/dev/pts", "devpts"},
                                   {"/dev/shm", "tmpfs"}}) {
    boot::MountSpec& mount = spec.mounts.emplace_back();
    mount.destination = destination;
    mount.type = mount.source = type;
  }
  return spec;
}

CredentialsRef MakeCredentials(bool root) {
  RefPtr<Credentials> creds = base::MakeRef<Credentials>();
  const uint32_t id = root ? 0 : 1000;
  creds->ruid = creds->euid = creds->suid = creds->fsuid = id;
  creds->rgid = creds->egid = creds->sgid = creds->fsgid = id;
  if (root) creds->permitted = creds->effective = creds->bounding = kAllCapabilities;
  return CredentialsRef(std::move(creds));
}

// Waits for the first process' end, and helps it: what waits is interrupted, and in the end killed.
int WaitForEnd(Kernel& kernel, const Stream& stream, ThreadGroup& init) {
  std::mutex mu;
  std::condition_variable ended;
  std::optional<int> status;
  kernel.OnProcessExit(init, [&](int s) {
    std::lock_guard lock(mu);
    status = s;
    ended.notify_one();
  });
  const auto started = std::chrono::steady_clock::now();
  uint64_t seen = 0;
  std::unique_lock lock(mu);
  while (!ended.wait_for(lock, kPatience, [&] { return status.has_value(); })) {
    lock.unlock();
    const auto age = std::chrono::steady_clock::now() - started;
    CHECK(age < std::chrono::seconds(60));  // something cannot be killed
    if (age > kLife) {
      kernel.KillAll();
    } else if (std::exchange(seen, stream.progress()) == stream.progress()) {
      for (RefPtr<Task>& task : kernel.Tasks(init.pid_namespace())) task->Interrupt();
    }
    lock.lock();
  }
  return *status;
}

}  // namespace

RandomCallsOutcome MakeRandomCalls(std::span<const uint8_t> input) {
  static const bool installed = [] {
    base::InstallSafeCopyHandlers();
    return true;
  }();
  (void)installed;
  const bool root = input.empty() || (input[0] & 1) != 0;
  Stream stream(input.empty() ? input : input.subspan(1));
  RandomCallsOutcome outcome;
  boot::BootSpec spec = MakeSpec();
  std::unique_ptr<platform::MemoryFile> memory_file =
      std::move(platform::MemoryFile::Create({.limit_bytes = 256 << 20})).value();
  StreamPlatform platform(stream);
  auto scheduler =
      std::make_unique<base::Scheduler>(base::Scheduler::Options{.executors = 2, .bind_cpus = false, .idle = nullptr});
  Kernel kernel({.scheduler = scheduler.get(),
                 .platform = &platform,
                 .memory_file = memory_file.get(),
                 .cpus = 2,
                 .max_tasks = 24,
                 .total_memory = 256 << 20});
  kernel.SetSystemCallHandler(&ServeSystemCall);
  RefPtr<ThreadGroup> init;
  auto on_fiber = [&](std::function<void()> body) { base::Fiber::Spawn(*scheduler, {}, std::move(body))->Join(); };
  on_fiber([&] {
    CHECK(boot::RegisterAll(kernel, spec).ok());
    kernel.SetExecLoader(
        boot::MakeExecLoader(kernel, std::move(loader::Vdso::Create(*memory_file, kernel.time())).value()));
    auto mounts = boot::BuildFileTree(kernel, spec);
    CHECK(mounts.ok());
    WriteProgram(**mounts, input);
    Kernel::ProcessSpec process;
    process.argv = {"/bin/guest"};
    process.creds = MakeCredentials(root);
    process.fds = base::MakeRef<FdTable>();
    VfsContext ctx = boot::RootContext(**mounts);
    for (int fd = 0; fd < 3; ++fd) {
      auto file = vfs::Open(ctx, ctx.root, "/tmp/a", {O_RDWR | O_CREAT, 0666, 0});
      CHECK(file.ok() && process.fds->InstallAt(fd, *file, /*cloexec=*/false, 64).ok());
    }
    process.mounts = *mounts;
    process.uts = base::MakeRef<UtsNamespace>();
    process.net = boot::NewNetworkNamespace(kernel, spec);
    process.limits.values[RLIMIT_NOFILE] = {64, 64};
    init = std::move(kernel.CreateProcess(std::move(process))).value();
    kernel.StartProcess(*init);
  });
  outcome.status = WaitForEnd(kernel, stream, *init);
  on_fiber([&] { init.reset(); });
  // Waits for the fibers that are on their way out: they still use the kernel.
  scheduler.reset();
  outcome.calls = stream.calls();
  return outcome;
}

}  // namespace sentry::testing

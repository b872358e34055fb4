#include "tests/unit/system_calls/guest_run.h"

#include <fcntl.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
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

constexpr auto kPatience = std::chrono::milliseconds(3);  // a call that waits longer is interrupted
constexpr auto kLife = std::chrono::milliseconds(300);    // then everything is killed

// The fake platform, every context of which makes the calls.
class CallsPlatform final : public platform::Platform {
 public:
  explicit CallsPlatform(GuestCalls& calls)
      : calls_(calls), fake_(platform::fake::New({.threads = 2, .seed = 1, .longest_delay_ns = 0})) {}
  std::string_view name() const override { return "calls"; }
  base::Range GuestRange() const override { return fake_->GuestRange(); }
  base::Result<base::RefPtr<platform::AddressSpace>> NewAddressSpace() override { return fake_->NewAddressSpace(); }
  base::Result<std::unique_ptr<platform::Context>> NewContext() override {
    std::unique_ptr<platform::Context> context = TRY(fake_->NewContext());
    const int thread = made_.fetch_add(1);
    platform::fake::SetScript(*context, [this, thread](platform::Registers& r) -> std::optional<platform::Exit> {
      calls_.Next(r, thread);
      platform::Exit exit;
      exit.reason = platform::ExitReason::kSystemCall;
      return exit;
    });
    return context;
  }
  int RunningContexts() const override { return fake_->RunningContexts(); }

 private:
  GuestCalls& calls_;
  std::unique_ptr<platform::Platform> fake_;
  std::atomic<int> made_{0};
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
int WaitForEnd(Kernel& kernel, const GuestCalls& calls, ThreadGroup& init) {
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
    } else if (std::exchange(seen, calls.progress()) == calls.progress()) {
      for (RefPtr<Task>& task : kernel.Tasks(init.pid_namespace())) task->Interrupt();
    }
    lock.lock();
  }
  return *status;
}

}  // namespace

void GuestCalls::SetCall(platform::Registers& r, uint64_t number) {
  r.orig_rax = number;
  r.rax = static_cast<uint64_t>(-ENOSYS);
  r.rcx = r.rip;
  r.r11 = r.rflags;
  progress_.fetch_add(1, std::memory_order_relaxed);
}

int RunGuest(GuestCalls& calls, std::span<const uint8_t> input, bool root) {
  static const bool installed = [] {
    base::InstallSafeCopyHandlers();
    return true;
  }();
  (void)installed;
  boot::BootSpec spec = MakeSpec();
  std::unique_ptr<platform::MemoryFile> memory_file =
      std::move(platform::MemoryFile::Create({.limit_bytes = 256 << 20})).value();
  CallsPlatform platform(calls);
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
  const int status = WaitForEnd(kernel, calls, *init);
  on_fiber([&] { init.reset(); });
  // Waits for the fibers that are on their way out: they still use the kernel.
  scheduler.reset();
  return status;
}

}  // namespace sentry::testing

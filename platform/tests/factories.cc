#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>

#include <cstring>

#include "base/syscall_unsafe.h"
#include "base/unique_fd.h"
#include "platform/fake/fake_platform.h"
#include "platform/kvm/kvm_platform.h"
#include "platform/ptrace/ptrace_platform.h"
#include "platform/systrap/address_space.h"
#include "platform/systrap/entry.h"
#include "platform/systrap/stub.h"
#include "platform/systrap/systrap_platform.h"
#include "platform/tests/guest.h"

namespace platform {
namespace {

std::string MissingKvm() {
  auto fd = base::Host(SYS_openat, AT_FDCWD, "/dev/kvm", O_RDWR | O_CLOEXEC);
  if (!fd.ok()) return std::string("/dev/kvm: ") + strerror(fd.error().value());
  base::UniqueFd close(static_cast<int>(*fd));
  auto made = kvm::New();
  if (made.failed_with(ENOTSUP) || made.failed_with(ENOTTY)) return "the host's KVM lacks something";
  return "";
}

}  // namespace

std::vector<Factory> KvmFactories() {
  std::vector<Factory> found = Factories();
  std::erase_if(found, [](const Factory& factory) { return !factory.name.starts_with("kvm"); });
  return found;
}

std::vector<Factory> Factories() {
  Factory ptrace;
  ptrace.name = "ptrace";
  ptrace.make = [] {
    auto made = ptrace::New();
    EXPECT_TRUE(made.ok());
    return made.ok() ? std::move(*made) : nullptr;
  };
  ptrace.runs_code = true;

  Factory systrap = ptrace;
  systrap.name = "systrap";
  systrap.make = [] {
    auto made = systrap::New();
    EXPECT_TRUE(made.ok()) << (made.ok() ? "" : base::ErrnoName(made.error().value()));
    return made.ok() ? std::move(*made) : nullptr;
  };

  // Its helper and its youngest guest thread: the host's killer takes all that share a memory.
  systrap.kill = [](AddressSpace& as) {
    const pid_t pid = static_cast<systrap::SystrapAddressSpace&>(as).stub()->helper_pid();
    if (pid > 0) (void)base::Host(SYS_kill, pid, SIGKILL);
    (void)base::Host(SYS_kill, ChildProcesses().back(), SIGKILL);
  };
  if (systrap::HostHasEntry()) systrap.entry = systrap::StubAddress(systrap::runsc_systrap_entry);

  Factory kvm = ptrace;
  kvm.name = "kvm";
  kvm.missing = MissingKvm();
  kvm.make = [] {
    auto made = kvm::New();
    EXPECT_TRUE(made.ok()) << (made.ok() ? "" : base::ErrnoName(made.error().value()));
    return made.ok() ? std::move(*made) : nullptr;
  };
  // There is no process of the host that could be killed.
  kvm.kill = [](AddressSpace& as) { as.Release(); };

  // The way that system calls take on hardware, on hosts that have a shorter one.
  Factory kvm_ring0 = kvm;
  kvm_ring0.name = "kvm_ring0";
  kvm_ring0.make = [] {
    auto made = kvm::New({.gate = false});
    EXPECT_TRUE(made.ok()) << (made.ok() ? "" : base::ErrnoName(made.error().value()));
    return made.ok() ? std::move(*made) : nullptr;
  };

  Factory fake;
  fake.name = "fake";
  fake.make = [] { return fake::New(); };
  fake.runs_code = false;
  fake.make_system_calls = [](Context& c) { fake::SetScript(c, fake::SystemCalls()); };
  fake.make_spin = [](Context& c) { fake::SetScript(c, fake::Spin()); };
  fake.kill = fake::Kill;
  return {ptrace, systrap, kvm, kvm_ring0, fake};
}

}  // namespace platform

// What the cases of the platform suite share: the platforms it runs over, and small guests.
#ifndef PLATFORM_TESTS_GUEST_H_
#define PLATFORM_TESTS_GUEST_H_

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "base/executor.h"
#include "base/fiber.h"
#include "platform/memory_file.h"
#include "platform/platform.h"
#include "platform/sync.h"

#define GUEST_BLOB(name) extern "C" const char guest_##name[], guest_##name##_end[];
GUEST_BLOB(report)
GUEST_BLOB(odd_selectors)
GUEST_BLOB(claim_and_spin)
GUEST_BLOB(syscall_loop)
GUEST_BLOB(spin)
GUEST_BLOB(compute_and_call)
GUEST_BLOB(load)
GUEST_BLOB(store)
GUEST_BLOB(odd_store)
GUEST_BLOB(jump)
GUEST_BLOB(ud2)
GUEST_BLOB(divide)
GUEST_BLOB(int3)
GUEST_BLOB(hlt)
GUEST_BLOB(int80)
GUEST_BLOB(noncanonical)
GUEST_BLOB(segments)
GUEST_BLOB(nops)
GUEST_BLOB(call)
GUEST_BLOB(add_loop)
GUEST_BLOB(vector128)
GUEST_BLOB(canary_call)
GUEST_BLOB(canary128)
GUEST_BLOB(canary256)
GUEST_BLOB(canary512)
GUEST_BLOB(canary128_jump)
GUEST_BLOB(canary256_jump)
GUEST_BLOB(canary512_jump)
GUEST_BLOB(jump_loop)
GUEST_BLOB(jump_spin)
GUEST_BLOB(look_loop)
GUEST_BLOB(mask_loop)
#define BLOB_OF(name) std::string(guest_##name, guest_##name##_end)

namespace platform {

inline constexpr uint8_t kR = 1, kW = 2, kX = 4;
inline constexpr uint64_t kCodeAddress = 0x400000;
inline constexpr uint64_t kDataAddress = 0x10000000;

struct Factory {
  std::string name;
  std::function<std::unique_ptr<Platform>()> make;
  bool runs_code;  // false: a fake, which completes with scripted exits and executes nothing
  // Platforms without code: makes the context behave as the two blobs that every platform has to be able to run.
  std::function<void(Context&)> make_system_calls;  // syscall_loop
  std::function<void(Context&)> make_spin;          // spin
  uint64_t entry = 0;                               // where patched call sites jump to; 0: there is no such way
  std::function<void(AddressSpace&)> kill;          // as the host's killer of processes; null: by finding the process
  std::string missing;                              // why it cannot run on this host; empty: it can
};
// Its name alone where a case is printed.
inline void PrintTo(const Factory& factory, std::ostream* out) { *out << factory.name; }
// Child processes of this one, of which stubs are a part, in order of their start.
std::vector<int> ChildProcesses();
std::vector<Factory> Factories();
std::vector<Factory> KvmFactories();  // those among them

MapOp MapOf(const MemoryFile& file, uint64_t address, FileRange range, uint8_t prot);
MapOp UnmapOf(uint64_t address, uint64_t length);
MapOp ProtectOf(uint64_t address, uint64_t length, uint8_t prot);

// platform::Run, under a name that testing::Test does not have.
inline Exit RunGuest(Context& context, AddressSpace& as) { return Run(context, as); }

// Interrupts a guest 10,000 times a second for as long as it lives, from a thread of its own.
class Interruptions {
 public:
  explicit Interruptions(Context& context);
  ~Interruptions();

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

#define REQUIRE_CODE() \
  if (NeedsCode()) GTEST_SKIP() << "executes no guest code"

// One test: a platform, a scheduler with its idle strategies, a memory file. Bodies run on fibers.
class PlatformTest : public ::testing::TestWithParam<Factory> {
 protected:
  void SetUp() override;
  void TearDown() override;
  // Skips the case, with the reason, on a platform that executes nothing.
  bool NeedsCode();

  void StartScheduler(int executors, bool bind_cpus = false, int64_t replace_stuck_after_ns = 10'000'000);
  void InFiber(std::function<void()> body);

  // All on fibers.
  base::RefPtr<AddressSpace> NewSpace();
  std::unique_ptr<Context> NewContext();
  // An address space with this code at kCodeAddress and a page of data at kDataAddress; a context that starts at the
  // code.
  base::RefPtr<AddressSpace> SpaceWith(const std::string& code);
  std::unique_ptr<Context> ContextAt(uint64_t rip);
  // The same for every platform: makes one system call after the other, the number is what is in rax; or computes for
  // ever.
  struct Guest {
    base::RefPtr<AddressSpace> as;
    std::unique_ptr<Context> context;
    Exit Run() { return platform::Run(*context, *as); }
  };
  Guest SystemCallGuest();
  Guest SpinGuest();
  std::unique_ptr<Context> SystemCallContext();
  std::unique_ptr<Context> SpinContext();
  FileRange FileOf(const std::string& bytes);
  uint64_t ReadWord(uint64_t offset);
  void WriteWord(uint64_t offset, uint64_t value);
  FileRange data_;  // behind kDataAddress of the last SpaceWith

  std::unique_ptr<MemoryFile> file_;
  std::unique_ptr<Platform> platform_;
  std::unique_ptr<base::Scheduler> scheduler_;
};

}  // namespace platform

#endif  // PLATFORM_TESTS_GUEST_H_

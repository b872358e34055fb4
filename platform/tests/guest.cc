#include "platform/tests/guest.h"

#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/safe_copy_unsafe.h"

namespace platform {

MapOp MapOf(const MemoryFile& file, uint64_t address, FileRange range, uint8_t prot) {
  MapOp op{MapOp::Kind::kMap};
  op.prot = prot;
  op.fd = file.fd();
  op.start = address;
  op.length = range.length();
  op.offset = range.start;
  return op;
}

MapOp UnmapOf(uint64_t address, uint64_t length) {
  MapOp op{MapOp::Kind::kUnmap};
  op.start = address;
  op.length = length;
  return op;
}

MapOp ProtectOf(uint64_t address, uint64_t length, uint8_t prot) {
  MapOp op{MapOp::Kind::kProtect};
  op.prot = prot;
  op.start = address;
  op.length = length;
  return op;
}

Interruptions::Interruptions(Context& context)
    : thread_([this, &context] {
        prctl(PR_SET_TIMERSLACK, 1);
        while (!stop_.load()) {
          timespec period = {0, 100'000};
          nanosleep(&period, nullptr);
          context.Interrupt();
        }
      }) {}

Interruptions::~Interruptions() {
  stop_.store(true);
  thread_.join();
}

void PlatformTest::SetUp() {
  if (!GetParam().missing.empty()) GTEST_SKIP() << GetParam().missing;
  base::InstallSafeCopyHandlers();
  auto file = MemoryFile::Create({});
  ASSERT_TRUE(file.ok());
  file_ = std::move(*file);
  platform_ = GetParam().make();
  ASSERT_NE(platform_, nullptr);
}

void PlatformTest::TearDown() {
  scheduler_.reset();
  platform_.reset();
}

bool PlatformTest::NeedsCode() { return !GetParam().runs_code; }

void PlatformTest::StartScheduler(int executors, bool bind_cpus, int64_t replace_stuck_after_ns) {
  base::Scheduler::Options options;
  options.executors = executors;
  options.bind_cpus = bind_cpus;
  options.replace_stuck_after_ns = replace_stuck_after_ns;
  options.idle = [this](int index) { return platform_->NewIdleStrategy(index); };
  scheduler_ = std::make_unique<base::Scheduler>(std::move(options));
}

void PlatformTest::InFiber(std::function<void()> body) {
  if (!scheduler_) StartScheduler(1);
  base::Fiber::Spawn(*scheduler_, {}, std::move(body))->Join();
}

base::RefPtr<AddressSpace> PlatformTest::NewSpace() {
  auto as = platform_->NewAddressSpace();
  EXPECT_TRUE(as.ok()) << (as.ok() ? "" : base::ErrnoName(as.error().value()));
  return std::move(*as);
}

std::unique_ptr<Context> PlatformTest::NewContext() {
  auto context = platform_->NewContext();
  EXPECT_TRUE(context.ok());
  return std::move(*context);
}

std::unique_ptr<Context> PlatformTest::SystemCallContext() {
  auto context = ContextAt(kCodeAddress);
  if (GetParam().make_system_calls) GetParam().make_system_calls(*context);
  return context;
}

std::unique_ptr<Context> PlatformTest::SpinContext() {
  auto context = ContextAt(kCodeAddress);
  if (GetParam().make_spin) GetParam().make_spin(*context);
  return context;
}

PlatformTest::Guest PlatformTest::SystemCallGuest() { return {SpaceWith(BLOB_OF(syscall_loop)), SystemCallContext()}; }
PlatformTest::Guest PlatformTest::SpinGuest() { return {SpaceWith(BLOB_OF(spin)), SpinContext()}; }

std::vector<int> ChildProcesses() {
  std::vector<std::pair<long long, int>> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const int pid = atoi(entry.path().filename().c_str());
    if (pid == 0) continue;
    std::ifstream in(entry.path() / "stat");
    std::string line;
    std::getline(in, line);
    // Fields after the name in parentheses (man 5 proc): state ppid … starttime is the 22nd.
    std::istringstream rest(line.substr(std::min(line.size(), line.rfind(')') + 2)));
    std::string field;
    long long ppid = 0, start = 0;
    for (int i = 3; i <= 22 && rest >> field; ++i) {
      if (i == 4) ppid = atoll(field.c_str());
      if (i == 22) start = atoll(field.c_str());
    }
    if (ppid == getpid()) found.emplace_back(start, pid);
  }
  std::sort(found.begin(), found.end());
  std::vector<int> pids;
  for (auto& [start, pid] : found) pids.push_back(pid);
  return pids;
}

FileRange PlatformTest::FileOf(const std::string& bytes) {
  auto range = file_->Allocate(std::max<size_t>(bytes.size(), 1));
  EXPECT_TRUE(range.ok());
  EXPECT_TRUE(file_->Write(range->start, std::as_bytes(std::span(bytes))).ok());
  return *range;
}

base::RefPtr<AddressSpace> PlatformTest::SpaceWith(const std::string& code) {
  auto as = NewSpace();
  data_ = FileOf("");
  MapOp ops[] = {MapOf(*file_, kCodeAddress, FileOf(code), kR | kX), MapOf(*file_, kDataAddress, data_, kR | kW)};
  EXPECT_TRUE(as->Apply(ops).ok());
  return as;
}

std::unique_ptr<Context> PlatformTest::ContextAt(uint64_t rip) {
  auto context = NewContext();
  context->registers().rip = rip;
  return context;
}

uint64_t PlatformTest::ReadWord(uint64_t offset) {
  uint64_t value = 0;
  EXPECT_TRUE(file_->Read(offset, std::as_writable_bytes(std::span(&value, 1))).ok());
  return value;
}

void PlatformTest::WriteWord(uint64_t offset, uint64_t value) {
  EXPECT_TRUE(file_->Write(offset, std::as_bytes(std::span(&value, 1))).ok());
}

}  // namespace platform

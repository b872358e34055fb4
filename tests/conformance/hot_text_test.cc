// Code that makes the same calls again and again, and what must stay true of it whatever a kernel does to make them
// fast: its bytes are the file's, its addresses are its own, it may be changed, copied, moved and unmapped like any
// other.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <ucontext.h>

#include <atomic>
#include <fstream>
#include <sstream>
#include <thread>
#include <vector>

#include "support/tracee.h"

// Wrappers as a C library has them: the number by a constant of five bytes, by an instruction of two with padding
// behind the function, and somewhere else, with another instruction of five bytes before the call.
extern "C" {
extern const char hot_begin[], hot_end[];
extern const char hot_umask_call[], hot_umask_after[], hot_read_call[], hot_read_after[], hot_any_call[],
    hot_any_after[];
long hot_umask(long mask);
long hot_read(long fd, void* to, size_t n);
long hot_any(long a, long b, long c, long number);
long hot_getppid();
// Puts patterns into all registers, makes a call `times` times, and returns how often one of them was another then.
long hot_registers(long times);
}

asm(R"(
  .text
  .balign 4096
  .globl hot_begin, hot_end, hot_umask_call, hot_umask_after, hot_read_call, hot_read_after, hot_any_call, hot_any_after
hot_begin:
  .globl hot_umask
  .type hot_umask, @function
hot_umask:
  .cfi_startproc
  mov $95, %eax
hot_umask_call:
  syscall
hot_umask_after:
  ret
  .cfi_endproc
  .size hot_umask, . - hot_umask

  .balign 16
  .globl hot_read
  .type hot_read, @function
hot_read:
  .cfi_startproc
  xor %eax, %eax
hot_read_call:
  syscall
hot_read_after:
  ret
  .cfi_endproc
  .size hot_read, . - hot_read

  .balign 64
  .globl hot_any
  .type hot_any, @function
hot_any:
  .cfi_startproc
  mov %rcx, -8(%rsp)
  mov %rcx, %rax
  mov -8(%rsp), %r9
hot_any_call:
  syscall
hot_any_after:
  ret
  .cfi_endproc
  .size hot_any, . - hot_any

  .balign 64
  .globl hot_getppid
  .type hot_getppid, @function
hot_getppid:
  .cfi_startproc
  mov $110, %eax
  syscall
  ret
  .cfi_endproc
  .size hot_getppid, . - hot_getppid

  .balign 64
  .globl hot_registers
  .type hot_registers, @function
hot_registers:
  .cfi_startproc
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  push $0
  mov %rdi, %rbx
  mov %rsp, %rbp
1:
  mov $0x1111111111111111, %rdi
  mov $0x2222222222222222, %rsi
  mov $0x3333333333333333, %rdx
  mov $0x4444444444444444, %r10
  mov $0x5555555555555555, %r8
  mov $0x6666666666666666, %r9
  mov $0x7777777777777777, %r12
  mov $0x8888888888888888, %r13
  mov $0x9999999999999999, %r14
  mov $0xaaaaaaaaaaaaaaaa, %r15
  movq %r12, %xmm3
  movq $0x42, -16(%rsp)
  cmp %rdi, %rsi
  stc
  mov $110, %eax
  syscall
  jnc 2f
  jz 2f
  cmpq $0x42, -16(%rsp)
  jne 2f
  mov $0x1111111111111111, %rax
  cmp %rax, %rdi
  jne 2f
  mov $0x2222222222222222, %rax
  cmp %rax, %rsi
  jne 2f
  mov $0x3333333333333333, %rax
  cmp %rax, %rdx
  jne 2f
  mov $0x4444444444444444, %rax
  cmp %rax, %r10
  jne 2f
  mov $0x5555555555555555, %rax
  cmp %rax, %r8
  jne 2f
  mov $0x6666666666666666, %rax
  cmp %rax, %r9
  jne 2f
  mov $0x7777777777777777, %rax
  cmp %rax, %r12
  jne 2f
  movq %xmm3, %rcx
  cmp %rax, %rcx
  jne 2f
  mov $0x8888888888888888, %rax
  cmp %rax, %r13
  jne 2f
  mov $0x9999999999999999, %rax
  cmp %rax, %r14
  jne 2f
  mov $0xaaaaaaaaaaaaaaaa, %rax
  cmp %rax, %r15
  jne 2f
  cmp %rsp, %rbp
  je 3f
2:
  mov %rbp, %rsp
  incq (%rsp)
3:
  dec %rbx
  jnz 1b
  pop %rax
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  ret
  .cfi_endproc
  .size hot_registers, . - hot_registers
  .balign 4096
hot_end:
)");

namespace {

using namespace conformance;

constexpr int kWarm = 100;

void WarmUp() {
  for (int i = 0; i < kWarm; ++i) {
    hot_umask(022);
    hot_read(-1, nullptr, 0);
    hot_any(0, 0, 0, SYS_getppid);
    hot_getppid();
  }
}

size_t TextSize() { return static_cast<size_t>(hot_end - hot_begin); }

struct Region {
  uint64_t start, end, offset;
  bool executable;
};
std::vector<Region> Regions() {
  std::ifstream maps("/proc/self/maps");
  std::vector<Region> regions;
  for (std::string line; std::getline(maps, line);) {
    std::istringstream in(line);
    Region r{};
    char dash;
    std::string prot;
    in >> std::hex >> r.start >> dash >> r.end >> prot >> r.offset;
    r.executable = prot.size() > 2 && prot[2] == 'x';
    regions.push_back(r);
  }
  return regions;
}

// Where the hot code is in this program's file.
off_t TextOffset() {
  for (const Region& r : Regions()) {
    if (Address(hot_begin) >= r.start && Address(hot_begin) < r.end) {
      return static_cast<off_t>(r.offset + (Address(hot_begin) - r.start));
    }
  }
  ADD_FAILURE();
  return 0;
}

std::string TextOfFile() {
  Fd exe(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  std::string bytes(TextSize(), '\0');
  EXPECT_EQ(pread(exe.get(), bytes.data(), bytes.size(), TextOffset()), static_cast<ssize_t>(bytes.size()));
  return bytes;
}

// The same code once more, at another place: a library, as far as anybody can tell.
class Copy {
 public:
  explicit Copy(size_t pages_behind = 0, int prot = PROT_READ | PROT_EXEC) {
    Fd exe(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    mapping_ = Mapping(TextSize() + pages_behind * kPage, prot, MAP_PRIVATE, exe.get(), TextOffset());
  }
  bool ok() const { return mapping_.ok(); }
  char* get() const { return mapping_.get(); }
  template <typename F>
  F* Function(F* original) const {
    return reinterpret_cast<F*>(mapping_.get() + (Address(original) - Address(hot_begin)));
  }
  void WarmUp() const {
    auto* umask = Function(&hot_umask);
    auto* read = Function(&hot_read);
    for (int i = 0; i < kWarm; ++i) {
      umask(022);
      read(-1, nullptr, 0);
    }
  }

 private:
  Mapping mapping_;
};

TEST(HotText, AnswersAsItDidWhenItWasCold) {
  const long cold = hot_umask(022);
  EXPECT_EQ(cold, hot_umask(022) == 022 ? cold : -1);
  for (int i = 0; i < 2000; ++i) {
    ASSERT_EQ(hot_umask(022), 022);
    ASSERT_EQ(hot_read(-1, nullptr, 0), -EBADF);
    ASSERT_EQ(hot_any(0, 0, 0, SYS_getppid), getppid());
    ASSERT_EQ(hot_getppid(), getppid());
  }
}

TEST(HotText, HasTheBytesOfItsFileForEverybodyWhoReads) {
  WarmUp();
  const std::string file = TextOfFile();
  Fd exe(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  Mapping second(TextSize(), PROT_READ, MAP_PRIVATE, exe.get(), TextOffset());
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(memcmp(second.get(), file.data(), file.size()), 0);
  std::string bytes(TextSize(), '\0');
  Fd memory(open("/proc/self/mem", O_RDONLY | O_CLOEXEC));
  ASSERT_EQ(pread(memory.get(), bytes.data(), bytes.size(), static_cast<off_t>(Address(hot_begin))),
            static_cast<ssize_t>(bytes.size()));
  EXPECT_EQ(bytes, file);
  iovec local = {bytes.data(), bytes.size()}, remote = {const_cast<char*>(hot_begin), TextSize()};
  bytes.assign(TextSize(), '\0');
  ASSERT_EQ(process_vm_readv(getpid(), &local, 1, &remote, 1, 0), static_cast<ssize_t>(TextSize()));
  EXPECT_EQ(bytes, file);
  // A write takes the same way.
  TempDir dir;
  Fd out(open((dir / "text").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_EQ(write(out.get(), hot_begin, TextSize()), static_cast<ssize_t>(TextSize()));
  EXPECT_EQ(ReadFile(dir / "text"), file);
}

// As valgrind and emulators do, which execute a translation.
TEST(HotText, IsTheFilesForAProgramThatMapsItToLoadFromIt) {
  WarmUp();
  const std::string file = TextOfFile();
  Copy copy;
  ASSERT_TRUE(copy.ok());
  EXPECT_EQ(memcmp(copy.get(), file.data(), file.size()), 0);
  WarmUp();
  EXPECT_EQ(memcmp(copy.get(), file.data(), file.size()), 0);
  EXPECT_EXITED(RunInChild([&] { CHILD_CHECK(memcmp(copy.get(), file.data(), file.size()) == 0); }), 0);
}

TEST(HotText, IsReadAsTheFileWhenItIsNoLongerExecuted) {
  Copy copy;
  ASSERT_TRUE(copy.ok());
  copy.WarmUp();
  ASSERT_OK(mprotect(copy.get(), TextSize(), PROT_READ));
  const std::string file = TextOfFile();
  EXPECT_EQ(memcmp(copy.get(), file.data(), file.size()), 0);
  ASSERT_OK(mprotect(copy.get(), TextSize(), PROT_READ | PROT_EXEC));
  EXPECT_EQ(copy.Function(&hot_umask)(022), 022);
}

TEST(HotText, MayBeChanged) {
  Copy copy;
  ASSERT_TRUE(copy.ok());
  copy.WarmUp();
  ASSERT_OK(mprotect(copy.get(), kPage, PROT_READ | PROT_WRITE | PROT_EXEC));
  const std::string file = TextOfFile();
  EXPECT_EQ(memcmp(copy.get(), file.data(), file.size()), 0);
  // mov $95 becomes mov $110.
  auto* umask = copy.Function(&hot_umask);
  reinterpret_cast<char*>(umask)[1] = 110;
  for (int i = 0; i < kWarm; ++i) ASSERT_EQ(umask(022), getppid());
  ASSERT_OK(mprotect(copy.get(), kPage, PROT_READ | PROT_EXEC));
  for (int i = 0; i < kWarm; ++i) ASSERT_EQ(umask(022), getppid());
  // The padding is the program's as well: jumps there, and code there.
  ASSERT_OK(mprotect(copy.get(), kPage, PROT_READ | PROT_WRITE | PROT_EXEC));
  char* padding = reinterpret_cast<char*>(copy.Function(&hot_read)) + 8;
  const unsigned char answer[] = {0xb8, 0x2a, 0, 0, 0, 0xc3};  // mov $42, %eax; ret
  memcpy(padding, answer, sizeof(answer));
  for (int i = 0; i < kWarm; ++i) ASSERT_EQ(reinterpret_cast<long (*)()>(padding)(), 42);
  EXPECT_EQ(hot_umask(022), 022);
}

TEST(HotText, MayBeWrittenThroughTheFileOfMemory) {
  Copy copy;
  ASSERT_TRUE(copy.ok());
  copy.WarmUp();
  std::atomic<bool> stop{false};
  std::atomic<long> wrong{0}, rounds{0};
  std::thread thread([&] {
    auto* read = copy.Function(&hot_read);
    while (!stop) {
      wrong += read(-1, nullptr, 0) != -EBADF;
      ++rounds;
    }
  });
  EXPECT_TRUE(Eventually([&] { return rounds > 100; }));
  Fd memory(open("/proc/self/mem", O_RDWR | O_CLOEXEC));
  auto* umask = copy.Function(&hot_umask);
  const char number = 110;
  EXPECT_EQ(pwrite(memory.get(), &number, 1, static_cast<off_t>(Address(umask) + 1)), 1);
  for (int i = 0; i < kWarm; ++i) EXPECT_EQ(umask(022), getppid());
  const long before = rounds;
  EXPECT_TRUE(Eventually([&] { return rounds > before + 100; }));
  stop = true;
  thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(hot_umask(022), 022);
}

TEST(HotText, MayHaveDataMappedOverItsEnd) {
  // As a loader maps a library without a segment for text alone.
  for (int round = 0; round < 4; ++round) {
    Copy copy(4);
    ASSERT_TRUE(copy.ok());
    ASSERT_NE(mmap(copy.get() + TextSize() + kPage, 2 * kPage, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
              MAP_FAILED);
    copy.WarmUp();
    copy.get()[TextSize() + kPage] = 1;
    ASSERT_OK(munmap(copy.get() + TextSize() + 3 * kPage, kPage));
    for (int i = 0; i < kWarm; ++i) ASSERT_EQ(copy.Function(&hot_umask)(022), 022);
  }
}

TEST(HotText, MayBeMadeWritableWhileOthersRunInIt) {
  Copy copy;
  ASSERT_TRUE(copy.ok());
  copy.WarmUp();
  std::atomic<bool> stop{false};
  std::atomic<long> wrong{0}, rounds{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      auto* umask = copy.Function(&hot_umask);
      auto* read = copy.Function(&hot_read);
      while (!stop) {
        wrong += umask(022) != 022;
        wrong += read(-1, nullptr, 0) != -EBADF;
        ++rounds;
      }
    });
  }
  for (int i = 0; i < 20; ++i) {
    const long before = rounds;
    EXPECT_TRUE(Eventually([&] { return rounds > before + 50; }));
    EXPECT_OK(mprotect(copy.get(), kPage, PROT_READ | PROT_WRITE | PROT_EXEC));
    if (i % 4 == 3) reinterpret_cast<volatile char*>(copy.get())[kPage - 1] = 0;
    EXPECT_OK(mprotect(copy.get(), kPage, PROT_READ | PROT_EXEC));
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(HotText, MayBeEnteredAtTheInstructionItself) {
  WarmUp();
  auto call = [](const char* at, long rax) {
    long result;
    asm volatile("call *%2" : "=a"(result) : "a"(rax), "r"(at) : "rcx", "r11", "memory", "rdi", "rsi", "rdx");
    return result;
  };
  for (int i = 0; i < kWarm; ++i) {
    ASSERT_EQ(call(hot_umask_call, SYS_getppid), getppid());
    ASSERT_EQ(call(hot_read_call, SYS_gettid), syscall(SYS_gettid));
    ASSERT_EQ(call(hot_any_call, SYS_getppid), getppid());
  }
}

TEST(HotText, IsHotInChildrenAndNewPrograms) {
  WarmUp();
  for (int i = 0; i < 20; ++i) {
    int status = RunInChild([] {
      for (int n = 0; n < 50; ++n) {
        CHILD_CHECK(hot_umask(022) == 022);
        CHILD_CHECK(hot_read(-1, nullptr, 0) == -EBADF);
        CHILD_CHECK(hot_getppid() == getppid());
      }
    });
    EXPECT_EXITED(status, 0);
  }
  for (int i = 0; i < 3; ++i) {
    pid_t pid = fork();
    if (pid == 0) {
      Fd null(open("/dev/null", O_WRONLY));
      dup2(null.get(), 1);
      execl("/proc/self/exe", "hot_text_test", "--gtest_list_tests", nullptr);
      _exit(1);
    }
    EXPECT_EXITED(WaitFor(pid), 0);
  }
}

TEST(HotText, ChildrenChangeTheirOwnOnly) {
  Copy copy;
  ASSERT_TRUE(copy.ok());
  copy.WarmUp();
  auto* umask = copy.Function(&hot_umask);
  EXPECT_EXITED(RunInChild([&] {
                  CHILD_CHECK(mprotect(copy.get(), kPage, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
                  reinterpret_cast<char*>(umask)[1] = 110;
                  for (int i = 0; i < kWarm; ++i) CHILD_CHECK(umask(022) == getppid());
                }),
                0);
  for (int i = 0; i < kWarm; ++i) ASSERT_EQ(umask(022), 022);
}

TEST(HotText, MayBeReplacedAndUnmappedInPart) {
  for (int round = 0; round < 3; ++round) {
    Copy copy(2);
    ASSERT_TRUE(copy.ok());
    copy.WarmUp();
    auto* umask = copy.Function(&hot_umask);
    ASSERT_OK(munmap(copy.get() + TextSize(), kPage));
    for (int i = 0; i < kWarm; ++i) ASSERT_EQ(umask(022), 022);
    // Code of another kind in its place.
    void* same =
        mmap(copy.get(), kPage, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    ASSERT_EQ(same, copy.get());
    const unsigned char answer[] = {0xb8, 0x2a, 0, 0, 0, 0xc3};
    for (size_t at = 0; at + sizeof(answer) <= kPage; at += 8) memcpy(copy.get() + at, answer, sizeof(answer));
    ASSERT_EQ(umask(022), 42);
    ASSERT_EQ(copy.Function(&hot_read)(0, nullptr, 0), 42);
  }
}

TEST(HotText, LeavesAllOtherAddressesToTheProgram) {
  Copy copy;
  ASSERT_TRUE(copy.ok());
  copy.WarmUp();
  WarmUp();
  // Everything within 1.5 GiB that /proc/self/maps does not name can be mapped.
  constexpr uint64_t kPiece = 8 << 20, kReach = 3ull << 29;
  for (uint64_t text : {Address(copy.get()), Address(hot_begin)}) {
    std::vector<std::pair<uint64_t, uint64_t>> mapped;
    const uint64_t from = (text > kReach + (1 << 20) ? text - kReach : 1 << 20) & ~(kPiece - 1);
    for (uint64_t at = from; at < text + kReach && at < 0x7fff00000000; at += kPiece) {
      bool taken = false;
      for (const Region& r : Regions()) taken |= r.start < at + kPiece + (2 << 20) && at < r.end + (2 << 20);
      if (taken) continue;
      void* got = mmap(reinterpret_cast<void*>(at), kPiece, PROT_READ,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1, 0);
      ASSERT_EQ(reinterpret_cast<uint64_t>(got), at) << strerror(errno);
      mapped.push_back({at, kPiece});
      ASSERT_EQ(*reinterpret_cast<volatile char*>(at + kPage), 0);
    }
    for (int i = 0; i < kWarm; ++i) {
      ASSERT_EQ(copy.Function(&hot_umask)(022), 022);
      ASSERT_EQ(copy.Function(&hot_read)(-1, nullptr, 0), -EBADF);
      ASSERT_EQ(hot_umask(022), 022);
    }
    for (auto [at, size] : mapped) {
      for (uint64_t page = at; page < at + size; page += 16 * kPage) {
        ASSERT_EQ(*reinterpret_cast<volatile char*>(page), 0);
      }
      munmap(reinterpret_cast<void*>(at), size);
    }
  }
}

TEST(HotText, MayMove) {
  Copy copy;
  ASSERT_TRUE(copy.ok());
  copy.WarmUp();
  Mapping room(TextSize(), PROT_NONE);
  void* moved = mremap(copy.get(), TextSize(), TextSize(), MREMAP_MAYMOVE | MREMAP_FIXED, room.get());
  ASSERT_EQ(moved, room.get());
  auto* umask = reinterpret_cast<long (*)(long)>(room.get() + (Address(&hot_umask) - Address(hot_begin)));
  for (int i = 0; i < kWarm; ++i) ASSERT_EQ(umask(022), 022);
  std::string bytes(TextSize(), '\0');
  iovec local = {bytes.data(), bytes.size()}, remote = {room.get(), TextSize()};
  ASSERT_EQ(process_vm_readv(getpid(), &local, 1, &remote, 1, 0), static_cast<ssize_t>(TextSize()));
  EXPECT_EQ(bytes, TextOfFile());
}

TEST(HotText, KeepsAllRegistersAndFlags) {
  EXPECT_EQ(hot_registers(2000), 0);
  std::vector<std::thread> threads;
  std::atomic<long> wrong{0};
  for (int t = 0; t < 4; ++t) threads.emplace_back([&] { wrong += hot_registers(2000); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

// --- Signals.

std::vector<Region>* code;  // what may be executed
std::atomic<int> ticks, outside, inconsistent;

void OnTick(int, siginfo_t*, void* context) {
  const auto& regs = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const uint64_t rip = static_cast<uint64_t>(regs[REG_RIP]);
  bool known = false;
  for (const Region& r : *code) known |= rip >= r.start && rip < r.end;
  outside += !known;
  // At the instruction its number is there, behind it the answer.
  if (rip == Address(hot_umask_call)) inconsistent += regs[REG_RAX] != SYS_umask;
  if (rip == Address(hot_umask_after)) inconsistent += regs[REG_RAX] != 022;
  if (rip == Address(hot_read_call)) inconsistent += regs[REG_RAX] != SYS_read;
  if (rip == Address(hot_read_after)) inconsistent += regs[REG_RAX] != -EBADF;
  // Nowhere but where an instruction begins.
  if (rip > Address(&hot_umask) && rip < Address(hot_umask_after)) inconsistent += rip != Address(hot_umask_call);
  if (rip > Address(&hot_read) && rip < Address(hot_read_after)) inconsistent += rip != Address(hot_read_call);
  if (rip > Address(hot_read_after) && rip < Address(&hot_any)) ++inconsistent;
  ++ticks;
}

TEST(HotText, IsInterruptedAtItsOwnAddresses) {
  WarmUp();
  std::vector<Region> regions;
  for (const Region& r : Regions()) {
    if (r.executable) regions.push_back(r);
  }
  code = &regions;
  ticks = outside = inconsistent = 0;
  ScopedHandler handler(SIGALRM, OnTick);
  itimerval every = {{0, 300}, {0, 300}};
  ASSERT_OK(setitimer(ITIMER_REAL, &every, nullptr));
  const int64_t end = NowNs() + 20'000'000'000;
  long wrong = 0;
  while (ticks < 1000 && NowNs() < end) {
    for (int i = 0; i < 50; ++i) {
      wrong += hot_umask(022) != 022;
      wrong += hot_read(-1, nullptr, 0) != -EBADF;
    }
    wrong += hot_registers(50);
  }
  every = {};
  setitimer(ITIMER_REAL, &every, nullptr);
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(outside, 0);
  EXPECT_EQ(inconsistent, 0);
  EXPECT_GT(ticks, 50);
}

std::atomic<int> steps, known_steps;

void OnStep(int, siginfo_t*, void* context) {
  const auto& regs = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const uint64_t rip = static_cast<uint64_t>(regs[REG_RIP]);
  bool known = false;
  for (const Region& r : *code) known |= rip >= r.start && rip < r.end;
  outside += !known;
  known_steps += rip == Address(&hot_umask) || rip == Address(hot_umask_call) || rip == Address(hot_umask_after);
  if (rip == Address(hot_umask_after)) inconsistent += regs[REG_RAX] != 022;
  ++steps;
}

// Sets its own trap flag around a call.
long SteppedUmask() {
  long result;
  asm volatile(
      "sub $128, %%rsp; pushfq; orq $0x100, (%%rsp); popfq\n"
      "mov $18, %%edi; call hot_umask\n"
      "pushfq; andq $~0x100, (%%rsp); popfq; add $128, %%rsp"
      : "=a"(result)
      :
      : "rdi", "rcx", "r11", "memory", "cc");
  return result;
}

TEST(HotText, MayStepItself) {
  WarmUp();
  std::vector<Region> regions;
  for (const Region& r : Regions()) {
    if (r.executable) regions.push_back(r);
  }
  code = &regions;
  steps = known_steps = outside = inconsistent = 0;
  ScopedHandler handler(SIGTRAP, OnStep);
  for (int i = 0; i < 20; ++i) ASSERT_EQ(SteppedUmask(), 022);
  EXPECT_GE(known_steps, 2 * 20);
  EXPECT_EQ(outside, 0);
  EXPECT_EQ(inconsistent, 0);
}

sigjmp_buf escape;
std::atomic<uint64_t> faulted_at;

void FaultOnce() {
  faulted_at = 0;
  if (sigsetjmp(escape, 1) == 0) {
    // To `mov -8(%rsp), %r9`, which is five bytes before the call.
    asm volatile("mov $16, %%rsp; jmp *%0" : : "r"(hot_any_call - 5) : "memory");
  }
  EXPECT_EQ(faulted_at, Address(hot_any_call) - 5);
}

TEST(HotText, FaultsAtItsOwnAddresses) {
  WarmUp();
  // The instruction before the call reads the stack: which is not there.
  ScopedHandler handler(
      SIGSEGV,
      +[](int, siginfo_t*, void* context) {
        faulted_at = static_cast<uint64_t>(static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP]);
        siglongjmp(escape, 1);
      },
      SA_ONSTACK | SA_NODEFER);
  Mapping alternate(64 << 10, PROT_READ | PROT_WRITE);
  stack_t stack = {alternate.get(), 0, alternate.size()}, old;
  ASSERT_OK(sigaltstack(&stack, &old));
  for (int i = 0; i < 20; ++i) FaultOnce();
  sigaltstack(&old, nullptr);
}

TEST(HotText, CallsAreRestartedAfterASignal) {
  WarmUp();
  Pipe pipe = MakePipe();
  static std::atomic<int> handled;
  handled = 0;
  ScopedHandler handler(
      SIGUSR1, +[](int) { ++handled; }, SA_RESTART);
  for (int round = 0; round < 5; ++round) {
    const int before = handled;
    std::atomic<pid_t> tid{0};
    std::atomic<long> got{-1000};
    char byte = 0;
    std::thread reader([&] {
      tid = static_cast<pid_t>(syscall(SYS_gettid));
      got = hot_read(pipe.read_end.get(), &byte, 1);
    });
    ASSERT_TRUE(Eventually([&] { return tid != 0; }));
    ASSERT_TRUE(WaitUntilBlocked(tid));
    ASSERT_OK(syscall(SYS_tgkill, getpid(), tid.load(), SIGUSR1));
    ASSERT_TRUE(Eventually([&] { return handled > before; }));
    ASSERT_EQ(write(pipe.write_end.get(), "x", 1), 1);
    reader.join();
    EXPECT_EQ(got, 1);
    EXPECT_EQ(byte, 'x');
  }
}

pid_t VforkAndExit(int code) {
  pid_t pid = vfork();
  if (pid == 0) _exit(code);
  return pid;
}

TEST(HotText, ProcessesAndThreadsAreMadeAndEndedFromIt) {
  for (int i = 0; i < 60; ++i) {
    EXPECT_EXITED(WaitFor(VforkAndExit(i)), i);
    long child = hot_any(SIGCHLD, 0, 0, SYS_clone);
    if (child == 0) {
      for (;;) hot_any(7, 0, 0, SYS_exit_group);
    }
    EXPECT_EXITED(WaitFor(static_cast<pid_t>(child)), 7);
  }
  std::atomic<long> sum{0};
  for (int i = 0; i < 60; ++i) {
    std::thread thread([&] { sum += hot_umask(022); });
    thread.join();
  }
  EXPECT_EQ(sum, 60 * 022);
}

TEST(HotText, SeccompSeesTheAddressBehindTheInstruction) {
  WarmUp();
  int status = RunInChild([] {
    static std::atomic<uint64_t> at{0};
    struct sigaction action = {};
    action.sa_sigaction = [](int, siginfo_t* info, void* context) {
      at = Address(info->si_call_addr);
      static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RAX] = 77;
    };
    action.sa_flags = SA_SIGINFO;
    CHILD_CHECK(sigaction(SIGSYS, &action, nullptr) == 0);
    sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_umask, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
    CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHILD_CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    for (int i = 0; i < 50; ++i) {
      at = 0;
      CHILD_CHECK(hot_umask(022) == 77);
      CHILD_CHECK(at == Address(hot_umask_after));
    }
  });
  EXPECT_EXITED(status, 0);
}

// --- Debuggers.

uint64_t Peek(pid_t pid, uint64_t address) {
  uint64_t word = 0;
  EXPECT_OK(Ptrace(PTRACE_PEEKTEXT_, pid, address, Address(&word)));
  return word;
}

std::string PeekText(pid_t pid) {
  std::string bytes;
  for (uint64_t at = Address(hot_begin); at < Address(hot_end); at += 8) {
    const uint64_t word = Peek(pid, at);
    bytes.append(reinterpret_cast<const char*>(&word), 8);
  }
  return bytes;
}

// Steps until `from` and expects then every address of `path`, each once.
void ExpectSteps(pid_t pid, uint64_t from, const std::vector<uint64_t>& path) {
  for (int i = 0; GetRegs(pid).rip != from; ++i) {
    ASSERT_LT(i, 10'000);
    ASSERT_EQ(Resume(PTRACE_SINGLESTEP_, pid), Stop(SIGTRAP));
  }
  for (uint64_t next : path) {
    ASSERT_EQ(Resume(PTRACE_SINGLESTEP_, pid), Stop(SIGTRAP));
    ASSERT_EQ(GetRegs(pid).rip, next);
  }
}

TEST(HotText, IsSeenAndSteppedByADebuggerAsItIs) {
  WarmUp();
  const std::string file = TextOfFile();
  std::atomic<bool>* stop =
      new (Mapping(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS).Release()) std::atomic<bool>(false);
  auto loop = [&] {
    while (!*stop) {
      CHILD_CHECK(hot_umask(022) == 022);
      CHILD_CHECK(hot_read(-1, nullptr, 0) == -EBADF);
    }
  };
  for (int round = 0; round < 3; ++round) {
    *stop = false;
    ChildGuard traced(ForkChild(loop)), other(ForkChild(loop));
    SleepMs(5);
    ASSERT_OK(Ptrace(PTRACE_ATTACH_, traced.pid()));
    ASSERT_EQ(WaitAll(traced.pid()), Stop(SIGSTOP));
    const uint64_t rip = GetRegs(traced.pid()).rip;
    bool known = false;
    for (const Region& r : Regions()) known |= r.executable && rip >= r.start && rip < r.end;
    EXPECT_TRUE(known) << std::hex << rip;
    EXPECT_EQ(PeekText(traced.pid()), file);
    ASSERT_NO_FATAL_FAILURE(
        ExpectSteps(traced.pid(), Address(&hot_umask), {Address(hot_umask_call), Address(hot_umask_after)}));
    ASSERT_NO_FATAL_FAILURE(
        ExpectSteps(traced.pid(), Address(&hot_read), {Address(hot_read_call), Address(hot_read_after)}));
    // A breakpoint on the instruction before the call.
    const uint64_t word = Peek(traced.pid(), Address(&hot_umask));
    ASSERT_OK(Ptrace(PTRACE_POKETEXT_, traced.pid(), Address(&hot_umask), (word & ~0xffull) | 0xcc));
    ASSERT_EQ(Resume(PTRACE_CONT_, traced.pid()), Stop(SIGTRAP));
    user_regs_struct regs = GetRegs(traced.pid());
    EXPECT_EQ(regs.rip, Address(&hot_umask) + 1);
    regs.rip -= 1;
    ASSERT_TRUE(SetRegs(traced.pid(), regs));
    ASSERT_OK(Ptrace(PTRACE_POKETEXT_, traced.pid(), Address(&hot_umask), word));
    ASSERT_OK(Ptrace(PTRACE_DETACH_, traced.pid()));
    *stop = true;
    EXPECT_EXITED(traced.Wait(), 0);
    EXPECT_EXITED(other.Wait(), 0);
    for (int i = 0; i < kWarm; ++i) ASSERT_EQ(hot_umask(022), 022);
  }
}

TEST(HotText, IsSteppedAsItIsByWhoAskedToBeTraced) {
  WarmUp();
  ChildGuard traced(StartTraced([] {
    for (int i = 0; i < 3; ++i) {
      hot_umask(022);
      hot_read(-1, nullptr, 0);
    }
  }));
  for (int i = 0; i < 2; ++i) {
    ASSERT_NO_FATAL_FAILURE(
        ExpectSteps(traced.pid(), Address(&hot_umask), {Address(hot_umask_call), Address(hot_umask_after)}));
    ASSERT_NO_FATAL_FAILURE(
        ExpectSteps(traced.pid(), Address(&hot_read), {Address(hot_read_call), Address(hot_read_after)}));
  }
}

TEST(HotText, ADebuggerFindsThreadsAtTheirOwnAddresses) {
  // One thread after the other is attached to, while all are busy.
  WarmUp();
  std::atomic<bool>* stop =
      new (Mapping(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS).Release()) std::atomic<bool>(false);
  ChildGuard child(ForkChild([&] {
    std::vector<std::thread> threads;
    std::atomic<long> wrong{0};
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&] {
        while (!*stop) wrong += (hot_umask(022) != 022) + (hot_read(-1, nullptr, 0) != -EBADF);
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHILD_CHECK(wrong == 0);
  }));
  SleepMs(20);
  ASSERT_OK(Ptrace(PTRACE_SEIZE, child.pid()));
  ASSERT_OK(Ptrace(PTRACE_INTERRUPT, child.pid()));
  ASSERT_EQ(WaitAll(child.pid()), Stop(SIGTRAP, PTRACE_EVENT_STOP));
  SleepMs(20);
  *stop = true;
  ASSERT_OK(Ptrace(PTRACE_DETACH_, child.pid()));
  EXPECT_EXITED(child.Wait(), 0);
}

}  // namespace

// seccomp(2), prctl(PR_SET_SECCOMP): strict mode, filters, what they answer, and who inherits them.
#include "support/seccomp.h"

#include <linux/audit.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include <atomic>
#include <fstream>
#include <thread>
#include <vector>

namespace conformance {
namespace {

std::string StatusField(const char* path, const std::string& name) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (line.rfind(name + ":\t", 0) == 0) return line.substr(name.size() + 2);
  }
  return "";
}

// --- Arguments.

TEST(Seccomp, UnknownOperationsAndFlagsAreEINVAL) {
  EXPECT_ERRNO(Seccomp(99, 0, nullptr), EINVAL);
  EXPECT_ERRNO(Seccomp(SECCOMP_SET_MODE_STRICT, 1, nullptr), EINVAL);
  int dummy;
  EXPECT_ERRNO(Seccomp(SECCOMP_SET_MODE_STRICT, 0, &dummy), EINVAL);
  EXPECT_ERRNO(Install({Ret(SECCOMP_RET_ALLOW)}, 1u << 20), EINVAL);
  EXPECT_ERRNO(Install({Ret(SECCOMP_RET_ALLOW)}, SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_NEW_LISTENER), EINVAL);
  EXPECT_ERRNO(Install({Ret(SECCOMP_RET_ALLOW)}, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV), EINVAL);
  EXPECT_ERRNO(Seccomp(SECCOMP_GET_ACTION_AVAIL, 1, &dummy), EINVAL);
  EXPECT_ERRNO(Seccomp(SECCOMP_GET_NOTIF_SIZES, 1, &dummy), EINVAL);
  EXPECT_ERRNO(prctl(PR_SET_SECCOMP, 0, 0, 0, 0), EINVAL);
  EXPECT_ERRNO(prctl(PR_SET_SECCOMP, 3, 0, 0, 0), EINVAL);
}

TEST(Seccomp, BadPointersAreEFAULT) {
  EXPECT_ERRNO(Seccomp(SECCOMP_SET_MODE_FILTER, 0, BadPointer()), EFAULT);
  EXPECT_ERRNO(Seccomp(SECCOMP_SET_MODE_FILTER, 0, nullptr), EFAULT);
  EXPECT_ERRNO(Seccomp(SECCOMP_GET_ACTION_AVAIL, 0, BadPointer()), EFAULT);
  EXPECT_ERRNO(Seccomp(SECCOMP_GET_NOTIF_SIZES, 0, BadPointer()), EFAULT);
  sock_fprog fprog = {1, reinterpret_cast<sock_filter*>(BadPointer())};
  int status = RunInChild([&] {
    NoNewPrivs();
    CHILD_CHECK(Seccomp(SECCOMP_SET_MODE_FILTER, 0, &fprog) == -1 && errno == EFAULT);
  });
  EXPECT_EXITED(status, 0);
}

TEST(Seccomp, KnownActionsAreAvailable) {
  for (uint32_t action : {SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP, SECCOMP_RET_ERRNO,
                          SECCOMP_RET_USER_NOTIF, SECCOMP_RET_TRACE, SECCOMP_RET_LOG, SECCOMP_RET_ALLOW}) {
    EXPECT_OK(Seccomp(SECCOMP_GET_ACTION_AVAIL, 0, &action)) << std::hex << action;
  }
  uint32_t unknown = 0x12340000;
  EXPECT_ERRNO(Seccomp(SECCOMP_GET_ACTION_AVAIL, 0, &unknown), EOPNOTSUPP);
  unknown = SECCOMP_RET_ERRNO | 1;
  EXPECT_ERRNO(Seccomp(SECCOMP_GET_ACTION_AVAIL, 0, &unknown), EOPNOTSUPP);
}

TEST(Seccomp, NotificationSizesAreTheStructures) {
  seccomp_notif_sizes sizes = {};
  ASSERT_OK(Seccomp(SECCOMP_GET_NOTIF_SIZES, 0, &sizes));
  EXPECT_EQ(sizes.seccomp_notif, sizeof(seccomp_notif));
  EXPECT_EQ(sizes.seccomp_notif_resp, sizeof(seccomp_notif_resp));
  EXPECT_EQ(sizes.seccomp_data, sizeof(seccomp_data));
}

TEST(Seccomp, NeedsNoNewPrivsOrTheCapability) {
  int status = RunInChild([] {
    CHILD_CHECK(setresuid(1000, 1000, 1000) == 0);
    CHILD_CHECK(Install({Ret(SECCOMP_RET_ALLOW)}) == -1 && errno == EACCES);
    NoNewPrivs();
    CHILD_CHECK(Install({Ret(SECCOMP_RET_ALLOW)}) == 0);
  });
  EXPECT_EXITED(status, 0);
}

// --- The checker.

struct Program {
  const char* name;
  std::vector<sock_filter> code;
  int error;  // 0: taken
};

TEST(SeccompChecker, TakesAndRefusesWhatLinuxDoes) {
  const sock_filter allow = Ret(SECCOMP_RET_ALLOW);
  auto one = [&](uint16_t code, uint32_t k) {
    return std::vector<sock_filter>{BPF_STMT(code, k), Ret(SECCOMP_RET_ALLOW)};
  };
  std::vector<Program> programs = {
      {"empty", {}, EINVAL},
      {"allow", {allow}, 0},
      {"return A", {Load(kNr), BPF_STMT(BPF_LD | BPF_IMM, SECCOMP_RET_ALLOW), BPF_STMT(BPF_RET | BPF_A, 0)}, 0},
      {"return X", {BPF_STMT(BPF_RET | BPF_X, 0)}, EINVAL},
      {"no return at the end", {allow, Load(kNr)}, EINVAL},
      {"jump at the end", {BPF_STMT(BPF_JMP | BPF_JA, 0)}, EINVAL},
      {"load the last word", one(BPF_LD | BPF_W | BPF_ABS, 60), 0},
      {"load beyond", one(BPF_LD | BPF_W | BPF_ABS, 64), EINVAL},
      {"load unaligned", one(BPF_LD | BPF_W | BPF_ABS, 2), EINVAL},
      {"load far beyond", one(BPF_LD | BPF_W | BPF_ABS, 0xfffff000), EINVAL},
      {"load a byte", one(BPF_LD | BPF_B | BPF_ABS, 0), EINVAL},
      {"load a half", one(BPF_LD | BPF_H | BPF_ABS, 0), EINVAL},
      {"load indirect", one(BPF_LD | BPF_W | BPF_IND, 0), EINVAL},
      {"load a header length", one(BPF_LDX | BPF_B | BPF_MSH, 0), EINVAL},
      {"load the length", one(BPF_LD | BPF_W | BPF_LEN, 0), 0},
      {"load the length into X", one(BPF_LDX | BPF_W | BPF_LEN, 0), 0},
      {"immediate", one(BPF_LD | BPF_IMM, 5), 0},
      {"immediate into X", one(BPF_LDX | BPF_IMM, 5), 0},
      {"store 15", one(BPF_ST, 15), 0},
      {"store 16", one(BPF_ST, 16), EINVAL},
      {"store X 16", one(BPF_STX, 16), EINVAL},
      {"load unwritten memory", one(BPF_LD | BPF_MEM, 0), EINVAL},
      {"load written memory", {BPF_STMT(BPF_ST, 3), BPF_STMT(BPF_LD | BPF_MEM, 3), allow}, 0},
      {"load other memory", {BPF_STMT(BPF_ST, 3), BPF_STMT(BPF_LD | BPF_MEM, 4), allow}, EINVAL},
      {"load memory written on one path",
       {Load(kNr), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 1), BPF_STMT(BPF_ST, 0), BPF_STMT(BPF_LD | BPF_MEM, 0),
        allow},
       EINVAL},
      {"load memory written on both paths",
       {Load(kNr), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 2), BPF_STMT(BPF_ST, 0), BPF_STMT(BPF_JMP | BPF_JA, 1),
        BPF_STMT(BPF_ST, 0), BPF_STMT(BPF_LD | BPF_MEM, 0), allow},
       0},
      {"divide by zero", one(BPF_ALU | BPF_DIV | BPF_K, 0), EINVAL},
      {"divide", one(BPF_ALU | BPF_DIV | BPF_K, 3), 0},
      {"modulo", one(BPF_ALU | BPF_MOD | BPF_K, 3), EINVAL},
      {"modulo X", one(BPF_ALU | BPF_MOD | BPF_X, 0), EINVAL},
      {"shift by 31", one(BPF_ALU | BPF_LSH | BPF_K, 31), 0},
      {"shift by 32", one(BPF_ALU | BPF_LSH | BPF_K, 32), EINVAL},
      {"shift right by 32", one(BPF_ALU | BPF_RSH | BPF_K, 32), EINVAL},
      {"negate", one(BPF_ALU | BPF_NEG, 0), 0},
      {"xor", one(BPF_ALU | BPF_XOR | BPF_K, 1), 0},
      {"swap A and X", {BPF_STMT(BPF_MISC | BPF_TAX, 0), BPF_STMT(BPF_MISC | BPF_TXA, 0), allow}, 0},
      {"jump over the end", {BPF_STMT(BPF_JMP | BPF_JA, 1), allow}, EINVAL},
      {"jump far", {BPF_STMT(BPF_JMP | BPF_JA, 0xffffffff), allow}, EINVAL},
      {"branch over the end", {BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1), allow}, EINVAL},
      {"branch to the end", {BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 0), allow}, 0},
      {"unknown code", one(0xffff, 0), EINVAL},
      {"unknown jump", one(BPF_JMP | 0x50, 0), EINVAL},
  };
  programs.push_back({"4096 instructions", std::vector<sock_filter>(4096, allow), 0});
  programs.push_back({"4097 instructions", std::vector<sock_filter>(4097, allow), EINVAL});
  for (const Program& program : programs) {
    int status = RunInChild([&] {
      NoNewPrivs();
      long result = Install(program.code);
      _exit(result == 0 ? 0 : errno);
    });
    EXPECT_EXITED(status, program.error) << program.name;
  }
}

TEST(SeccompChecker, AllFiltersTogetherAreLimited) {
  int status = RunInChild([] {
    NoNewPrivs();
    // Linux counts what it makes of them: three instructions before, and two for a return; four for each filter below.
    const std::vector<sock_filter> big(4096, Ret(SECCOMP_RET_ALLOW));
    for (int i = 0; i < 3; ++i) CHILD_CHECK(Install(big) == 0);
    CHILD_CHECK(Install(big) == -1 && errno == ENOMEM);
    CHILD_CHECK(Install(std::vector<sock_filter>(4085, Ret(SECCOMP_RET_ALLOW))) == -1 && errno == ENOMEM);
    CHILD_CHECK(Install(std::vector<sock_filter>(4084, Ret(SECCOMP_RET_ALLOW))) == 0);
    CHILD_CHECK(StatusField("/proc/self/status", "Seccomp_filters") == "4");
  });
  EXPECT_EXITED(status, 0);
}

TEST(SeccompChecker, ManySmallFiltersComeAndGo) {
  int status = RunInChild([] {
    NoNewPrivs();
    int taken = 0;
    while (Install({Ret(SECCOMP_RET_ALLOW)}) == 0) ++taken;
    CHILD_CHECK(errno == ENOMEM);
    CHILD_CHECK(taken == 3641);  // 5 + 9 * 3640 = 32765
  });
  EXPECT_EXITED(status, 0);
}

TEST(SeccompChecker, CountsWhatLinuxMakesOfTheInstructions) {
  const sock_filter allow = Ret(SECCOMP_RET_ALLOW);
  struct {
    const char* name;
    std::vector<sock_filter> code;
    int cost;
  } cases[] = {
      {"return A", {BPF_STMT(BPF_LD | BPF_IMM, SECCOMP_RET_ALLOW), BPF_STMT(BPF_RET | BPF_A, 0)}, 5},
      {"load", {Load(kNr), allow}, 6},
      {"both ways", {BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 1, 2), allow, allow, allow}, 11},
      {"true is next", {BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 1, 0, 1), allow, allow}, 8},
      {"false is next", {BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 1, 1, 0), allow, allow}, 8},
      {"JSET, true is next", {BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 1, 0, 1), allow, allow}, 9},
      {"negative", {BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x80000000, 0, 1), allow, allow}, 9},
      {"X", {BPF_JUMP(BPF_JMP | BPF_JGE | BPF_X, 0x80000000, 1, 0), allow, allow}, 8},
      {"arithmetic", {BPF_STMT(BPF_ALU | BPF_ADD | BPF_X, 0), BPF_STMT(BPF_ALU | BPF_NEG, 0), allow}, 7},
      {"division", {BPF_STMT(BPF_LDX | BPF_IMM, 1), BPF_STMT(BPF_ALU | BPF_DIV | BPF_X, 0), allow}, 11},
      {"division by a constant", {BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 3), allow}, 6},
      {"memory", {BPF_STMT(BPF_ST, 0), BPF_STMT(BPF_LDX | BPF_MEM, 0), allow}, 7},
      {"A and X", {BPF_STMT(BPF_MISC | BPF_TAX, 0), BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0), allow}, 7},
      {"jump", {BPF_STMT(BPF_JMP | BPF_JA, 0), allow}, 6},
  };
  for (const auto& c : cases) {
    int status = RunInChild([&] {
      NoNewPrivs();
      int taken = 0;
      while (Install(c.code) == 0) ++taken;
      // The largest cost with which as many fit.
      CHILD_CHECK(taken == (32768 - c.cost) / (c.cost + 4) + 1);
    });
    EXPECT_EXITED(status, 0) << c.name;
  }
}

// --- The interpreter: the program decides about uname(buf, a, b) with the arguments that a test gives it.

// Runs `code` in a child on arguments 1 and 2, as returned by SECCOMP_RET_ERRNO: the low 12 bits of A.
int Evaluate(std::vector<sock_filter> code, uint64_t one, uint64_t two) {
  std::vector<sock_filter> program = {Load(kNr), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_uname, 1, 0),
                                      Ret(SECCOMP_RET_ALLOW)};
  program.insert(program.end(), code.begin(), code.end());
  program.push_back(BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xff));
  program.push_back(BPF_STMT(BPF_ALU | BPF_OR | BPF_K, SECCOMP_RET_ERRNO));
  program.push_back(BPF_STMT(BPF_RET | BPF_A, 0));
  int status = RunInChild([&] {
    NoNewPrivs();
    CHILD_CHECK(Install(program) == 0);
    errno = 0;
    (void)syscall(SYS_uname, 0, one, two);
    _exit(errno);
  });
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST(SeccompInterpreter, Arithmetic) {
  auto alu = [](uint16_t op, uint32_t a, uint32_t x) {
    const int k = Evaluate({Load(Arg(1)), BPF_STMT(static_cast<uint16_t>(BPF_ALU | op | BPF_K), x)}, a, 0);
    const int with_x = Evaluate({Load(Arg(2)), BPF_STMT(BPF_MISC | BPF_TAX, 0), Load(Arg(1)),
                                 BPF_STMT(static_cast<uint16_t>(BPF_ALU | op | BPF_X), 0)},
                                a, x);
    EXPECT_EQ(k, with_x);
    return with_x;
  };
  EXPECT_EQ(alu(BPF_ADD, 40, 2), 42);
  EXPECT_EQ(alu(BPF_ADD, 0xffffffff, 8), 7);
  EXPECT_EQ(alu(BPF_SUB, 50, 8), 42);
  EXPECT_EQ(alu(BPF_SUB, 1, 0xffffffd8), 41);
  EXPECT_EQ(alu(BPF_MUL, 6, 7), 42);
  EXPECT_EQ(alu(BPF_DIV, 0xffffffff, 0x10000000), 15);
  EXPECT_EQ(alu(BPF_AND, 0x3f, 0x2a), 42);
  EXPECT_EQ(alu(BPF_OR, 0x28, 0x2), 42);
  EXPECT_EQ(alu(BPF_XOR, 0x3f, 0x15), 42);
  EXPECT_EQ(alu(BPF_LSH, 21, 1), 42);
  EXPECT_EQ(alu(BPF_RSH, 0x80000000, 30), 2);
  EXPECT_EQ(Evaluate({Load(Arg(1)), BPF_STMT(BPF_ALU | BPF_NEG, 0)}, 0xffffffd6, 0), 42);
}

TEST(SeccompInterpreter, DivisionByAZeroXEndsTheProgramWithKill) {
  EXPECT_EQ(
      Evaluate({Load(Arg(2)), BPF_STMT(BPF_MISC | BPF_TAX, 0), Load(Arg(1)), BPF_STMT(BPF_ALU | BPF_DIV | BPF_X, 0)}, 1,
               0),
      -SIGSYS);
}

TEST(SeccompInterpreter, JumpsCompareUnsigned) {
  auto jump = [](uint16_t op, uint32_t a, uint32_t k) {
    return Evaluate({Load(Arg(1)), BPF_JUMP(static_cast<uint16_t>(BPF_JMP | op | BPF_K), k, 0, 2),
                     BPF_STMT(BPF_LD | BPF_IMM, 1), BPF_STMT(BPF_JMP | BPF_JA, 1), BPF_STMT(BPF_LD | BPF_IMM, 2)},
                    a, 0);
  };
  EXPECT_EQ(jump(BPF_JEQ, 5, 5), 1);
  EXPECT_EQ(jump(BPF_JEQ, 5, 6), 2);
  EXPECT_EQ(jump(BPF_JGT, 0x80000000, 1), 1);
  EXPECT_EQ(jump(BPF_JGT, 1, 1), 2);
  EXPECT_EQ(jump(BPF_JGE, 1, 1), 1);
  EXPECT_EQ(jump(BPF_JGE, 1, 0xffffffff), 2);
  EXPECT_EQ(jump(BPF_JSET, 6, 2), 1);
  EXPECT_EQ(jump(BPF_JSET, 6, 1), 2);
}

TEST(SeccompInterpreter, ScratchMemoryAndLengths) {
  EXPECT_EQ(Evaluate({Load(Arg(1)), BPF_STMT(BPF_ST, 7), BPF_STMT(BPF_LD | BPF_IMM, 0), BPF_STMT(BPF_LD | BPF_MEM, 7)},
                     42, 0),
            42);
  EXPECT_EQ(Evaluate({BPF_STMT(BPF_LDX | BPF_IMM, 42), BPF_STMT(BPF_STX, 7), BPF_STMT(BPF_LDX | BPF_IMM, 0),
                      BPF_STMT(BPF_LDX | BPF_MEM, 7), BPF_STMT(BPF_MISC | BPF_TXA, 0)},
                     0, 0),
            42);
  EXPECT_EQ(Evaluate({BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0)}, 0, 0), 64);
}

TEST(SeccompInterpreter, SeesNumberArchitectureAddressAndAllArguments) {
  EXPECT_EQ(Evaluate({Load(kNr)}, 0, 0), SYS_uname);
  EXPECT_EQ(Evaluate({Load(offsetof(seccomp_data, arch)), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 1),
                      BPF_STMT(BPF_LD | BPF_IMM, 42)},
                     0, 0),
            42);
  EXPECT_EQ(Evaluate({Load(Arg(1) + 4)}, uint64_t{42} << 32, 0), 42);
  // The address is that after the instruction: the program knows where its own is.
  static char text[] = {'\x0f', '\x05', '\xc3'};
  Mapping code(kPage, PROT_READ | PROT_WRITE | PROT_EXEC);
  memcpy(code.get(), text, sizeof(text));
  const uint64_t after = reinterpret_cast<uint64_t>(code.get()) + 2;
  int status = RunInChild([&] {
    NoNewPrivs();
    CHILD_CHECK(Install({Load(offsetof(seccomp_data, instruction_pointer)),
                         BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(after), 0, 3),
                         Load(offsetof(seccomp_data, instruction_pointer) + 4),
                         BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(after >> 32), 0, 1),
                         Ret(SECCOMP_RET_ERRNO | 77), Ret(SECCOMP_RET_ALLOW)}) == 0);
    long result = SYS_getpid;
    asm volatile("call *%1" : "+a"(result) : "r"(code.get()) : "rcx", "r11", "memory");
    CHILD_CHECK(result == -77);
    CHILD_CHECK(getpid() > 0);
  });
  EXPECT_EXITED(status, 0);
}

// --- Strict mode.

TEST(SeccompStrict, ReadWriteExitAndSigreturnWork) {
  Pipe pipe = MakePipe();
  int status = RunInChild([&] {
    CHILD_CHECK(prctl(PR_GET_SECCOMP) == 0);
    CHILD_CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
    char c = 'x';
    if (write(pipe.write_end.get(), &c, 1) != 1) syscall(SYS_exit, 1);
    if (read(pipe.read_end.get(), &c, 1) != 1) syscall(SYS_exit, 2);
    if (read(-1, &c, 1) != -1 || errno != EBADF) syscall(SYS_exit, 3);
    syscall(SYS_exit, 42);
  });
  EXPECT_EXITED(status, 42);
}

TEST(SeccompStrict, AnythingElseIsSIGKILL) {
  for (long number : std::vector<long>{SYS_getpid, SYS_exit_group, SYS_prctl, SYS_close, 9999}) {
    int status = RunInChild([&] {
      CHILD_CHECK(Seccomp(SECCOMP_SET_MODE_STRICT, 0, nullptr) == 0);
      syscall(number, 0, 0, 0);
    });
    EXPECT_SIGNALED(status, SIGKILL) << number;
  }
}

TEST(SeccompStrict, CannotFollowAFilter) {
  int status = RunInChild([] {
    NoNewPrivs();
    CHILD_CHECK(Install({Ret(SECCOMP_RET_ALLOW)}) == 0);
    CHILD_CHECK(prctl(PR_GET_SECCOMP) == 2);
    CHILD_CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == -1 && errno == EINVAL);
  });
  EXPECT_EXITED(status, 0);
}

// --- Actions.

TEST(SeccompFilter, ErrnoFailsTheCallWithoutServingIt) {
  TempDir dir;
  int status = RunInChild([&] {
    NoNewPrivs();
    CHILD_CHECK(Install(For(SYS_mkdir, SECCOMP_RET_ERRNO | EXDEV)) == 0);
    CHILD_CHECK(mkdir((dir / "x").c_str(), 0755) == -1 && errno == EXDEV);
    struct stat st;
    CHILD_CHECK(stat((dir / "x").c_str(), &st) == -1 && errno == ENOENT);
  });
  EXPECT_EXITED(status, 0);
}

TEST(SeccompFilter, ErrnoZeroIsSuccessAndLargeOnesAreCapped) {
  int status = RunInChild([] {
    NoNewPrivs();
    CHILD_CHECK(Install(For(SYS_getppid, SECCOMP_RET_ERRNO)) == 0);
    CHILD_CHECK(Install(For(SYS_getpgrp, SECCOMP_RET_ERRNO | 0xffff)) == 0);
    CHILD_CHECK(syscall(SYS_getppid) == 0);
    long result;
    asm volatile("syscall" : "=a"(result) : "0"(SYS_getpgrp) : "rcx", "r11", "memory");
    CHILD_CHECK(result == -4095);
  });
  EXPECT_EXITED(status, 0);
}

TEST(SeccompFilter, ExecveThatIsRefusedReturns) {
  int status = RunInChild([] {
    NoNewPrivs();
    CHILD_CHECK(Install(For(SYS_execve, SECCOMP_RET_ERRNO | EXDEV)) == 0);
    char* argv[] = {nullptr};
    CHILD_CHECK(execve("/proc/self/exe", argv, argv) == -1 && errno == EXDEV);
  });
  EXPECT_EXITED(status, 0);
}

TEST(SeccompFilter, TheStrictestAnswerWins) {
  const uint32_t order[] = {SECCOMP_RET_ALLOW, SECCOMP_RET_LOG,  SECCOMP_RET_TRACE,       SECCOMP_RET_USER_NOTIF,
                            SECCOMP_RET_ERRNO, SECCOMP_RET_TRAP, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_KILL_PROCESS};
  auto outcome = [](uint32_t first, uint32_t second) {
    int status = RunInChild([&] {
      NoNewPrivs();
      CHILD_CHECK(Install(For(SYS_getppid, first | 5)) == 0);
      CHILD_CHECK(Install(For(SYS_getppid, second | 6)) == 0);
      errno = 0;
      long result = syscall(SYS_getppid);
      _exit(result > 0 ? 200 : errno);
    });
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  };
  const int alone[] = {200, 200, ENOSYS, ENOSYS, 0, 128 + SIGSYS, 128 + SIGSYS, 128 + SIGSYS};
  for (size_t i = 0; i < 8; ++i) {
    for (size_t j = 0; j < 8; ++j) {
      // Of equal ones the newest counts.
      int want = alone[std::max(i, j)];
      if (order[std::max(i, j)] == SECCOMP_RET_ERRNO) want = j >= i ? 6 : 5;
      EXPECT_EQ(outcome(order[i], order[j]), want) << std::hex << order[i] << " then " << order[j];
    }
  }
}

TEST(SeccompFilter, UnknownActionsKill) {
  int status = RunInChild([] {
    NoNewPrivs();
    CHILD_CHECK(Install(For(SYS_getppid, 0x12340000)) == 0);
    syscall(SYS_getppid);
  });
  EXPECT_SIGNALED(status, SIGSYS);
}

siginfo_t g_info;
long g_rax;
volatile sig_atomic_t g_count;
void OnSigsys(int, siginfo_t* info, void* context) {
  g_info = *info;
  g_rax = static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RAX];
  static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RAX] = 4711;
  g_count = g_count + 1;
}

TEST(SeccompFilter, TrapSendsSIGSYSWithTheCall) {
  int status = RunInChild([] {
    NoNewPrivs();
    ScopedHandler handler(SIGSYS, OnSigsys);
    CHILD_CHECK(Install(For(SYS_getppid, SECCOMP_RET_TRAP | 0x123)) == 0);
    long result;
    uint64_t address;
    asm volatile("syscall\n0: lea 0b(%%rip), %1"
                 : "=a"(result), "=r"(address)
                 : "0"(SYS_getppid)
                 : "rcx", "r11", "memory");
    CHILD_CHECK(result == 4711);
    CHILD_CHECK(g_count == 1);
    CHILD_CHECK(g_rax == SYS_getppid);
    CHILD_CHECK(g_info.si_signo == SIGSYS && g_info.si_code == 1 && g_info.si_errno == 0x123);
    CHILD_CHECK(g_info.si_syscall == SYS_getppid && g_info.si_arch == AUDIT_ARCH_X86_64);
    CHILD_CHECK(reinterpret_cast<uint64_t>(g_info.si_call_addr) == address);
  });
  EXPECT_EXITED(status, 0);
}

TEST(SeccompFilter, TrapKillsWhenBlockedOrIgnored) {
  for (bool block : {false, true}) {
    int status = RunInChild([&] {
      NoNewPrivs();
      signal(SIGSYS, SIG_IGN);
      sigset_t set = MakeSet({SIGSYS});
      if (block) sigprocmask(SIG_BLOCK, &set, nullptr);
      CHILD_CHECK(Install(For(SYS_getppid, SECCOMP_RET_TRAP)) == 0);
      syscall(SYS_getppid);
    });
    EXPECT_SIGNALED(status, SIGSYS);
  }
}

TEST(SeccompFilter, KillIgnoresHandlers) {
  int status = RunInChild([] {
    NoNewPrivs();
    ScopedHandler handler(SIGSYS, OnSigsys);
    CHILD_CHECK(Install(For(SYS_getppid, SECCOMP_RET_KILL_PROCESS)) == 0);
    syscall(SYS_getppid);
  });
  EXPECT_SIGNALED(status, SIGSYS);
}

TEST(SeccompFilter, KillThreadLeavesTheOthers) {
  int status = RunInChild([] {
    NoNewPrivs();
    static std::atomic<pid_t> tid{0};
    std::thread victim([] {
      CHILD_CHECK(Install(For(SYS_getppid, SECCOMP_RET_KILL_THREAD)) == 0);
      tid = static_cast<pid_t>(syscall(SYS_gettid));
      syscall(SYS_getppid);
      _exit(1);
    });
    victim.detach();
    CHILD_CHECK(Eventually([] { return tid != 0 && syscall(SYS_tgkill, getpid(), tid.load(), 0) == -1; }));
    CHILD_CHECK(syscall(SYS_getppid) > 0);
  });
  EXPECT_EXITED(status, 0);
}

TEST(SeccompFilter, KillProcessTakesAllThreads) {
  int status = RunInChild([] {
    NoNewPrivs();
    std::thread victim([] {
      CHILD_CHECK(Install(For(SYS_getppid, SECCOMP_RET_KILL_PROCESS)) == 0);
      syscall(SYS_getppid);
    });
    for (;;) pause();
  });
  EXPECT_SIGNALED(status, SIGSYS);
}

TEST(SeccompFilter, NumbersThatDoNotExistAreFiltered) {
  int status = RunInChild([] {
    NoNewPrivs();
    CHILD_CHECK(syscall(100'000) == -1 && errno == ENOSYS);
    CHILD_CHECK(Install(For(100'000, SECCOMP_RET_ERRNO | EXDEV)) == 0);
    CHILD_CHECK(syscall(100'000) == -1 && errno == EXDEV);
    CHILD_CHECK(Install(For(-1, SECCOMP_RET_ERRNO | EBUSY)) == 0);
    CHILD_CHECK(syscall(-1) == -1 && errno == EBUSY);
  });
  EXPECT_EXITED(status, 0);
}

TEST(SeccompFilter, LooksAtArgumentsOfACallThatIsUsuallyAllowed) {
  int status = RunInChild([] {
    NoNewPrivs();
    // dup of descriptor 77 alone.
    CHILD_CHECK(Install({Load(kNr), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_dup, 0, 3), Load(Arg(0)),
                         BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 77, 0, 1), Ret(SECCOMP_RET_ERRNO | EXDEV),
                         Ret(SECCOMP_RET_ALLOW)}) == 0);
    CHILD_CHECK(dup(0) >= 0);
    CHILD_CHECK(dup(77) == -1 && errno == EXDEV);
    CHILD_CHECK(dup(78) == -1 && errno == EBADF);
  });
  EXPECT_EXITED(status, 0);
}

// --- Who has which.

TEST(SeccompInheritance, ForkThreadsAndExecKeepFilters) {
  int status = RunInChild([] {
    NoNewPrivs();
    CHILD_CHECK(Install(For(SYS_getppid, SECCOMP_RET_ERRNO | EXDEV)) == 0);
    int child = RunInChild([] { CHILD_CHECK(syscall(SYS_getppid) == -1 && errno == EXDEV); });
    CHILD_CHECK(WIFEXITED(child) && WEXITSTATUS(child) == 0);
    std::thread([] { CHILD_CHECK(syscall(SYS_getppid) == -1 && errno == EXDEV); }).join();
    // exec: this program again, which reports what it is told to.
    pid_t pid = fork();
    if (pid == 0) {
      CHILD_CHECK(Install(For(SYS_execve, SECCOMP_RET_LOG)) == 0);
      execl("/proc/self/exe", "seccomp_test", "--helper", nullptr);
      _exit(1);
    }
    int exec_status = WaitFor(pid);
    CHILD_CHECK(WIFEXITED(exec_status) && WEXITSTATUS(exec_status) == 0);
  });
  EXPECT_EXITED(status, 0);
}

// The program that the case above executes; before main, so that nothing of gtest runs.
__attribute__((constructor)) void HelperHasTheFiltersOfItsExecer(int argc, char** argv, char**) {
  if (argc < 2 || strcmp(argv[1], "--helper") != 0) return;
  if (syscall(SYS_getppid) != -1 || errno != EXDEV) _exit(1);
  if (prctl(PR_GET_SECCOMP) != 2) _exit(2);
  _exit(0);
}

TEST(SeccompInheritance, AFilterIsOneThreads) {
  int status = RunInChild([] {
    NoNewPrivs();
    std::thread([] {
      CHILD_CHECK(Install(For(SYS_getppid, SECCOMP_RET_ERRNO | EXDEV)) == 0);
      CHILD_CHECK(syscall(SYS_getppid) == -1 && errno == EXDEV);
    }).join();
    CHILD_CHECK(syscall(SYS_getppid) > 0);
    CHILD_CHECK(prctl(PR_GET_SECCOMP) == 0);
    CHILD_CHECK(StatusField("/proc/self/status", "Seccomp") == "0");
    CHILD_CHECK(StatusField("/proc/self/status", "Seccomp_filters") == "0");
  });
  EXPECT_EXITED(status, 0);
}

// A thread that does as told through a flag.
struct Worker {
  std::atomic<int> stage{0};
  std::atomic<pid_t> tid{0};
  std::atomic<int> result{-1}, nnp{-1};
  std::thread thread;
  explicit Worker(std::function<void()> before = [] {}) {
    thread = std::thread([this, before] {
      before();
      tid = static_cast<pid_t>(syscall(SYS_gettid));
      while (stage == 0) sched_yield();
      result = syscall(SYS_getppid) == -1 ? errno : 0;
      nnp = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
    });
    while (tid == 0) sched_yield();
  }
  void Finish() {
    stage = 1;
    thread.join();
  }
};

TEST(SeccompTsync, GivesAllThreadsTheFilterAndNoNewPrivs) {
  int status = RunInChild([] {
    Worker worker;
    NoNewPrivs();
    CHILD_CHECK(Install(For(SYS_getppid, SECCOMP_RET_ERRNO | EXDEV), SECCOMP_FILTER_FLAG_TSYNC) == 0);
    const std::string path = "/proc/self/task/" + std::to_string(worker.tid.load()) + "/status";
    CHILD_CHECK(StatusField(path.c_str(), "Seccomp") == "2");
    CHILD_CHECK(StatusField(path.c_str(), "NoNewPrivs") == "1");
    worker.Finish();
    CHILD_CHECK(worker.result == EXDEV);
    CHILD_CHECK(worker.nnp == 1);
  });
  EXPECT_EXITED(status, 0);
}

TEST(SeccompTsync, ThreadsWithAncestorsFollow) {
  int status = RunInChild([] {
    NoNewPrivs();
    CHILD_CHECK(Install({Ret(SECCOMP_RET_ALLOW)}) == 0);
    Worker worker;
    CHILD_CHECK(Install({Ret(SECCOMP_RET_ALLOW)}) == 0);
    CHILD_CHECK(Install(For(SYS_getppid, SECCOMP_RET_ERRNO | EXDEV), SECCOMP_FILTER_FLAG_TSYNC) == 0);
    worker.Finish();
    CHILD_CHECK(worker.result == EXDEV);
  });
  EXPECT_EXITED(status, 0);
}

TEST(SeccompTsync, NamesTheThreadThatHasGoneItsOwnWay) {
  int status = RunInChild([] {
    NoNewPrivs();
    Worker worker([] { CHILD_CHECK(Install({Ret(SECCOMP_RET_ALLOW)}) == 0); });
    CHILD_CHECK(Install(For(SYS_getppid, SECCOMP_RET_ERRNO | EXDEV), SECCOMP_FILTER_FLAG_TSYNC) == worker.tid);
    CHILD_CHECK(Install(For(SYS_getppid, SECCOMP_RET_ERRNO | EXDEV),
                        SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH) == -1 &&
                errno == ESRCH);
    CHILD_CHECK(prctl(PR_GET_SECCOMP) == 0);
    worker.Finish();
    CHILD_CHECK(worker.result == 0);
  });
  EXPECT_EXITED(status, 0);
}

TEST(Seccomp, SignalHandlersAndRestartsWorkUnderAFilter) {
  int status = RunInChild([] {
    NoNewPrivs();
    CHILD_CHECK(Install(For(SYS_getppid, SECCOMP_RET_ERRNO | EXDEV)) == 0);
    ScopedHandler handler(
        SIGUSR1, [](int) { g_count = g_count + 1; }, SA_RESTART);
    Pipe pipe = MakePipe();
    pid_t self = static_cast<pid_t>(syscall(SYS_gettid)), process = getpid();
    std::thread other([&] {
      CHILD_CHECK(WaitUntilBlocked(self));
      syscall(SYS_tgkill, process, self, SIGUSR1);
      CHILD_CHECK(Eventually([] { return g_count == 1; }));
      CHILD_CHECK(write(pipe.write_end.get(), "x", 1) == 1);
    });
    char c;
    CHILD_CHECK(read(pipe.read_end.get(), &c, 1) == 1);
    other.join();
  });
  EXPECT_EXITED(status, 0);
}

}  // namespace
}  // namespace conformance

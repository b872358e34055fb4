// execve and execveat: arguments, what survives, what does not, every error, #! scripts, exec from any thread.
//
// The program executed is this one: with --helper NAME it does one small thing instead of running tests.
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <vector>

#include "support/support.h"

extern char** environ;

namespace conformance {
namespace {

const char kSelf[] = "/proc/self/exe";

// --- What the executed program does --------------------------------------------------------------------------------

int Helper(int argc, char** argv) {
  const std::string what = argv[2];
  if (what == "exit") return atoi(argv[3]);
  if (what == "arguments") {
    for (int i = 3; i < argc; ++i) printf("[%s]", argv[i]);
    printf("\n");
    for (char** e = environ; *e != nullptr; ++e) printf("<%s>", *e);
    printf("\n");
  }
  if (what == "identity") printf("%d %d %d\n", getpid(), gettid(), getppid());
  if (what == "descriptors") {
    for (int fd = 3; fd < 64; ++fd) {
      if (fcntl(fd, F_GETFD) >= 0) printf("%d ", fd);
    }
    printf("\n");
  }
  if (what == "signals") {
    for (int signo : {SIGUSR1, SIGUSR2, SIGHUP}) {
      struct sigaction action;
      sigaction(signo, nullptr, &action);
      printf("%s ", action.sa_handler == SIG_IGN ? "ignored" : action.sa_handler == SIG_DFL ? "default" : "handler");
    }
    sigset_t set, pending;
    sigprocmask(SIG_BLOCK, nullptr, &set);
    sigpending(&pending);
    stack_t stack;
    sigaltstack(nullptr, &stack);
    printf("blocked %d pending %d altstack %d\n", sigismember(&set, SIGTERM), sigismember(&pending, SIGTERM),
           stack.ss_flags != SS_DISABLE);
  }
  if (what == "auxv") {
    printf("%lu %d %d %s\n", getauxval(AT_PAGESZ), getauxval(AT_RANDOM) != 0, getauxval(AT_SYSINFO_EHDR) != 0,
           reinterpret_cast<const char*>(getauxval(AT_EXECFN)));
  }
  if (what == "threads") {
    std::string status = ReadFile("/proc/self/status");
    printf(
        "%s",
        status.substr(status.find("Threads:"), status.find('\n', status.find("Threads:")) - status.find("Threads:") + 1)
            .c_str());
  }
  if (what == "ids") {
    uid_t r, e, s;
    getresuid(&r, &e, &s);
    printf("%d %d %d dumpable %d\n", r, e, s, prctl(PR_GET_DUMPABLE));
  }
  if (what == "name") {
    char name[16];
    prctl(PR_GET_NAME, name);
    printf("%s\n", name);
  }
  if (what == "stack") {
    // Grows the stack well beyond what exec prepared.
    volatile char big[1 << 20];
    for (size_t i = 0; i < sizeof(big); i += 4096) big[i] = 1;
    printf("grown\n");
  }
  fflush(stdout);
  return 0;
}

// Runs `child` in a child with its stdout in a pipe and returns what it wrote, with "exit N" or "signal N" behind.
std::string Output(const std::function<void()>& child) {
  Pipe p = MakePipe();
  pid_t pid = ForkChild([&] {
    dup2(p.write_end.get(), 1);
    p.write_end.Close();
    p.read_end.Close();
    child();
    _exit(111);
  });
  p.write_end.Close();
  std::string out;
  char buffer[4096];
  ssize_t n;
  while ((n = read(p.read_end.get(), buffer, sizeof(buffer))) > 0) out.append(buffer, n);
  int status = WaitFor(pid);
  return out + (WIFEXITED(status) ? "exit " + std::to_string(WEXITSTATUS(status))
                                  : "signal " + std::to_string(WTERMSIG(status)));
}

std::string Exec(const std::vector<const char*>& helper, const std::vector<const char*>& env = {},
                 const std::function<void()>& before = nullptr) {
  return Output([&] {
    std::vector<const char*> args = {"test", "--helper"};
    args.insert(args.end(), helper.begin(), helper.end());
    args.push_back(nullptr);
    std::vector<const char*> envp = env;
    envp.push_back(nullptr);
    if (before) before();
    execve(kSelf, const_cast<char**>(args.data()), const_cast<char**>(envp.data()));
  });
}

std::string CopyOfSelf(const TempDir& dir, const char* name = "program") {
  EXPECT_TRUE(WriteFile(dir / name, ReadFile(kSelf), 0755));
  return dir / name;
}

// --- Cases ---------------------------------------------------------------------------------------------------------

TEST(Exec, PassesArgumentsAndEnvironment) {
  EXPECT_EQ(Exec({"arguments", "a", "", "c d"}, {"X=1", "EMPTY=", "novalue"}),
            "[a][][c d]\n<X=1><EMPTY=><novalue>\nexit 0");
}

TEST(Exec, LargeArgumentListsArriveWhole) {
  std::string big(100'000, 'x');
  std::vector<const char*> args = {"arguments"};
  for (int i = 0; i < 8; ++i) args.push_back(big.c_str());
  std::string out = Exec(args);
  EXPECT_EQ(std::count(out.begin(), out.end(), 'x'), 800'001) << "(one x is in `exit`)";
}

TEST(Exec, FailsWithE2BIGBeyondTheLimits) {
  std::string too_long(32 * 4096, 'x');  // MAX_ARG_STRLEN, including the NUL.
  char* one[] = {too_long.data(), nullptr};
  EXPECT_ERRNO(execve(kSelf, one, environ), E2BIG);
  std::string big(100'000, 'x');
  std::vector<char*> many(100, big.data());  // 10 MB: more than three quarters of 8 MB, and a quarter of the stack.
  many.push_back(nullptr);
  EXPECT_ERRNO(execve(kSelf, many.data(), environ), E2BIG);
}

TEST(Exec, KeepsPidAndParent) {
  pid_t parent = getpid();
  std::string out = Exec({"identity"});
  int pid, tid, ppid;
  ASSERT_EQ(sscanf(out.c_str(), "%d %d %d", &pid, &tid, &ppid), 3) << out;
  EXPECT_EQ(pid, tid);
  EXPECT_EQ(ppid, parent);
}

TEST(Exec, ClosesCloexecDescriptorsOnly) {
  std::string out = Exec({"descriptors"}, {}, [] {
    syscall(SYS_close_range, 3, ~0u, 0);
    CHILD_CHECK(open("/dev/null", O_RDONLY) == 3);
    CHILD_CHECK(open("/dev/null", O_RDONLY | O_CLOEXEC) == 4);
    CHILD_CHECK(dup2(3, 17) == 17);
    CHILD_CHECK(dup3(3, 18, O_CLOEXEC) == 18);
  });
  EXPECT_EQ(out, "3 17 \nexit 0");
}

TEST(Exec, ResetsHandlersKeepsIgnoredMaskAndPendingSignals) {
  std::string out = Exec({"signals"}, {}, [] {
    signal(SIGUSR1, [](int) {});
    signal(SIGUSR2, SIG_IGN);
    static char stack[65536];
    stack_t alt = {stack, 0, sizeof(stack)};
    sigaltstack(&alt, nullptr);
    sigset_t set = MakeSet({SIGTERM});
    sigprocmask(SIG_BLOCK, &set, nullptr);
    kill(getpid(), SIGTERM);
  });
  EXPECT_EQ(out, "default ignored default blocked 1 pending 1 altstack 0\nexit 0");
}

TEST(Exec, ProvidesTheAuxiliaryVector) { EXPECT_EQ(Exec({"auxv"}), "4096 1 1 /proc/self/exe\nexit 0"); }

TEST(Exec, SetsTheName) {
  TempDir dir;
  std::string program = CopyOfSelf(dir, "a-name-longer-than-fifteen");
  std::string out = Output([&] { execl(program.c_str(), "other", "--helper", "name", nullptr); });
  EXPECT_EQ(out, "a-name-longer-t\nexit 0");
}

TEST(Exec, TheNewStackGrows) { EXPECT_EQ(Exec({"stack"}), "grown\nexit 0"); }

TEST(Exec, AnEmptyArgumentListGetsOneEmptyArgument) {
  // Since Linux 5.18 argc is never 0; the helper then sees no --helper and gtest would run: look at a shell script's
  // $0.
  TempDir dir;
  std::string program = CopyOfSelf(dir);
  char* none[] = {nullptr};
  char* env[] = {const_cast<char*>("GTEST_FILTER=-*"), nullptr};
  int status = RunInChild([&] {
    dup2(open("/dev/null", O_WRONLY), 1);
    execve(program.c_str(), none, env);
  });
  EXPECT_EXITED(status, 0);
}

TEST(Exec, FailsAsDocumented) {
  TempDir dir;
  char* args[] = {const_cast<char*>("x"), nullptr};
  auto try_exec = [&](const std::string& path) { return execve(path.c_str(), args, environ); };
  ASSERT_TRUE(WriteFile(dir / "data", "not a program", 0755));
  ASSERT_TRUE(WriteFile(dir / "empty", "", 0755));
  ASSERT_TRUE(WriteFile(dir / "closed", "x", 0644));
  ASSERT_TRUE(WriteFile(dir / "elf",
                        "\x7f"
                        "ELF garbage",
                        0755));
  ASSERT_TRUE(WriteFile(dir / "no-interpreter", "#!/no/such/interpreter\n", 0755));
  ASSERT_OK(mkdir((dir / "d").c_str(), 0755));
  ASSERT_OK(symlink("loop", (dir / "loop").c_str()));
  EXPECT_ERRNO(try_exec(dir / "absent"), ENOENT);
  EXPECT_ERRNO(try_exec(""), ENOENT);
  EXPECT_ERRNO(try_exec(dir / "data"), ENOEXEC);
  EXPECT_ERRNO(try_exec(dir / "empty"), ENOEXEC);
  EXPECT_ERRNO(try_exec(dir / "elf"), ENOEXEC);
  EXPECT_ERRNO(try_exec(dir / "closed"), EACCES);
  EXPECT_ERRNO(try_exec(dir / "d"), EACCES);
  EXPECT_ERRNO(try_exec(dir / "data/x"), ENOTDIR);
  EXPECT_ERRNO(try_exec(dir / "loop"), ELOOP);
  EXPECT_ERRNO(try_exec(dir / "no-interpreter"), ENOENT);
  EXPECT_ERRNO(try_exec(dir / std::string(256, 'x')), ENAMETOOLONG);
  EXPECT_ERRNO(execve(BadPointer(), args, environ), EFAULT);
  EXPECT_ERRNO(execve(kSelf, reinterpret_cast<char**>(BadPointer()), environ), EFAULT);
  EXPECT_ERRNO(execve(kSelf, args, reinterpret_cast<char**>(BadPointer())), EFAULT);
  char* bad[] = {BadPointer(), nullptr};
  EXPECT_ERRNO(execve(kSelf, bad, environ), EFAULT);
}

TEST(Exec, AFileOpenForWritingIsBusy) {
  TempDir dir;
  std::string program = CopyOfSelf(dir);
  Fd writer(open(program.c_str(), O_WRONLY));
  char* args[] = {const_cast<char*>("x"), nullptr};
  EXPECT_ERRNO(execve(program.c_str(), args, environ), ETXTBSY);
}

TEST(Script, RunsItsInterpreterWithOneArgument) {
  TempDir dir;
  std::string program = CopyOfSelf(dir, "p");
  // The kernel passes everything behind the interpreter as one argument.
  ASSERT_TRUE(WriteFile(dir / "script", "#! " + program + "   --helper-script arg with spaces  \nbody\n", 0755));
  std::string out = Output([&] { execl((dir / "script").c_str(), "ignored", "one", "two", nullptr); });
  EXPECT_EQ(out, "[--helper-script arg with spaces][" + (dir / "script") + "][one][two]\nexit 0");
}

TEST(Script, NestsAndEndsInELOOP) {
  TempDir dir;
  std::string program = CopyOfSelf(dir, "p");
  ASSERT_TRUE(WriteFile(dir / "s0", "#!" + program + " --helper-script\n", 0755));
  for (int i = 1; i < 8; ++i) {
    ASSERT_TRUE(WriteFile(dir / ("s" + std::to_string(i)), "#!" + (dir / ("s" + std::to_string(i - 1))) + "\n", 0755));
  }
  std::string out = Output([&] { execl((dir / "s3").c_str(), "x", nullptr); });
  EXPECT_NE(out.find("[--helper-script][" + (dir / "s0") + "][" + (dir / "s1") + "]"), std::string::npos) << out;
  ASSERT_TRUE(WriteFile(dir / "self", "#!" + (dir / "self") + "\n", 0755));
  char* args[] = {const_cast<char*>("x"), nullptr};
  EXPECT_ERRNO(execve((dir / "self").c_str(), args, environ), ELOOP);
}

TEST(Execveat, TakesADirectoryADescriptorAndFlags) {
  TempDir dir;
  CopyOfSelf(dir);
  Fd d(open(dir.path().c_str(), O_RDONLY)), file(open((dir / "program").c_str(), O_RDONLY));
  ASSERT_OK(symlink("program", (dir / "link").c_str()));
  const char* args[] = {"x", "--helper", "exit", "7", nullptr};
  auto run = [&](int fd, const char* path, int flags) {
    return RunInChild([&] { _exit(syscall(SYS_execveat, fd, path, args, environ, flags) == -1 ? errno + 100 : 0); });
  };
  EXPECT_EXITED(run(d.get(), "program", 0), 7);
  EXPECT_EXITED(run(file.get(), "", AT_EMPTY_PATH), 7);
  EXPECT_EXITED(run(d.get(), "link", 0), 7);
  EXPECT_EXITED(run(d.get(), "link", AT_SYMLINK_NOFOLLOW), ELOOP + 100);
  EXPECT_EXITED(run(file.get(), "", 0), ENOENT + 100);
  EXPECT_EXITED(run(-5, "program", 0), EBADF + 100);
  EXPECT_EXITED(run(d.get(), "program", 0x1), EINVAL + 100);
}

TEST(Exec, SetuidProgramsChangeTheEffectiveUser) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  TempDir dir;
  ASSERT_OK(chmod(dir.path().c_str(), 0755));
  std::string program = CopyOfSelf(dir);
  ASSERT_OK(chown(program.c_str(), 4321, 4321));
  ASSERT_OK(chmod(program.c_str(), 04755));
  auto run = [&](bool no_new_privs) {
    return Output([&] {
      CHILD_CHECK(setresuid(1000, 1000, 1000) == 0);
      if (no_new_privs) CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
      execl(program.c_str(), "x", "--helper", "ids", nullptr);
    });
  };
  std::string out = run(false);
  EXPECT_EQ(out.substr(0, 14), "1000 4321 4321") << out;
  out = run(true);
  EXPECT_EQ(out.substr(0, 14), "1000 1000 1000") << out;
}

TEST(Exec, FromAThreadThatIsNotTheLeader) {
  // The executing thread takes the leader's place: pid and tid are what getpid() was, and it is alone.
  static pid_t pid;
  std::string out = Output([] {
    pid = getpid();
    dprintf(1, "%d ", pid);
    for (int i = 0; i < 3; ++i) {
      pthread_t idle;
      pthread_create(
          &idle, nullptr,
          +[](void*) -> void* {
            for (;;) pause();
          },
          nullptr);
    }
    pthread_t thread;
    pthread_create(
        &thread, nullptr,
        +[](void*) -> void* {
          execl(kSelf, "x", "--helper", "identity", nullptr);
          _exit(112);
        },
        nullptr);
    for (;;) pause();
  });
  int before, after, tid;
  ASSERT_EQ(sscanf(out.c_str(), "%d %d %d", &before, &after, &tid), 3) << out;
  EXPECT_EQ(before, after);
  EXPECT_EQ(tid, after);
}

TEST(Exec, FromAThreadWhoseLeaderHasEnded) {
  TempDir dir;
  // Not /proc/self/exe: that link is gone together with the leader.
  static std::string program;
  program = CopyOfSelf(dir);
  std::string out = Output([] {
    pthread_t thread;
    pthread_create(
        &thread, nullptr,
        +[](void*) -> void* {
          Eventually([] { return ThreadState(getpid()) == 'Z'; });
          execl(program.c_str(), "x", "--helper", "threads", nullptr);
          _exit(112);
        },
        nullptr);
    syscall(SYS_exit, 0);
  });
  EXPECT_NE(out.find("Threads:\t1\nexit 0"), std::string::npos) << out;
}

TEST(Exec, AParentWaitsForTheProcessAndNotForTheThread) {
  pid_t pid = ForkChild([] {
    pthread_t thread;
    pthread_create(
        &thread, nullptr,
        +[](void*) -> void* {
          execl(kSelf, "x", "--helper", "exit", "23", nullptr);
          _exit(112);
        },
        nullptr);
    for (;;) pause();
  });
  EXPECT_EXITED(WaitFor(pid), 23);
}

TEST(Exec, AFailedExecFromAThreadLeavesEverythingAlone) {
  int status = RunInChild([] {
    static std::atomic<int> running;
    pthread_t thread, idle;
    pthread_create(
        &idle, nullptr,
        +[](void*) -> void* {
          running = 1;
          for (;;) pause();
        },
        nullptr);
    CHILD_CHECK(Eventually([] { return running == 1; }));
    pthread_create(
        &thread, nullptr,
        +[](void*) -> void* {
          execl("/no/such/program", "x", nullptr);
          return reinterpret_cast<void*>(static_cast<long>(errno));
        },
        nullptr);
    void* result;
    pthread_join(thread, &result);
    CHILD_CHECK(result == reinterpret_cast<void*>(ENOENT));
    // The thread is joined before it is gone.
    CHILD_CHECK(Eventually([] { return ReadFile("/proc/self/status").find("Threads:\t2") != std::string::npos; }));
  });
  EXPECT_EXITED(status, 0);
}

TEST(Exec, ReleasesAVforkParent) {
  pid_t pid = vfork();
  if (pid == 0) {
    execl(kSelf, "x", "--helper", "exit", "5", nullptr);
    _exit(1);
  }
  ASSERT_GT(pid, 0);
  EXPECT_EXITED(WaitFor(pid), 5);
}

TEST(Exec, MemoryOfTheOldProgramIsGone) {
  // A shared mapping stays with the parent; the executed program has a new address space.
  Mapping shared(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  EXPECT_EQ(Exec({"exit", "0"}, {}, [&] { shared.get()[0] = 1; }), "exit 0");
  EXPECT_EQ(shared.get()[0], 1);
}

TEST(Exec, ResourceLimitsAndDirectoriesSurvive) {
  TempDir dir;
  std::string program = CopyOfSelf(dir);
  int status = RunInChild([&] {
    CHILD_CHECK(chdir(dir.path().c_str()) == 0);
    execl("./program", "x", "--helper", "exit", "9", nullptr);
  });
  EXPECT_EXITED(status, 9);
}

}  // namespace

int ExecHelper(int argc, char** argv) {
  if (argc >= 3 && strcmp(argv[1], "--helper") == 0) return Helper(argc, argv);
  if (argc >= 2 && strncmp(argv[1], "--helper-script", 15) == 0) {
    for (int i = 1; i < argc; ++i) printf("[%s]", argv[i]);
    printf("\n");
    fflush(stdout);
    return 0;
  }
  return -1;
}

// Runs before main, so that a helper never meets gtest.
__attribute__((constructor)) static void RunHelper(int argc, char** argv, char**) {
  int status = ExecHelper(argc, argv);
  if (status >= 0) _exit(status);
}

}  // namespace conformance

// /proc: the contents that programs parse (ps, free, the C library), and that they tell the truth.
#include <dirent.h>
#include <limits.h>
#include <linux/magic.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/vfs.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <set>
#include <sstream>
#include <thread>
#include <vector>

#include "support/support.h"

namespace conformance {
namespace {

std::string Proc(pid_t pid, const std::string& name) { return "/proc/" + std::to_string(pid) + "/" + name; }

// "Key:\tvalue" lines.
std::map<std::string, std::string> Fields(const std::string& path) {
  std::map<std::string, std::string> fields;
  std::istringstream in(ReadFile(path));
  for (std::string line; std::getline(in, line);) {
    size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    size_t value = line.find_first_not_of(" \t", colon + 1);
    fields[line.substr(0, colon)] = value == std::string::npos ? "" : line.substr(value);
  }
  return fields;
}

std::vector<std::string> Words(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

std::string Link(const std::string& path) {
  char buffer[PATH_MAX];
  ssize_t n = readlink(path.c_str(), buffer, sizeof(buffer));
  return n < 0 ? std::string("!") + strerrorname_np(errno) : std::string(buffer, n);
}

std::set<std::string> Names(const std::string& path) {
  std::set<std::string> names;
  DIR* d = opendir(path.c_str());
  if (d == nullptr) return names;
  while (dirent* e = readdir(d)) names.insert(e->d_name);
  closedir(d);
  return names;
}

TEST(Proc, IsItself) {
  struct statfs st;
  ASSERT_OK(statfs("/proc", &st));
  EXPECT_EQ(st.f_type, PROC_SUPER_MAGIC);
  EXPECT_EQ(Link("/proc/self"), std::to_string(getpid()));
  EXPECT_EQ(Link("/proc/thread-self"), std::to_string(getpid()) + "/task/" + std::to_string(gettid()));
  std::set<std::string> names = Names("/proc");
  for (const char* name : {"1", "self", "cpuinfo", "meminfo", "mounts", "stat", "uptime", "loadavg", "version", "sys",
                           "filesystems", "cmdline"}) {
    EXPECT_TRUE(names.count(name)) << name;
  }
  EXPECT_TRUE(names.count(std::to_string(getpid())));
  EXPECT_ERRNO(open("/proc/new", O_CREAT | O_WRONLY, 0644), ENOENT);
  EXPECT_ERRNO(mkdir("/proc/new", 0755), ENOENT);
  EXPECT_ERRNO(access("/proc/99999999", F_OK), ENOENT);
}

TEST(Proc, StatusDescribesTheProcess) {
  auto fields = Fields("/proc/self/status");
  EXPECT_EQ(fields["Pid"], std::to_string(getpid()));
  EXPECT_EQ(fields["PPid"], std::to_string(getppid()));
  EXPECT_EQ(fields["Tgid"], std::to_string(getpid()));
  EXPECT_EQ(fields["Name"] + "\n", ReadFile("/proc/self/comm"));
  EXPECT_EQ(fields["State"].substr(0, 1), "R");
  EXPECT_EQ(fields["Threads"], "1");
  std::string uid = std::to_string(getuid());
  EXPECT_EQ(fields["Uid"], uid + "\t" + uid + "\t" + uid + "\t" + uid);
  EXPECT_TRUE(fields.count("VmRSS"));
  EXPECT_TRUE(fields.count("VmSize"));
  EXPECT_EQ(fields["CapEff"].size(), 16u);
  EXPECT_EQ(fields["NoNewPrivs"], "0");
}

TEST(Proc, SignalMasksAreShown) {
  ScopedBlock block({SIGUSR1, SIGTERM});
  ScopedHandler ignored(SIGUSR2, SIG_IGN);
  ScopedHandler caught(
      SIGHUP, +[](int) {});
  kill(getpid(), SIGUSR1);
  auto fields = Fields("/proc/self/status");
  auto bit = [](int signo) { return 1ull << (signo - 1); };
  EXPECT_EQ(std::stoull(fields["SigBlk"], nullptr, 16), bit(SIGUSR1) | bit(SIGTERM));
  EXPECT_EQ(std::stoull(fields["ShdPnd"], nullptr, 16), bit(SIGUSR1));
  EXPECT_EQ(std::stoull(fields["SigIgn"], nullptr, 16), bit(SIGUSR2));
  EXPECT_EQ(std::stoull(fields["SigCgt"], nullptr, 16) & bit(SIGHUP), bit(SIGHUP));
  sigset_t set = MakeSet({SIGUSR1});
  int signo;
  sigwait(&set, &signo);
}

TEST(Proc, StatHasFiftyTwoFields) {
  char name[16];
  prctl(PR_GET_NAME, name);
  prctl(PR_SET_NAME, "a) (b c");
  std::string stat = ReadFile("/proc/self/stat");
  prctl(PR_SET_NAME, name);
  EXPECT_EQ(stat.find(std::to_string(getpid()) + " (a) (b c) "), 0u) << stat;
  std::vector<std::string> words = Words(stat.substr(stat.rfind(')') + 2));
  EXPECT_EQ(words.size(), 50u);
  EXPECT_EQ(words[1], std::to_string(getppid()));
  EXPECT_EQ(words[2], std::to_string(getpgrp()));
  EXPECT_EQ(words[3], std::to_string(getsid(0)));
  EXPECT_EQ(words[17], "1") << "threads";
  EXPECT_GT(std::stoull(words[20]), 0u) << "vsize";
}

TEST(Proc, StateLettersFollow) {
  ChildGuard child(ForkChild([] {
    for (;;) pause();
  }));
  EXPECT_TRUE(Eventually([&] { return ThreadState(child.pid()) == 'S'; }));
  kill(child.pid(), SIGSTOP);
  EXPECT_TRUE(Eventually([&] { return ThreadState(child.pid()) == 'T'; }));
  kill(child.pid(), SIGKILL);
  EXPECT_TRUE(Eventually([&] { return ThreadState(child.pid()) == 'Z'; }));
  EXPECT_EQ(Fields(Proc(child.pid(), "status"))["State"].substr(0, 1), "Z");
  EXPECT_EQ(ReadFile(Proc(child.pid(), "cmdline")), "");
  child.Wait();
  EXPECT_ERRNO(access(Proc(child.pid(), "status").c_str(), F_OK), ENOENT);
}

TEST(Proc, CmdlineEnvironAndComm) {
  std::string cmdline = ReadFile("/proc/self/cmdline");
  EXPECT_FALSE(cmdline.empty());
  EXPECT_EQ(cmdline.back(), '\0');
  EXPECT_NE(cmdline.find("--gtest_filter"), std::string::npos);
  const std::string before = ReadFile("/proc/self/comm");
  Fd comm(open("/proc/self/comm", O_WRONLY));
  ASSERT_FD(comm);
  ASSERT_EQ(write(comm.get(), "renamed", 7), 7);
  EXPECT_EQ(ReadFile("/proc/self/comm"), "renamed\n");
  ASSERT_EQ(write(comm.get(), before.data(), before.size() - 1), static_cast<ssize_t>(before.size() - 1));
  EXPECT_TRUE(ReadFile("/proc/self/environ").find('=') != std::string::npos);
}

TEST(Proc, LinksOfAProcess) {
  char cwd[PATH_MAX];
  ASSERT_NE(getcwd(cwd, sizeof(cwd)), nullptr);
  EXPECT_EQ(Link("/proc/self/cwd"), cwd);
  EXPECT_EQ(Link("/proc/self/root"), "/");
  std::string exe = Link("/proc/self/exe");
  EXPECT_EQ(exe[0], '/');
  struct stat a, b;
  ASSERT_OK(stat("/proc/self/exe", &a));
  ASSERT_OK(stat(exe.c_str(), &b));
  EXPECT_EQ(a.st_ino, b.st_ino);
  ASSERT_OK(stat("/proc/self/root", &a));
  ASSERT_OK(stat("/", &b));
  EXPECT_EQ(a.st_ino, b.st_ino);
}

TEST(Proc, FdListsTheDescriptors) {
  TempDir dir;
  Fd file(open((dir / "f").c_str(), O_RDWR | O_CREAT, 0644));
  Pipe p = MakePipe();
  SocketPair s = MakeSocketPair();
  auto link = [](const Fd& fd) { return Link("/proc/self/fd/" + std::to_string(fd.get())); };
  EXPECT_EQ(link(file), dir / "f");
  EXPECT_EQ(link(p.read_end).substr(0, 6), "pipe:[");
  EXPECT_EQ(link(p.read_end), link(p.write_end));
  EXPECT_EQ(link(s.a).substr(0, 8), "socket:[");
  EXPECT_NE(link(s.a), link(s.b));
  std::set<std::string> names = Names("/proc/self/fd");
  EXPECT_TRUE(names.count(std::to_string(file.get())));
  const int number = file.get();
  ASSERT_OK(unlink((dir / "f").c_str()));
  EXPECT_EQ(link(file), (dir / "f") + " (deleted)");
  file.Close();
  EXPECT_EQ(Link("/proc/self/fd/" + std::to_string(number)), "!ENOENT");
  struct stat st;
  ASSERT_OK(lstat(("/proc/self/fd/" + std::to_string(p.read_end.get())).c_str(), &st));
  EXPECT_EQ(st.st_mode, S_IFLNK | 0500u);
}

TEST(Proc, FdinfoTellsPositionAndFlags) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", "0123456789"));
  Fd fd(open((dir / "f").c_str(), O_RDWR | O_APPEND | O_CLOEXEC));
  ASSERT_EQ(lseek(fd.get(), 7, SEEK_SET), 7);
  auto fields = Fields("/proc/self/fdinfo/" + std::to_string(fd.get()));
  EXPECT_EQ(fields["pos"], "7");
  EXPECT_EQ(std::stoul(fields["flags"], nullptr, 8) & (O_ACCMODE | O_APPEND | O_CLOEXEC),
            O_RDWR | O_APPEND | O_CLOEXEC);
}

TEST(Proc, MapsDescribeMemory) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "mapped file", std::string(3 * kPage, 'x')));
  Fd fd(open((dir / "mapped file").c_str(), O_RDWR));
  Mapping file(2 * kPage, PROT_READ, MAP_SHARED, fd.get(), kPage),
      anonymous(3 * kPage, PROT_READ | PROT_WRITE | PROT_EXEC);
  std::string maps = ReadFile("/proc/self/maps");
  char line[200];
  struct stat st;
  ASSERT_OK(fstat(fd.get(), &st));
  snprintf(line, sizeof(line), "%lx-%lx r--s 00001000 ", reinterpret_cast<unsigned long>(file.get()),
           reinterpret_cast<unsigned long>(file.get() + 2 * kPage));
  size_t at = maps.find(line);
  ASSERT_NE(at, std::string::npos) << maps;
  std::string rest = maps.substr(at, maps.find('\n', at) - at);
  EXPECT_NE(rest.find(" " + std::to_string(st.st_ino) + " "), std::string::npos) << rest;
  EXPECT_EQ(rest.substr(rest.size() - 12), "/mapped file");
  EXPECT_NE(maps.find("rwxp 00000000 00:00 0"), std::string::npos);
  EXPECT_NE(maps.find("[stack]"), std::string::npos);
  EXPECT_NE(maps.find("[heap]"), std::string::npos);
  // Addresses rise and do not overlap.
  std::istringstream in(maps);
  unsigned long last = 0, start, end;
  for (std::string l; std::getline(in, l);) {
    ASSERT_EQ(sscanf(l.c_str(), "%lx-%lx", &start, &end), 2) << l;
    ASSERT_GE(start, last);
    ASSERT_LT(start, end);
    last = end;
  }
}

TEST(Proc, SmapsAndStatmCountPages) {
  Mapping map(100 * kPage, PROT_READ | PROT_WRITE);
  memset(map.get(), 1, 100 * kPage);
  std::vector<std::string> statm = Words(ReadFile("/proc/self/statm"));
  ASSERT_EQ(statm.size(), 7u);
  EXPECT_GE(std::stoul(statm[0]), std::stoul(statm[1]));
  EXPECT_GE(std::stoul(statm[1]), 100u);
  std::string smaps = ReadFile("/proc/self/smaps");
  EXPECT_NE(smaps.find("Rss:"), std::string::npos);
  EXPECT_NE(smaps.find("Private_Dirty:"), std::string::npos);
}

TEST(Proc, MemReachesTheProcessesMemory) {
  char secret[] = "readable through mem";
  Fd mem(open("/proc/self/mem", O_RDWR));
  ASSERT_FD(mem);
  char buffer[32] = {};
  ASSERT_EQ(pread(mem.get(), buffer, sizeof(secret), reinterpret_cast<off_t>(secret)),
            static_cast<ssize_t>(sizeof(secret)));
  EXPECT_STREQ(buffer, secret);
  ASSERT_EQ(pwrite(mem.get(), "W", 1, reinterpret_cast<off_t>(secret)), 1);
  EXPECT_EQ(static_cast<volatile char*>(secret)[0], 'W');
  EXPECT_ERRNO(pread(mem.get(), buffer, 1, 16), EIO);
}

TEST(Proc, TaskListsTheThreads) {
  static std::atomic<bool> stop;
  stop = false;
  std::vector<std::thread> threads;
  std::vector<std::atomic<pid_t>> tids(3);
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&, i] {
      tids[i] = gettid();
      while (!stop) SleepMs(1);
    });
  }
  for (auto& tid : tids) ASSERT_TRUE(Eventually([&] { return tid != 0; }));
  std::set<std::string> names = Names("/proc/self/task");
  EXPECT_EQ(names.size(), 6u);  // Four threads, . and ..
  for (auto& tid : tids) {
    EXPECT_TRUE(names.count(std::to_string(tid)));
    auto fields = Fields("/proc/self/task/" + std::to_string(tid) + "/status");
    EXPECT_EQ(fields["Pid"], std::to_string(tid));
    EXPECT_EQ(fields["Tgid"], std::to_string(getpid()));
    // A thread can be found by its number, but is not listed.
    EXPECT_OK(access(("/proc/" + std::to_string(tid)).c_str(), F_OK));
    EXPECT_FALSE(Names("/proc").count(std::to_string(tid)));
  }
  stop = true;
  for (auto& t : threads) t.join();
}

TEST(Proc, LimitsAreShown) {
  EXPECT_EXITED(RunInChild([] {
                  rlimit limit = {33, 44};
                  CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
                  std::string text = ReadFile("/proc/self/limits");
                  size_t at = text.find("Max open files");
                  CHILD_CHECK(at != std::string::npos);
                  std::vector<std::string> words = Words(text.substr(at, text.find('\n', at) - at));
                  CHILD_CHECK(words[3] == "33" && words[4] == "44" && words[5] == "files");
                }),
                0);
}

TEST(Proc, MountsNameTheRootAndProc) {
  std::string mounts = ReadFile("/proc/mounts");
  EXPECT_NE(mounts.find(" / "), std::string::npos);
  EXPECT_NE(mounts.find(" /proc proc "), std::string::npos);
  EXPECT_EQ(Link("/proc/mounts"), "self/mounts");
  std::string info = ReadFile("/proc/self/mountinfo");
  std::istringstream in(info);
  bool root = false;
  for (std::string line; std::getline(in, line);) {
    std::vector<std::string> words = Words(line);
    ASSERT_GE(words.size(), 10u) << line;
    EXPECT_NE(std::find(words.begin(), words.end(), "-"), words.end()) << line;
    root = root || words[4] == "/";
  }
  EXPECT_TRUE(root);
}

TEST(Proc, SystemFilesHaveTheirForm) {
  auto meminfo = Fields("/proc/meminfo");
  EXPECT_GT(atol(meminfo["MemTotal"].c_str()), 0);
  EXPECT_GE(atol(meminfo["MemTotal"].c_str()), atol(meminfo["MemFree"].c_str()));
  EXPECT_TRUE(meminfo.count("MemAvailable"));
  struct sysinfo info;
  ASSERT_OK(sysinfo(&info));
  EXPECT_NEAR(static_cast<double>(info.totalram) * info.mem_unit / 1024, atof(meminfo["MemTotal"].c_str()),
              1024.0 * 1024);
  std::string cpuinfo = ReadFile("/proc/cpuinfo");
  long processors = 0;
  for (size_t at = 0; (at = cpuinfo.find("processor\t:", at)) != std::string::npos; ++at) ++processors;
  EXPECT_GE(processors, sysconf(_SC_NPROCESSORS_ONLN));
  EXPECT_NE(cpuinfo.find("model name"), std::string::npos);
  EXPECT_NE(cpuinfo.find("flags"), std::string::npos);
  std::vector<std::string> uptime = Words(ReadFile("/proc/uptime"));
  ASSERT_EQ(uptime.size(), 2u);
  EXPECT_GE(atof(uptime[0].c_str()), 0);
  EXPECT_EQ(Words(ReadFile("/proc/loadavg")).size(), 5u);
  EXPECT_EQ(ReadFile("/proc/version").find("Linux version "), 0u);
  std::string stat = ReadFile("/proc/stat");
  EXPECT_EQ(stat.find("cpu "), 0u);
  EXPECT_NE(stat.find("\nbtime "), std::string::npos);
  EXPECT_NE(ReadFile("/proc/filesystems").find("tmpfs"), std::string::npos);
}

TEST(ProcSys, CommonFilesExist) {
  EXPECT_EQ(ReadFile("/proc/sys/kernel/ostype"), "Linux\n");
  for (const char* name : {"kernel/hostname", "kernel/osrelease", "kernel/version", "kernel/pid_max",
                           "kernel/random/uuid", "kernel/random/boot_id", "kernel/cap_last_cap", "vm/overcommit_memory",
                           "vm/max_map_count", "fs/pipe-max-size", "fs/file-max", "fs/nr_open", "kernel/threads-max"}) {
    EXPECT_NE(ReadFile("/proc/sys/" + std::string(name)), "") << name;
  }
  EXPECT_NE(ReadFile("/proc/sys/kernel/random/uuid"), ReadFile("/proc/sys/kernel/random/uuid"));
  EXPECT_EQ(ReadFile("/proc/sys/kernel/random/boot_id"), ReadFile("/proc/sys/kernel/random/boot_id"));
}

TEST(Proc, FilesCanBeReadInPieces) {
  Fd fd(open("/proc/self/status", O_RDONLY));
  std::string pieces;
  char buffer[7];
  ssize_t n;
  while ((n = read(fd.get(), buffer, sizeof(buffer))) > 0) pieces.append(buffer, n);
  EXPECT_NE(pieces.find("voluntary_ctxt_switches"), std::string::npos);
  ASSERT_EQ(lseek(fd.get(), 0, SEEK_SET), 0);
  char name[5] = {};
  EXPECT_EQ(read(fd.get(), name, 4), 4);
  EXPECT_STREQ(name, "Name");
  struct stat st;
  ASSERT_OK(fstat(fd.get(), &st));
  EXPECT_EQ(st.st_size, 0);
}

TEST(Proc, OtherUsersProcessesAreGuarded) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  ChildGuard child(ForkChild([] {
    for (;;) pause();
  }));
  EXPECT_EXITED(RunInChild([&] {
                  CHILD_CHECK(setresuid(1234, 1234, 1234) == 0);
                  CHILD_CHECK(Link(Proc(child.pid(), "exe")) == "!EACCES");
                  CHILD_CHECK(open(Proc(child.pid(), "mem").c_str(), O_RDONLY) == -1 && errno == EACCES);
                  CHILD_CHECK(open(Proc(child.pid(), "environ").c_str(), O_RDONLY) == -1 && errno == EACCES);
                  CHILD_CHECK(open(Proc(child.pid(), "status").c_str(), O_RDONLY) >= 0);
                }),
                0);
}

TEST(Proc, AnOpenFileOfADeadProcessGivesESRCH) {
  pid_t pid = ForkChild([] {
    for (;;) pause();
  });
  Fd dir(open(("/proc/" + std::to_string(pid)).c_str(), O_RDONLY | O_DIRECTORY));
  Fd status(open(Proc(pid, "status").c_str(), O_RDONLY));
  kill(pid, SIGKILL);
  WaitFor(pid);
  char c;
  EXPECT_ERRNO(read(status.get(), &c, 1), ESRCH);
  EXPECT_ERRNO(openat(dir.get(), "status", O_RDONLY), ESRCH);
}

TEST(Proc, PagemapSaysWhichPagesThereAre) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  // Large, so that it is not made of pages that were there before.
  constexpr size_t kBytes = 64 << 20, kFar = 8000;
  char* m = static_cast<char*>(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(m, MAP_FAILED);
  ASSERT_OK(madvise(m, kBytes, MADV_NOHUGEPAGE));
  m[3 * page] = 1;
  Fd fd(open("/proc/self/pagemap", O_RDONLY));
  ASSERT_FD(fd);
  std::vector<uint64_t> entries(kBytes / page);
  const off_t at = static_cast<off_t>(reinterpret_cast<uintptr_t>(m) / page * 8);
  const size_t bytes = entries.size() * 8;
  ASSERT_EQ(pread(fd.get(), entries.data(), bytes, at), static_cast<ssize_t>(bytes));
  EXPECT_EQ(entries[kFar] >> 63, 0u);
  EXPECT_EQ(entries[3] >> 63, 1u);
  EXPECT_EQ(entries[3] >> 62 & 1, 0u) << "swapped";
  EXPECT_EQ(entries[3] >> 61 & 1, 0u) << "of a file";
  EXPECT_EQ(entries[3] >> 56 & 1, 1u) << "mapped exclusively";
  EXPECT_ERRNO(pread(fd.get(), entries.data(), 7, at), EINVAL);
  EXPECT_ERRNO(pread(fd.get(), entries.data(), 8, at + 1), EINVAL);
  EXPECT_EQ(pread(fd.get(), entries.data(), 8, int64_t{1} << 50), 0);
  munmap(m, kBytes);
}

TEST(Proc, MapFilesNamesTheMappedFiles) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "mapped", std::string(8192, 'x')));
  Fd fd(open((dir / "mapped").c_str(), O_RDWR));
  ASSERT_FD(fd);
  void* m = mmap(nullptr, 8192, PROT_READ, MAP_SHARED, fd.get(), 0);
  ASSERT_NE(m, MAP_FAILED);
  char name[64];
  const auto address = reinterpret_cast<uintptr_t>(m);
  snprintf(name, sizeof(name), "%lx-%lx", address, address + 8192);
  EXPECT_TRUE(Names("/proc/self/map_files").contains(name));
  const std::string link = std::string("/proc/self/map_files/") + name;
  EXPECT_EQ(Link(link), dir / "mapped");
  EXPECT_EQ(Link("/proc/self/map_files/1000-2000"), "!ENOENT");
  EXPECT_EQ(Link("/proc/self/map_files/nonsense"), "!ENOENT");
  if (geteuid() == 0) {
    EXPECT_EQ(ReadFile(link).size(), 8192u);
  }
  munmap(m, 8192);
  EXPECT_EQ(Link(link), "!ENOENT");
}

TEST(Proc, ClearRefsTakesFiveKindsOfOrders) {
  Fd fd(open("/proc/self/clear_refs", O_WRONLY));
  ASSERT_FD(fd);
  for (std::string order : {"1", "2\n", "3", "5"})
    EXPECT_EQ(write(fd.get(), order.data(), order.size()), static_cast<ssize_t>(order.size()));
  for (const char* order : {"0", "6", "x"}) EXPECT_ERRNO(write(fd.get(), order, 1), EINVAL);
  // 5: the peak starts anew.
  const size_t big = 64 << 20;
  void* m = mmap(nullptr, big, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(m, MAP_FAILED);
  memset(m, 1, big);
  EXPECT_GE(atoi(Fields("/proc/self/status")["VmHWM"].c_str()), 64 << 10);
  munmap(m, big);
  EXPECT_GE(atoi(Fields("/proc/self/status")["VmHWM"].c_str()), 64 << 10);
  EXPECT_EQ(write(fd.get(), "5", 1), 1);
  EXPECT_LT(atoi(Fields("/proc/self/status")["VmHWM"].c_str()), 64 << 10);
}

TEST(Proc, IoCountsReadsAndWrites) {
  TempDir dir;
  Fd fd(open((dir / "f").c_str(), O_RDWR | O_CREAT, 0600));
  ASSERT_FD(fd);
  auto count = [](const char* name) { return strtoull(Fields("/proc/self/io")[name].c_str(), nullptr, 10); };
  const uint64_t wchar = count("wchar"), syscw = count("syscw");
  std::vector<char> data(100'000);
  for (int i = 0; i < 10; ++i) ASSERT_EQ(write(fd.get(), data.data(), data.size()), 100'000);
  EXPECT_EQ(count("wchar"), wchar + 1'000'000);
  EXPECT_EQ(count("syscw"), syscw + 10);
  const uint64_t rchar = count("rchar"), syscr = count("syscr");
  for (int i = 0; i < 10; ++i) ASSERT_EQ(pread(fd.get(), data.data(), data.size(), 0), 100'000);
  EXPECT_GE(count("rchar"), rchar + 1'000'000);
  EXPECT_LE(count("rchar"), rchar + 1'010'000);
  EXPECT_GE(count("syscr"), syscr + 10);
  // A thread's and a child's count too.
  const uint64_t before = count("wchar");
  std::thread([&] { EXPECT_EQ(write(fd.get(), data.data(), 1000), 1000); }).join();
  int status = RunInChild([&] { CHILD_CHECK(write(fd.get(), data.data(), 500) == 500); });
  EXPECT_EXITED(status, 0);
  EXPECT_GE(count("wchar"), before + 1500);
}

}  // namespace
}  // namespace conformance

// man 5 proc: what processes see of themselves and of each other.
#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/prctl.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <sstream>
#include <vector>

#include "support/support.h"

using namespace conformance;

namespace {

std::string Of(pid_t pid, const std::string& name) { return "/proc/" + std::to_string(pid) + "/" + name; }

// The fields of a stat file after the name.
std::vector<std::string> StatFields(const std::string& text) {
  std::istringstream in(text.substr(text.rfind(')') + 1));
  std::vector<std::string> fields;
  for (std::string f; in >> f;) fields.push_back(f);
  return fields;
}

std::string StatusField(const std::string& path, const std::string& name) {
  std::istringstream in(ReadFile(path));
  for (std::string line; std::getline(in, line);) {
    if (line.rfind(name + ":", 0) == 0) return line.substr(line.find_first_not_of("\t ", name.size() + 1));
  }
  return "";
}

std::string LinkText(const std::string& path) {
  char text[4096];
  const ssize_t n = readlink(path.c_str(), text, sizeof(text));
  return n < 0 ? "" : std::string(text, n);
}

std::vector<std::string> Names(int fd) {
  std::vector<std::string> names;
  DIR* dir = fdopendir(dup(fd));
  if (dir == nullptr) return names;
  rewinddir(dir);
  while (dirent* e = readdir(dir)) {
    if (e->d_name[0] != '.') names.push_back(e->d_name);
  }
  closedir(dir);
  return names;
}

pid_t SleepingChild() {
  return ForkChild([] {
    for (;;) pause();
  });
}

TEST(Proc, SelfIsTheReader) {
  EXPECT_EQ(LinkText("/proc/self"), std::to_string(getpid()));
  EXPECT_EQ(LinkText("/proc/thread-self"), std::to_string(getpid()) + "/task/" + std::to_string(gettid()));
  EXPECT_EXITED(RunInChild([] { CHILD_CHECK(LinkText("/proc/self") == std::to_string(getpid())); }), 0);
}

TEST(Proc, StatNamesTheProcessAndItsParent) {
  const std::string stat = ReadFile("/proc/self/stat");
  EXPECT_EQ(stat.substr(0, stat.find(' ')), std::to_string(getpid()));
  const std::vector<std::string> fields = StatFields(stat);
  ASSERT_EQ(fields.size(), 50u);
  EXPECT_EQ(fields[0], "R");
  EXPECT_EQ(fields[1], std::to_string(getppid()));
  EXPECT_EQ(fields[2], std::to_string(getpgrp()));
  EXPECT_EQ(fields[3], std::to_string(getsid(0)));
  EXPECT_EQ(fields[17], "1");                      // num_threads
  EXPECT_EQ(fields[35], std::to_string(SIGCHLD));  // exit_signal
  const uint64_t start_stack = std::stoull(fields[25]);
  EXPECT_GE(start_stack, reinterpret_cast<uint64_t>(&fields));
}

TEST(Proc, StatusShowsIdsAndSignals) {
  sigset_t set, old;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  sigprocmask(SIG_BLOCK, &set, &old);
  EXPECT_EQ(StatusField("/proc/self/status", "SigBlk"), "0000000000000800");
  sigprocmask(SIG_SETMASK, &old, nullptr);
  {
    ScopedHandler handler(SIGUSR1, [](int) {});
    const uint64_t caught = std::stoull(StatusField("/proc/self/status", "SigCgt"), nullptr, 16);
    EXPECT_TRUE(caught & (uint64_t{1} << (SIGUSR1 - 1)));
  }
  EXPECT_EQ(StatusField("/proc/self/status", "Pid"), std::to_string(getpid()));
  EXPECT_EQ(StatusField("/proc/self/status", "PPid"), std::to_string(getppid()));
  std::istringstream uids(StatusField("/proc/self/status", "Uid"));
  unsigned ruid, euid;
  uids >> ruid >> euid;
  EXPECT_EQ(ruid, getuid());
  EXPECT_EQ(euid, geteuid());
}

TEST(Proc, CommCanBeChangedByTheProcessAlone) {
  EXPECT_EXITED(RunInChild([] {
                  Fd fd(open("/proc/self/comm", O_WRONLY));
                  CHILD_CHECK(write(fd.get(), "a name that is too long", 23) == 23);
                  CHILD_CHECK(ReadFile("/proc/self/comm") == "a name that is \n");
                  CHILD_CHECK(StatusField("/proc/self/status", "Name") == "a name that is ");
                  char name[16];
                  CHILD_CHECK(prctl(PR_GET_NAME, name) == 0);
                  CHILD_CHECK(std::string(name) == "a name that is ");
                }),
                0);
  const pid_t parent = getpid();
  EXPECT_EXITED(RunInChild([parent] {
                  Fd fd(open(Of(parent, "comm").c_str(), O_WRONLY));
                  CHILD_CHECK(fd.ok());
                  CHILD_CHECK(write(fd.get(), "x", 1) == -1 && errno == EINVAL);
                }),
                0);
}

TEST(Proc, AReaderOfADeadProcessGetsESRCH) {
  ChildGuard child(SleepingChild());
  std::map<std::string, Fd> files;
  for (const char* name : {"stat", "status", "statm", "cmdline", "comm", "limits", "maps", "oom_score_adj"}) {
    files[name] = Fd(open(Of(child.pid(), name).c_str(), O_RDONLY));
    ASSERT_FD(files[name]);
  }
  Fd mounts(open(Of(child.pid(), "mounts").c_str(), O_RDONLY));
  Fd dir(open(Of(child.pid(), "").c_str(), O_RDONLY | O_DIRECTORY));
  Fd fds(open(Of(child.pid(), "fd").c_str(), O_RDONLY | O_DIRECTORY));
  kill(child.pid(), SIGKILL);
  const pid_t pid = child.pid();
  child.Wait();
  char byte;
  EXPECT_EQ(pread(mounts.get(), &byte, 1, 0), 1);  // bound to the namespace, not to the process
  for (auto& [name, fd] : files) {
    errno = 0;
    EXPECT_EQ(read(fd.get(), &byte, 1), -1) << name;
    EXPECT_EQ(errno, ESRCH) << name;
  }
  EXPECT_ERRNO(open(Of(pid, "stat").c_str(), O_RDONLY), ENOENT);
  char buffer[1024];
  EXPECT_ERRNO(syscall(SYS_getdents64, fds.get(), buffer, sizeof(buffer)), ENOENT);
  struct stat st;
  EXPECT_OK(fstat(dir.get(), &st));
  EXPECT_EQ(st.st_uid, 0u);
}

TEST(Proc, AZombieHasAStateAndNothingElse) {
  const pid_t pid = ForkChild([] {});
  ChildGuard child(pid);
  ASSERT_TRUE(Eventually([&] { return ThreadState(pid) == 'Z'; }));
  EXPECT_EQ(ReadFile(Of(pid, "cmdline")), "");
  EXPECT_EQ(ReadFile(Of(pid, "statm")), "0 0 0 0 0 0 0\n");
  EXPECT_ERRNO(open(Of(pid, "mounts").c_str(), O_RDONLY), EINVAL);
  char text[64];
  EXPECT_ERRNO(readlink(Of(pid, "exe").c_str(), text, sizeof(text)), ENOENT);
  EXPECT_ERRNO(readlink(Of(pid, "cwd").c_str(), text, sizeof(text)), ENOENT);
  Fd fds(open(Of(pid, "fd").c_str(), O_RDONLY | O_DIRECTORY));
  ASSERT_FD(fds);
  EXPECT_TRUE(Names(fds.get()).empty());
}

TEST(Proc, FdOpensTheFileAgain) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", "hello"));
  Fd fd(open((dir / "f").c_str(), O_RDONLY));
  ASSERT_FD(fd);
  char two[2];
  ASSERT_EQ(read(fd.get(), two, 2), 2);
  ASSERT_OK(unlink((dir / "f").c_str()));
  const std::string link = "/proc/self/fd/" + std::to_string(fd.get());
  EXPECT_EQ(LinkText(link), dir / "f" + " (deleted)");
  Fd again(open(link.c_str(), O_RDWR));
  ASSERT_FD(again);
  char five[5];
  EXPECT_EQ(read(again.get(), five, 5), 5);  // from the start, and for writing too
  EXPECT_EQ(pwrite(again.get(), "H", 1, 0), 1);
  EXPECT_EQ(pread(fd.get(), two, 1, 0), 1);
  EXPECT_EQ(two[0], 'H');
  struct stat a, b;
  ASSERT_OK(fstat(fd.get(), &a));
  ASSERT_OK(stat(link.c_str(), &b));
  EXPECT_EQ(a.st_ino, b.st_ino);
}

TEST(Proc, FdLinksHaveTheModeOfTheirDescriptor) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", ""));
  for (auto [flags, mode] :
       {std::pair(O_RDONLY, 0500), std::pair(O_WRONLY, 0300), std::pair(O_RDWR, 0700), std::pair(O_PATH, 0)}) {
    Fd fd(open((dir / "f").c_str(), flags));
    struct stat st;
    ASSERT_OK(lstat(("/proc/self/fd/" + std::to_string(fd.get())).c_str(), &st));
    EXPECT_EQ(st.st_mode, static_cast<mode_t>(S_IFLNK | mode));
    EXPECT_EQ(st.st_size, 64);
  }
}

TEST(Proc, FdOfAPipeIsThePipe) {
  Pipe p = MakePipe();
  const std::string link = "/proc/self/fd/" + std::to_string(p.read_end.get());
  EXPECT_EQ(LinkText(link).substr(0, 6), "pipe:[");
  Fd writer(open(link.c_str(), O_WRONLY));
  ASSERT_FD(writer);
  EXPECT_EQ(write(writer.get(), "x", 1), 1);
  char byte = 0;
  EXPECT_EQ(read(p.read_end.get(), &byte, 1), 1);
  EXPECT_EQ(byte, 'x');
}

TEST(Proc, FdOfASocketOrEventfdCannotBeOpened) {
  SocketPair s = MakeSocketPair();
  EXPECT_ERRNO(open(("/proc/self/fd/" + std::to_string(s.a.get())).c_str(), O_RDWR), ENXIO);
  Fd e(eventfd(0, 0));
  EXPECT_ERRNO(open(("/proc/self/fd/" + std::to_string(e.get())).c_str(), O_RDWR), ENXIO);
  EXPECT_EQ(LinkText("/proc/self/fd/" + std::to_string(e.get())), "anon_inode:[eventfd]");
  EXPECT_EQ(LinkText("/proc/self/fd/" + std::to_string(s.a.get())).substr(0, 8), "socket:[");
}

TEST(Proc, FdListsOpenDescriptors) {
  Fd fd(open("/proc/self/fd", O_RDONLY | O_DIRECTORY));
  ASSERT_FD(fd);
  const int extra = dup(0) >= 0 ? fcntl(fd.get(), F_DUPFD, 100) : -1;
  std::vector<std::string> names = Names(fd.get());
  EXPECT_NE(std::find(names.begin(), names.end(), std::to_string(extra)), names.end());
  close(extra);
  names = Names(fd.get());
  EXPECT_EQ(std::find(names.begin(), names.end(), std::to_string(extra)), names.end());
  EXPECT_ERRNO(open(("/proc/self/fd/" + std::to_string(extra)).c_str(), O_RDONLY), ENOENT);
  EXPECT_ERRNO(open("/proc/self/fd/00", O_RDONLY), ENOENT);
  EXPECT_ERRNO(open("/proc/self/fd/-1", O_RDONLY), ENOENT);
  EXPECT_ERRNO(open("/proc/self/fd/99999999999999999999", O_RDONLY), ENOENT);
}

TEST(Proc, FdInfoShowsPositionAndFlags) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", "0123456789"));
  Fd fd(open((dir / "f").c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  ASSERT_EQ(lseek(fd.get(), 7, SEEK_SET), 7);
  const std::string info = "/proc/self/fdinfo/" + std::to_string(fd.get());
  EXPECT_EQ(StatusField(info, "pos"), "7");
  EXPECT_EQ(StatusField(info, "flags"), "02104000");
}

TEST(Proc, MemReadsAndWritesWhatThePageProtectionForbids) {
  Fd mem(open("/proc/self/mem", O_RDWR));
  ASSERT_FD(mem);
  char* page = ReadOnlyPage();
  EXPECT_EQ(pwrite(mem.get(), "Q", 1, reinterpret_cast<off_t>(page)), 1);
  EXPECT_EQ(*page, 'Q');
  char byte = 0;
  EXPECT_EQ(pread(mem.get(), &byte, 1, reinterpret_cast<off_t>(page)), 1);
  EXPECT_EQ(byte, 'Q');
  EXPECT_ERRNO(pread(mem.get(), &byte, 1, 16), EIO);
  EXPECT_ERRNO(pread(mem.get(), BadPointer(), 1, reinterpret_cast<off_t>(page)), EFAULT);
  // A read that runs into a hole is short.
  Mapping two(2 * kPage, PROT_READ);
  ASSERT_OK(munmap(two.get() + kPage, kPage));
  char three[3];
  EXPECT_EQ(pread(mem.get(), three, 3, reinterpret_cast<off_t>(two.get() + kPage - 2)), 2);
}

TEST(Proc, MapsListsMappingsInOrder) {
  Mapping m(3 * kPage, PROT_READ | PROT_WRITE);
  ASSERT_OK(mprotect(m.get() + kPage, kPage, PROT_NONE));
  std::istringstream in(ReadFile("/proc/self/maps"));
  uint64_t last = 0;
  bool found = false, stack = false;
  for (std::string line; std::getline(in, line);) {
    uint64_t start, end;
    char prot[5];
    ASSERT_EQ(sscanf(line.c_str(), "%lx-%lx %4s", &start, &end, prot), 3) << line;
    EXPECT_GE(start, last);
    EXPECT_LT(start, end);
    last = end;
    if (start == reinterpret_cast<uint64_t>(m.get() + kPage) && end == start + kPage) {
      found = true;
      EXPECT_STREQ(prot, "---p");
    }
    if (line.find("[stack]") != std::string::npos) stack = true;
  }
  EXPECT_TRUE(found);
  EXPECT_TRUE(stack);
}

TEST(Proc, TextIsTheSameInPiecesAndEmptyBeyondItsEnd) {
  Fd whole(open("/proc/self/limits", O_RDONLY)), bytes(open("/proc/self/limits", O_RDONLY));
  std::string a(65536, 0), b;
  a.resize(read(whole.get(), a.data(), a.size()));
  for (char c; read(bytes.get(), &c, 1) == 1;) b += c;
  EXPECT_EQ(a, b);
  char c;
  EXPECT_EQ(pread(whole.get(), &c, 1, 1 << 20), 0);
  EXPECT_EQ(pread(whole.get(), &c, 1, int64_t{1} << 62), 0);
  EXPECT_ERRNO(pread(whole.get(), &c, 1, -1), EINVAL);
  EXPECT_EQ(pread(whole.get(), &c, 1, 5), 1);
  EXPECT_EQ(c, a[5]);
  EXPECT_ERRNO(lseek(whole.get(), 0, SEEK_END), EINVAL);
  EXPECT_ERRNO(lseek(whole.get(), -1, SEEK_SET), EINVAL);
  EXPECT_ERRNO(pread(whole.get(), BadPointer(), 1, 0), EFAULT);
  struct stat st;
  ASSERT_OK(fstat(whole.get(), &st));
  EXPECT_EQ(st.st_size, 0);
}

TEST(Proc, TaskListsEveryThread) {
  struct State {
    std::atomic<int> tid{0};
    std::atomic<bool> stop{false};
  } state;
  pthread_t thread;
  ASSERT_EQ(pthread_create(
                &thread, nullptr,
                [](void* p) -> void* {
                  auto* s = static_cast<State*>(p);
                  prctl(PR_SET_NAME, "second");
                  s->tid = gettid();
                  while (!s->stop) SleepMs(1);
                  return nullptr;
                },
                &state),
            0);
  ASSERT_TRUE(Eventually([&] { return state.tid != 0; }));
  Fd dir(open("/proc/self/task", O_RDONLY | O_DIRECTORY));
  std::vector<std::string> names = Names(dir.get());
  EXPECT_EQ(names, (std::vector<std::string>{std::to_string(getpid()), std::to_string(state.tid.load())}));
  EXPECT_EQ(ReadFile("/proc/self/task/" + std::to_string(state.tid) + "/comm"), "second\n");
  EXPECT_EQ(StatusField("/proc/self/status", "Threads"), "2");
  struct stat st;
  ASSERT_OK(stat("/proc/self/task", &st));
  EXPECT_EQ(st.st_nlink, 4u);
  state.stop = true;
  pthread_join(thread, nullptr);
  EXPECT_TRUE(Eventually([&] { return Names(dir.get()).size() == 1; }));
}

TEST(Proc, ExeAndCwdLead) {
  TempDir dir;
  EXPECT_EXITED(RunInChild([&] {
                  CHILD_CHECK(chdir(dir.path().c_str()) == 0);
                  CHILD_CHECK(LinkText("/proc/self/cwd") == dir.path());
                  CHILD_CHECK(LinkText("/proc/self/root") == "/");
                  Fd cwd(open("/proc/self/cwd/", O_RDONLY | O_DIRECTORY));
                  CHILD_CHECK(cwd.ok());
                  Fd exe(open("/proc/self/exe", O_RDONLY));
                  char magic[4];
                  CHILD_CHECK(read(exe.get(), magic, 4) == 4 && memcmp(magic, "\177ELF", 4) == 0);
                }),
                0);
}

TEST(Proc, HidesWhatAStrangerMayNotSee) {
  if (geteuid() != 0) GTEST_SKIP();
  ChildGuard victim(SleepingChild());
  const pid_t pid = victim.pid();
  EXPECT_EXITED(RunInChild([pid] {
                  CHILD_CHECK(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
                  char text[64];
                  CHILD_CHECK(readlink(Of(pid, "exe").c_str(), text, sizeof(text)) == -1 && errno == EACCES);
                  CHILD_CHECK(open(Of(pid, "environ").c_str(), O_RDONLY) == -1 && errno == EACCES);
                  CHILD_CHECK(open(Of(pid, "maps").c_str(), O_RDONLY) == -1 && errno == EACCES);
                  CHILD_CHECK(open(Of(pid, "mem").c_str(), O_RDONLY) == -1 && errno == EACCES);
                  CHILD_CHECK(open(Of(pid, "fd").c_str(), O_RDONLY | O_DIRECTORY) == -1 && errno == EACCES);
                  CHILD_CHECK(open(Of(pid, "cwd/").c_str(), O_RDONLY) == -1 && errno == EACCES);
                  const std::vector<std::string> fields = StatFields(ReadFile(Of(pid, "stat")));
                  CHILD_CHECK(fields.size() == 50 && fields[23] == "1" && fields[25] == "0");
                  CHILD_CHECK(!ReadFile(Of(pid, "cmdline")).empty());
                }),
                0);
}

TEST(Proc, AProcessThatIsNotDumpableBelongsToRoot) {
  if (geteuid() != 0) GTEST_SKIP();
  EXPECT_EXITED(RunInChild([] {
                  CHILD_CHECK(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
                  CHILD_CHECK(prctl(PR_SET_DUMPABLE, 0) == 0);
                  struct stat st;
                  CHILD_CHECK(stat("/proc/self/stat", &st) == 0 && st.st_uid == 0);
                  CHILD_CHECK(prctl(PR_SET_DUMPABLE, 1) == 0);
                  CHILD_CHECK(stat("/proc/self/stat", &st) == 0 && st.st_uid == 65534);
                }),
                0);
}

TEST(Proc, NothingCanBeMadeOrRemoved) {
  EXPECT_ERRNO(mkdir("/proc/new", 0755), ENOENT);
  EXPECT_ERRNO(open("/proc/new", O_WRONLY | O_CREAT, 0644), ENOENT);
  EXPECT_ERRNO(unlink("/proc/self/stat"), EPERM);
  EXPECT_ERRNO(chmod("/proc/self/stat", 0777), EPERM);
  EXPECT_ERRNO(mkdir("/proc/self/new", 0755), ENOENT);
}

TEST(Proc, NamespacesHaveOneNumber) {
  for (const char* type : {"mnt", "pid", "net", "ipc", "uts", "user"}) {
    const std::string link = std::string("/proc/self/ns/") + type;
    struct stat st;
    ASSERT_OK(stat(link.c_str(), &st));
    EXPECT_EQ(LinkText(link), std::string(type) + ":[" + std::to_string(st.st_ino) + "]");
    EXPECT_EQ(LinkText(std::string("/proc/self/task/") + std::to_string(gettid()) + "/ns/" + type), LinkText(link));
    EXPECT_TRUE(S_ISREG(st.st_mode));
  }
}

TEST(Proc, MountinfoCanBePolledForChanges) {
  const int status = RunInChild([] {
    if (unshare(CLONE_NEWNS) != 0) _exit(77);
    if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) _exit(77);
    Fd fd(open("/proc/self/mountinfo", O_RDONLY));
    CHILD_CHECK(fd.ok());
    pollfd p{fd.get(), POLLPRI, 0};
    CHILD_CHECK(poll(&p, 1, 0) == 0);
    TempDir dir;
    CHILD_CHECK(mount("none", dir.path().c_str(), "tmpfs", MS_NOSUID, "size=1m") == 0);
    CHILD_CHECK(poll(&p, 1, 10000) == 1 && p.revents == (POLLPRI | POLLERR));
    CHILD_CHECK(poll(&p, 1, 0) == 0);
    const std::string text = ReadFile("/proc/self/mountinfo");
    const size_t at = text.find(" " + dir.path() + " ");
    CHILD_CHECK(at != std::string::npos);
    const std::string rest = text.substr(at, text.find('\n', at) - at);
    CHILD_CHECK(rest.rfind(" " + dir.path() + " rw,nosuid,relatime - tmpfs none rw", 0) == 0);
    CHILD_CHECK(umount(dir.path().c_str()) == 0);
    CHILD_CHECK(poll(&p, 1, 10000) == 1);
  });
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) GTEST_SKIP() << "cannot mount";
  EXPECT_EXITED(status, 0);
}

TEST(Proc, ListsAndFindsTheSameInodes) {
  Fd dir(open("/proc/self", O_RDONLY | O_DIRECTORY));
  DIR* d = fdopendir(dup(dir.get()));
  ASSERT_NE(d, nullptr);
  int checked = 0;
  while (dirent* e = readdir(d)) {
    struct stat st;
    if (e->d_name[0] == '.' || fstatat(dir.get(), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) continue;
    EXPECT_EQ(st.st_ino, e->d_ino) << e->d_name;
    EXPECT_EQ(IFTODT(st.st_mode), e->d_type) << e->d_name;
    ++checked;
  }
  closedir(d);
  EXPECT_GT(checked, 30);
}

}  // namespace

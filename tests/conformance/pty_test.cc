// Pseudo terminals: line discipline, job control, packet mode, hangup. (man 7 pty, man 3 termios, man 2 ioctl_tty)
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>

#include <string>

#include "support/support.h"

namespace conformance {
namespace {

struct Pair {
  Fd master, slave;
  std::string name;
};

Pair Open() {
  Pair p;
  p.master = Fd(posix_openpt(O_RDWR | O_NOCTTY));
  EXPECT_TRUE(p.master.ok()) << strerror(errno);
  EXPECT_EQ(grantpt(p.master.get()), 0);
  EXPECT_EQ(unlockpt(p.master.get()), 0);
  char name[64] = "";
  EXPECT_EQ(ptsname_r(p.master.get(), name, sizeof(name)), 0);
  p.name = name;
  p.slave = Fd(open(name, O_RDWR | O_NOCTTY));
  EXPECT_TRUE(p.slave.ok()) << name << ": " << strerror(errno);
  return p;
}

void Change(int fd, const std::function<void(termios&)>& change, int when = TCSANOW) {
  termios t;
  ASSERT_EQ(tcgetattr(fd, &t), 0);
  change(t);
  ASSERT_EQ(tcsetattr(fd, when, &t), 0);
}

void Raw(int fd, int min = 1, int time = 0) {
  Change(fd, [&](termios& t) {
    cfmakeraw(&t);
    t.c_cc[VMIN] = min;
    t.c_cc[VTIME] = time;
  });
}

void Send(int fd, const std::string& text) { ASSERT_EQ(write(fd, text.data(), text.size()), (ssize_t)text.size()); }

bool Readable(int fd, int ms = 0) {
  pollfd p = {fd, POLLIN, 0};
  return poll(&p, 1, ms) == 1 && (p.revents & POLLIN);
}

// What comes until nothing more does. The line discipline of Linux works behind a work queue: give it a moment.
std::string Receive(int fd, size_t want) {
  std::string all;
  while (all.size() < want && Readable(fd, 2000)) {
    char buffer[8192];
    ssize_t n = read(fd, buffer, sizeof(buffer));
    if (n <= 0) break;
    all.append(buffer, n);
  }
  return all;
}

std::string ReadOnce(int fd, size_t size = 8192) {
  std::string buffer(size, '\0');
  ssize_t n = read(fd, buffer.data(), size);
  if (n < 0) return std::string("error ") + strerrorname_np(errno);
  buffer.resize(n);
  return buffer;
}

TEST(PtyLine, IsCanonicalAndEchoesByDefault) {
  Pair p = Open();
  termios t;
  ASSERT_OK(tcgetattr(p.slave.get(), &t));
  EXPECT_EQ(t.c_iflag, (tcflag_t)(ICRNL | IXON));
  EXPECT_EQ(t.c_oflag, (tcflag_t)(OPOST | ONLCR));
  EXPECT_EQ(t.c_cflag, (tcflag_t)(B38400 | CS8 | CREAD));
  EXPECT_EQ(t.c_lflag, (tcflag_t)(ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN));
  EXPECT_EQ(t.c_cc[VINTR], 3);
  EXPECT_EQ(t.c_cc[VERASE], 0177);
  EXPECT_EQ(t.c_cc[VMIN], 1);
  Send(p.master.get(), "abc");
  EXPECT_EQ(Receive(p.master.get(), 3), "abc");
  EXPECT_FALSE(Readable(p.slave.get())) << "a line that is not complete";
  Send(p.master.get(), "\r");
  EXPECT_EQ(Receive(p.master.get(), 2), "\r\n");
  EXPECT_EQ(ReadOnce(p.slave.get()), "abc\n");
}

TEST(PtyLine, GivesOneLineToARead) {
  Pair p = Open();
  Send(p.master.get(), "one\ntwo\nthree");
  EXPECT_EQ(ReadOnce(p.slave.get()), "one\n");
  EXPECT_EQ(ReadOnce(p.slave.get(), 2), "tw");
  int waiting = -1;
  ASSERT_OK(ioctl(p.slave.get(), FIONREAD, &waiting));
  EXPECT_EQ(waiting, 2);
  EXPECT_EQ(ReadOnce(p.slave.get()), "o\n");
  ASSERT_OK(fcntl(p.slave.get(), F_SETFL, O_NONBLOCK));
  EXPECT_EQ(ReadOnce(p.slave.get()), "error EAGAIN");
}

TEST(PtyLine, EditsWithEraseWordEraseAndKill) {
  Pair p = Open();
  Send(p.master.get(), "abx\177c\n");
  EXPECT_EQ(ReadOnce(p.slave.get()), "abc\n");
  EXPECT_EQ(Receive(p.master.get(), 9), "abx\b \bc\r\n");
  Send(p.master.get(), "one two\027six\n");
  EXPECT_EQ(ReadOnce(p.slave.get()), "one six\n");
  EXPECT_EQ(Receive(p.master.get(), 21), "one two\b \b\b \b\b \bsix\r\n");
  Send(p.master.get(), "ab\025c\n");
  EXPECT_EQ(ReadOnce(p.slave.get()), "c\n");
  EXPECT_EQ(Receive(p.master.get(), 11), "ab\b \b\b \bc\r\n");
  Send(p.master.get(), "\177\177x\n");
  EXPECT_EQ(ReadOnce(p.slave.get()), "x\n");
  EXPECT_EQ(Receive(p.master.get(), 3), "x\r\n");
}

TEST(PtyLine, ErasesControlCharactersTabsAndUtf8) {
  Pair p = Open();
  Send(p.master.get(), "\001\177a\n");
  EXPECT_EQ(ReadOnce(p.slave.get()), "a\n");
  EXPECT_EQ(Receive(p.master.get(), 11), "^A\b \b\b \ba\r\n");
  Send(p.master.get(), "ab\t\177c\n");
  EXPECT_EQ(ReadOnce(p.slave.get()), "abc\n");
  EXPECT_EQ(Receive(p.master.get(), 12), "ab\t\b\b\b\b\b\bc\r\n");
  Change(p.slave.get(), [](termios& t) { t.c_iflag |= IUTF8; });
  Send(p.master.get(), "a\303\244\177b\n");
  EXPECT_EQ(ReadOnce(p.slave.get()), "ab\n");
  EXPECT_EQ(Receive(p.master.get(), 9), "a\303\244\b \bb\r\n");
}

TEST(PtyLine, TakesTheNextCharacterLiterallyAfterLnext) {
  Pair p = Open();
  Send(p.master.get(), "a\026\003\026\177\n");
  EXPECT_EQ(ReadOnce(p.slave.get()), "a\003\177\n");
  EXPECT_EQ(Receive(p.master.get(), 11), "a^\b^C^\b^?\r\n");
}

TEST(PtyLine, ReprintsTheLine) {
  Pair p = Open();
  Send(p.master.get(), "abc\022d\n");
  EXPECT_EQ(ReadOnce(p.slave.get()), "abcd\n");
  EXPECT_EQ(Receive(p.master.get(), 13), "abc^R\r\nabcd\r\n");
}

TEST(PtyLine, EofEndsALineAndAloneIsTheEndOfFile) {
  Pair p = Open();
  Send(p.master.get(), "ab\004");
  EXPECT_EQ(ReadOnce(p.slave.get()), "ab");
  Send(p.master.get(), "\004");
  EXPECT_EQ(ReadOnce(p.slave.get()), "");
  Send(p.master.get(), "c\n");
  EXPECT_EQ(ReadOnce(p.slave.get()), "c\n");
}

TEST(PtyLine, EolCharactersEndALine) {
  Pair p = Open();
  Change(p.slave.get(), [](termios& t) { t.c_cc[VEOL] = ';'; });
  Send(p.master.get(), "a;b\n");
  EXPECT_EQ(ReadOnce(p.slave.get()), "a;");
  EXPECT_EQ(ReadOnce(p.slave.get()), "b\n");
}

TEST(PtyLine, MapsCarriageReturnsAndNewlines) {
  Pair p = Open();
  Change(p.slave.get(), [](termios& t) {
    t.c_lflag &= ~ECHO;
    t.c_iflag = IGNCR;
  });
  Send(p.master.get(), "a\rb\n");
  EXPECT_EQ(ReadOnce(p.slave.get()), "ab\n");
  Change(p.slave.get(), [](termios& t) { t.c_iflag = INLCR | ICRNL; });
  Send(p.master.get(), "x\ny\r");
  EXPECT_EQ(ReadOnce(p.slave.get()), "x\ry\n");
}

TEST(PtyLine, LongLinesAreCut) {
  Pair p = Open();
  Change(p.slave.get(), [](termios& t) { t.c_lflag &= ~ECHO; });
  std::string line(5000, 'x');
  ASSERT_OK(fcntl(p.master.get(), F_SETFL, O_NONBLOCK));
  for (size_t at = 0; at < line.size(); at += 500) Send(p.master.get(), line.substr(at, 500));
  Send(p.master.get(), "\n");
  std::string got;
  ASSERT_TRUE(Readable(p.slave.get(), 2000));
  got = ReadOnce(p.slave.get());
  EXPECT_EQ(got.size(), 4096u);
  EXPECT_EQ(got.back(), '\n');
}

TEST(PtyRaw, GivesWhatIsThereFromTheFirstByte) {
  Pair p = Open();
  Raw(p.slave.get());
  Send(p.master.get(), "a\003\r\004");
  ASSERT_TRUE(Eventually([&] {
    int n = 0;
    ioctl(p.slave.get(), FIONREAD, &n);
    return n == 4;
  }));
  EXPECT_EQ(ReadOnce(p.slave.get()), "a\003\r\004");
  EXPECT_FALSE(Readable(p.master.get())) << "no echo";
}

TEST(PtyRaw, WaitsForVminBytes) {
  Pair p = Open();
  Raw(p.slave.get(), 3);
  Send(p.master.get(), "ab");
  EXPECT_FALSE(Readable(p.slave.get(), 50));
  pid_t pid = ForkChild([&] {
    char buffer[10];
    CHILD_CHECK(read(p.slave.get(), buffer, sizeof(buffer)) == 3);
  });
  ChildGuard guard(pid);
  ASSERT_TRUE(WaitUntilBlocked(pid));
  Send(p.master.get(), "c");
  EXPECT_EXITED(guard.Wait(), 0);
  Send(p.master.get(), "de");
  ASSERT_OK(fcntl(p.slave.get(), F_SETFL, O_NONBLOCK));
  ASSERT_TRUE(Eventually([&] {
    int n = 0;
    ioctl(p.slave.get(), FIONREAD, &n);
    return n == 2;
  }));
  EXPECT_EQ(ReadOnce(p.slave.get()), "de") << "without waiting what is there is enough";
  EXPECT_EQ(ReadOnce(p.slave.get(), 1), "error EAGAIN");
}

TEST(PtyRaw, VtimeLimitsTheWait) {
  Pair p = Open();
  Raw(p.slave.get(), 0, 0);
  EXPECT_EQ(ReadOnce(p.slave.get()), "");
  Raw(p.slave.get(), 0, 2);
  int64_t start = NowNs();
  EXPECT_EQ(ReadOnce(p.slave.get()), "");
  EXPECT_GE(NowNs() - start, 190'000'000);
  // Between bytes.
  Raw(p.slave.get(), 5, 2);
  Send(p.master.get(), "ab");
  EXPECT_EQ(ReadOnce(p.slave.get()), "ab");
}

TEST(PtyRaw, SwitchingModesKeepsInput) {
  Pair p = Open();
  Change(p.slave.get(), [](termios& t) { t.c_lflag &= ~ECHO; });
  Send(p.master.get(), "half");
  EXPECT_FALSE(Readable(p.slave.get(), 50));
  Change(p.slave.get(), [](termios& t) { t.c_lflag &= ~ICANON; });
  EXPECT_EQ(ReadOnce(p.slave.get()), "half");
  Send(p.master.get(), "more");
  ASSERT_TRUE(Readable(p.slave.get(), 2000));
  Change(p.slave.get(), [](termios& t) { t.c_lflag |= ICANON; });
  EXPECT_EQ(ReadOnce(p.slave.get()), "more");
  Send(p.master.get(), "lost");
  SleepMs(20);
  Change(
      p.slave.get(), [](termios& t) {}, TCSAFLUSH);
  Send(p.master.get(), "kept\n");
  EXPECT_EQ(ReadOnce(p.slave.get()), "kept\n");
}

TEST(PtyOutput, IsProcessed) {
  Pair p = Open();
  Send(p.slave.get(), "a\nb");
  EXPECT_EQ(Receive(p.master.get(), 4), "a\r\nb");
  Change(p.slave.get(), [](termios& t) { t.c_oflag |= XTABS; });
  Send(p.slave.get(), "\rab\tc");
  EXPECT_EQ(Receive(p.master.get(), 10), "\rab      c");
  Change(p.slave.get(), [](termios& t) { t.c_oflag = OPOST | OCRNL; });
  Send(p.slave.get(), "x\ry\n");
  EXPECT_EQ(Receive(p.master.get(), 4), "x\ny\n");
  Change(p.slave.get(), [](termios& t) { t.c_oflag = 0; });
  Send(p.slave.get(), "a\nb");
  EXPECT_EQ(Receive(p.master.get(), 3), "a\nb");
}

TEST(PtyOutput, StopsAndStarts) {
  Pair p = Open();
  Send(p.master.get(), "\023");
  ASSERT_OK(fcntl(p.slave.get(), F_SETFL, O_NONBLOCK));
  ASSERT_TRUE(Eventually([&] { return write(p.slave.get(), "x", 1) == -1 && errno == EAGAIN; }));
  Receive(p.master.get(), 0);
  pollfd out = {p.slave.get(), POLLOUT, 0};
  EXPECT_EQ(poll(&out, 1, 0), 0);
  Send(p.master.get(), "\021");
  EXPECT_EQ(poll(&out, 1, 2000), 1);
  while (Readable(p.master.get())) ReadOnce(p.master.get());
  EXPECT_EQ(write(p.slave.get(), "y", 1), 1);
  EXPECT_EQ(Receive(p.master.get(), 1), "y");
  ASSERT_OK(tcflow(p.slave.get(), TCOOFF));
  EXPECT_ERRNO(write(p.slave.get(), "z", 1), EAGAIN);
  ASSERT_OK(tcflow(p.slave.get(), TCOON));
  EXPECT_OK(write(p.slave.get(), "z", 1));
}

TEST(PtyOutput, FillsUp) {
  Pair p = Open();
  ASSERT_OK(fcntl(p.slave.get(), F_SETFL, O_NONBLOCK));
  std::string block(4096, 'x');
  size_t total = 0;
  for (;;) {
    ssize_t n = write(p.slave.get(), block.data(), block.size());
    if (n < 0) break;
    total += n;
    ASSERT_LT(total, 1u << 20);
  }
  EXPECT_EQ(errno, EAGAIN);
  std::string got;
  while (got.size() < total && Readable(p.master.get(), 2000)) got += ReadOnce(p.master.get());
  EXPECT_EQ(got.size(), total);
}

// --- Names, locks, sizes

TEST(PtyName, IsADeviceInDevPts) {
  Pair p = Open();
  EXPECT_EQ(p.name.rfind("/dev/pts/", 0), 0u);
  struct stat st;
  ASSERT_OK(fstat(p.slave.get(), &st));
  EXPECT_TRUE(S_ISCHR(st.st_mode));
  EXPECT_EQ(st.st_rdev >> 8, 136u);
  EXPECT_TRUE(isatty(p.slave.get()));
  EXPECT_TRUE(isatty(p.master.get()));
  char name[64] = "";
  ASSERT_EQ(ttyname_r(p.slave.get(), name, sizeof(name)), 0);
  EXPECT_EQ(name, p.name);
  p.master.Close();
  EXPECT_ERRNO(open(p.name.c_str(), O_RDWR | O_NOCTTY), ENOENT);
}

TEST(PtyName, ALockedSlaveCannotBeOpened) {
  Fd master(open("/dev/ptmx", O_RDWR | O_NOCTTY));
  ASSERT_FD(master);
  char name[64];
  ASSERT_EQ(ptsname_r(master.get(), name, sizeof(name)), 0);
  int locked = 0;
  ASSERT_OK(ioctl(master.get(), TIOCGPTLCK, &locked));
  EXPECT_EQ(locked, 1);
  EXPECT_ERRNO(open(name, O_RDWR | O_NOCTTY), EIO);
  ASSERT_EQ(unlockpt(master.get()), 0);
  Fd slave(open(name, O_RDWR | O_NOCTTY));
  EXPECT_TRUE(slave.ok());
  Fd peer(ioctl(master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  ASSERT_FD(peer);
  EXPECT_EQ(fcntl(peer.get(), F_GETFD), FD_CLOEXEC);
  Send(peer.get(), "hi");
  EXPECT_EQ(Receive(master.get(), 2), "hi");
}

TEST(PtySize, IsSharedByBothEnds) {
  Pair p = Open();
  winsize size = {};
  ASSERT_OK(ioctl(p.slave.get(), TIOCGWINSZ, &size));
  EXPECT_EQ(size.ws_row, 0);
  size = {24, 80, 0, 0};
  ASSERT_OK(ioctl(p.master.get(), TIOCSWINSZ, &size));
  size = {};
  ASSERT_OK(ioctl(p.slave.get(), TIOCGWINSZ, &size));
  EXPECT_EQ(size.ws_row, 24);
  EXPECT_EQ(size.ws_col, 80);
  EXPECT_ERRNO(ioctl(p.slave.get(), TIOCGWINSZ, BadPointer()), EFAULT);
  EXPECT_ERRNO(ioctl(p.slave.get(), TCSETS, BadPointer()), EFAULT);
}

// man 2 ioctl_tty: what is locked stays when somebody sets the attributes.
TEST(PtyIoctl, LockedAttributesStay) {
  Pair p = Open();
  termios locked;
  ASSERT_OK(ioctl(p.slave.get(), TIOCGLCKTRMIOS, &locked));
  EXPECT_EQ(locked.c_lflag, 0u);
  locked.c_lflag = ECHO;
  locked.c_cc[VINTR] = 1;
  if (ioctl(p.slave.get(), TIOCSLCKTRMIOS, &locked) != 0) {
    ASSERT_EQ(errno, EPERM);  // takes CAP_SYS_ADMIN
    return;
  }
  termios t;
  ASSERT_OK(tcgetattr(p.slave.get(), &t));
  t.c_lflag &= static_cast<tcflag_t>(~(ECHO | ISIG));
  t.c_cc[VINTR] = 'x';
  t.c_cc[VQUIT] = 'y';
  ASSERT_OK(tcsetattr(p.slave.get(), TCSANOW, &t));
  ASSERT_OK(tcgetattr(p.master.get(), &t));
  EXPECT_TRUE(t.c_lflag & ECHO);
  EXPECT_FALSE(t.c_lflag & ISIG);
  EXPECT_EQ(t.c_cc[VINTR], 3);
  EXPECT_EQ(t.c_cc[VQUIT], 'y');
  EXPECT_ERRNO(ioctl(p.slave.get(), TIOCGLCKTRMIOS, BadPointer()), EFAULT);
}

TEST(PtyIoctl, FailsOnOtherFiles) {
  Pipe pipe = MakePipe();
  termios t;
  EXPECT_ERRNO(tcgetattr(pipe.read_end.get(), &t), ENOTTY);
  Pair p = Open();
  int n;
  EXPECT_ERRNO(ioctl(p.slave.get(), TIOCGPTN, &n), ENOTTY);
  EXPECT_ERRNO(ioctl(p.slave.get(), 0x1234, &n), ENOTTY);
  EXPECT_ERRNO(lseek(p.slave.get(), 0, SEEK_SET), ESPIPE);
  EXPECT_ERRNO(pread(p.slave.get(), &n, 1, 0), ESPIPE);
}

TEST(PtyFlush, DropsWhatIsAskedFor) {
  Pair p = Open();
  Change(p.slave.get(), [](termios& t) { t.c_lflag &= ~ECHO; });
  Send(p.master.get(), "gone\n");
  ASSERT_TRUE(Readable(p.slave.get(), 2000));
  ASSERT_OK(tcflush(p.slave.get(), TCIFLUSH));
  EXPECT_FALSE(Readable(p.slave.get()));
  EXPECT_ERRNO(ioctl(p.slave.get(), TCFLSH, 7), EINVAL);
}

// --- Packet mode

TEST(PtyPacket, PrefixesDataAndReportsFlushes) {
  Pair p = Open();
  int on = 1;
  ASSERT_OK(ioctl(p.master.get(), TIOCPKT, &on));
  Send(p.slave.get(), "ab");
  ASSERT_TRUE(Readable(p.master.get(), 2000));
  EXPECT_EQ(ReadOnce(p.master.get()), std::string("\0ab", 3));
  ASSERT_OK(tcflow(p.slave.get(), TCOOFF));
  pollfd pri = {p.master.get(), POLLPRI, 0};
  EXPECT_EQ(poll(&pri, 1, 2000), 1);
  EXPECT_EQ(ReadOnce(p.master.get()), std::string(1, TIOCPKT_STOP));
  ASSERT_OK(tcflow(p.slave.get(), TCOON));
  EXPECT_EQ(ReadOnce(p.master.get()), std::string(1, TIOCPKT_START));
  ASSERT_OK(ioctl(p.master.get(), TIOCGPKT, &on));
  EXPECT_EQ(on, 1);
}

// --- The ends of it

TEST(PtyClose, MasterReadsEioWhenTheSlaveIsGone) {
  Pair p = Open();
  Change(p.slave.get(), [](termios& t) { t.c_oflag = 0; });
  Send(p.slave.get(), "last");
  p.slave.Close();
  EXPECT_EQ(Receive(p.master.get(), 4), "last");
  pollfd hup = {p.master.get(), POLLIN, 0};
  EXPECT_EQ(poll(&hup, 1, 2000), 1);
  EXPECT_TRUE(hup.revents & POLLHUP);
  char c;
  EXPECT_ERRNO(read(p.master.get(), &c, 1), EIO);
  p.slave = Fd(open(p.name.c_str(), O_RDWR | O_NOCTTY));
  ASSERT_FD(p.slave);
  Send(p.slave.get(), "again");
  EXPECT_EQ(Receive(p.master.get(), 5), "again");
}

TEST(PtyClose, SlaveIsHungUpWhenTheMasterIsGone) {
  Pair p = Open();
  p.master.Close();
  char c;
  EXPECT_EQ(read(p.slave.get(), &c, 1), 0);
  EXPECT_ERRNO(write(p.slave.get(), "x", 1), EIO);
  termios t;
  EXPECT_ERRNO(tcgetattr(p.slave.get(), &t), EIO);
  pollfd hup = {p.slave.get(), POLLIN | POLLOUT, 0};
  EXPECT_EQ(poll(&hup, 1, 0), 1);
  EXPECT_TRUE(hup.revents & POLLHUP);
}

// --- Job control. Each in a child that leads a session of its own.

// Makes the slave the controlling terminal of a new session.
void BecomeLeader(Pair& p) {
  CHILD_CHECK(setsid() > 0);
  p.slave.Close();
  p.slave = Fd(open(p.name.c_str(), O_RDWR));
  CHILD_CHECK(p.slave.ok());
}

TEST(PtyJob, OpeningMakesItTheControllingTerminalOfALeader) {
  Pair p = Open();
  EXPECT_EXITED(RunInChild([&] {
                  CHILD_CHECK(setsid() > 0);
                  CHILD_CHECK(open("/dev/tty", O_RDWR) == -1 && errno == ENXIO);
                  CHILD_CHECK(tcgetpgrp(p.slave.get()) == -1 && errno == ENOTTY);
                  Fd noctty(open(p.name.c_str(), O_RDWR | O_NOCTTY));
                  CHILD_CHECK(open("/dev/tty", O_RDWR) == -1 && errno == ENXIO);
                  Fd mine(open(p.name.c_str(), O_RDWR));
                  CHILD_CHECK(mine.ok());
                  CHILD_CHECK(tcgetpgrp(mine.get()) == getpid());
                  CHILD_CHECK(tcgetsid(mine.get()) == getpid());
                  CHILD_CHECK(tcgetpgrp(p.master.get()) == getpid());
                  Fd tty(open("/dev/tty", O_RDWR));
                  CHILD_CHECK(tty.ok());
                  CHILD_CHECK(write(tty.get(), "tty", 3) == 3);
                  signal(SIGHUP, SIG_IGN);
                  CHILD_CHECK(ioctl(tty.get(), TIOCNOTTY) == 0);
                  CHILD_CHECK(open("/dev/tty", O_RDWR) == -1 && errno == ENXIO);
                  CHILD_CHECK(ioctl(mine.get(), TIOCSCTTY, 0) == 0);
                  CHILD_CHECK(tcgetpgrp(mine.get()) == getpid());
                }),
                0);
  EXPECT_EQ(Receive(p.master.get(), 3), "tty");
}

TEST(PtyJob, SignalCharactersReachTheForegroundGroup) {
  struct {
    const char* typed;
    const char* echo;
    int signo;
  } cases[] = {{"\003", "^C", SIGINT}, {"\034", "^\\", SIGQUIT}};
  for (auto& c : cases) {
    Pair p = Open();
    Pipe ready = MakePipe();
    pid_t pid = ForkChild([&] {
      BecomeLeader(p);
      CHILD_CHECK(write(ready.write_end.get(), "x", 1) == 1);
      for (;;) pause();
    });
    ChildGuard guard(pid);
    char byte;
    ASSERT_EQ(read(ready.read_end.get(), &byte, 1), 1);
    Send(p.master.get(), c.typed);
    EXPECT_SIGNALED(guard.Wait(), c.signo);
    EXPECT_EQ(Receive(p.master.get(), 2), c.echo);
  }
}

TEST(PtyJob, SuspendStopsAndNoflshKeepsInput) {
  Pair p = Open();
  Pipe ready = MakePipe();
  pid_t pid = ForkChild([&] {
    BecomeLeader(p);
    pid_t job = fork();
    if (job == 0) {
      setpgid(0, 0);
      for (;;) pause();
    }
    setpgid(job, job);
    CHILD_CHECK(tcsetpgrp(p.slave.get(), job) == 0);
    CHILD_CHECK(write(ready.write_end.get(), "x", 1) == 1);
    int status;
    CHILD_CHECK(waitpid(job, &status, WUNTRACED) == job);
    CHILD_CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTSTP);
    kill(job, SIGKILL);
    waitpid(job, &status, 0);
  });
  ChildGuard guard(pid);
  char byte;
  ASSERT_EQ(read(ready.read_end.get(), &byte, 1), 1);
  Change(p.slave.get(), [](termios& t) { t.c_lflag |= NOFLSH; });
  Send(p.master.get(), "kept\n\032");
  EXPECT_EXITED(guard.Wait(), 0);
}

TEST(PtyJob, ABackgroundReaderIsStopped) {
  Pair p = Open();
  EXPECT_EXITED(RunInChild([&] {
                  BecomeLeader(p);
                  pid_t job = fork();
                  if (job == 0) {
                    setpgid(0, 0);
                    char c;
                    (void)!read(p.slave.get(), &c, 1);
                    _exit(1);
                  }
                  setpgid(job, job);
                  int status;
                  CHILD_CHECK(waitpid(job, &status, WUNTRACED) == job);
                  CHILD_CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTTIN);
                  kill(job, SIGKILL);
                  waitpid(job, &status, 0);
                }),
                0);
}

TEST(PtyJob, ABackgroundWriterIsStoppedWithTostop) {
  Pair p = Open();
  EXPECT_EXITED(RunInChild([&] {
                  BecomeLeader(p);
                  pid_t job = fork();
                  if (job == 0) {
                    setpgid(0, 0);
                    CHILD_CHECK(write(p.slave.get(), "a", 1) == 1);
                    raise(SIGSTOP);
                    (void)!write(p.slave.get(), "b", 1);
                    _exit(1);
                  }
                  setpgid(job, job);
                  int status;
                  CHILD_CHECK(waitpid(job, &status, WUNTRACED) == job);
                  CHILD_CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
                  Change(p.slave.get(), [](termios& t) { t.c_lflag |= TOSTOP; });
                  kill(job, SIGCONT);
                  CHILD_CHECK(waitpid(job, &status, WUNTRACED) == job);
                  CHILD_CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTTOU);
                  kill(job, SIGKILL);
                  waitpid(job, &status, 0);
                }),
                0);
}

TEST(PtyJob, ABackgroundChangeOfTheForegroundIsStopped) {
  Pair p = Open();
  EXPECT_EXITED(RunInChild([&] {
                  BecomeLeader(p);
                  pid_t job = fork();
                  if (job == 0) {
                    setpgid(0, 0);
                    (void)tcsetpgrp(p.slave.get(), getpid());
                    _exit(7);
                  }
                  setpgid(job, job);
                  int status;
                  CHILD_CHECK(waitpid(job, &status, WUNTRACED) == job);
                  CHILD_CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTTOU);
                  CHILD_CHECK(tcgetpgrp(p.slave.get()) == getpid());
                  kill(job, SIGKILL);
                  waitpid(job, &status, 0);
                  // Ignoring the signal lets it through.
                  job = fork();
                  if (job == 0) {
                    signal(SIGTTOU, SIG_IGN);
                    setpgid(0, 0);
                    CHILD_CHECK(tcsetpgrp(p.slave.get(), getpid()) == 0);
                    _exit(0);
                  }
                  CHILD_CHECK(waitpid(job, &status, 0) == job);
                  CHILD_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
                }),
                0);
}

TEST(PtyJob, AnIgnoringBackgroundReaderGetsEio) {
  Pair p = Open();
  EXPECT_EXITED(RunInChild([&] {
                  BecomeLeader(p);
                  pid_t job = fork();
                  if (job == 0) {
                    signal(SIGTTIN, SIG_IGN);
                    setpgid(0, 0);
                    char c;
                    CHILD_CHECK(read(p.slave.get(), &c, 1) == -1 && errno == EIO);
                    _exit(0);
                  }
                  int status;
                  CHILD_CHECK(waitpid(job, &status, 0) == job);
                  CHILD_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
                }),
                0);
}

volatile sig_atomic_t g_winch;

TEST(PtyJob, AChangedSizeIsSignalled) {
  Pair p = Open();
  Pipe ready = MakePipe();
  pid_t pid = ForkChild([&] {
    ScopedHandler handler(SIGWINCH, [](int) { g_winch = 1; });
    ScopedBlock block({SIGWINCH});
    BecomeLeader(p);
    CHILD_CHECK(write(ready.write_end.get(), "x", 1) == 1);
    sigset_t none;
    sigemptyset(&none);
    while (!g_winch) sigsuspend(&none);
    winsize size;
    CHILD_CHECK(ioctl(p.slave.get(), TIOCGWINSZ, &size) == 0);
    CHILD_CHECK(size.ws_row == 10 && size.ws_col == 20);
  });
  ChildGuard guard(pid);
  char byte;
  ASSERT_EQ(read(ready.read_end.get(), &byte, 1), 1);
  winsize size = {10, 20, 0, 0};
  ASSERT_OK(ioctl(p.master.get(), TIOCSWINSZ, &size));
  EXPECT_EXITED(guard.Wait(), 0);
}

TEST(PtyJob, ClosingTheMasterHangsTheSessionUp) {
  Pair p = Open();
  Pipe ready = MakePipe();
  pid_t pid = ForkChild([&] {
    p.master.Close();
    BecomeLeader(p);
    CHILD_CHECK(write(ready.write_end.get(), "x", 1) == 1);
    for (;;) pause();
  });
  ChildGuard guard(pid);
  char byte;
  ASSERT_EQ(read(ready.read_end.get(), &byte, 1), 1);
  p.master.Close();
  EXPECT_SIGNALED(guard.Wait(), SIGHUP);
}

TEST(PtyJob, TheEndOfTheLeaderHangsUpTheForeground) {
  Pair p = Open();
  Pipe ready = MakePipe(), report = MakePipe();
  pid_t pid = ForkChild([&] {
    BecomeLeader(p);
    pid_t job = fork();
    if (job == 0) {
      report.write_end.Close();
      for (;;) pause();
    }
    report.write_end.Close();
    _exit(0);
  });
  // The write end stays open in nobody but us.
  EXPECT_EXITED(WaitFor(pid), 0);
  // The job is in the leader's group, which was the foreground: SIGHUP kills it. Its slave descriptor goes with it.
  p.slave.Close();
  pollfd hup = {p.master.get(), 0, 0};
  EXPECT_EQ(poll(&hup, 1, 5000), 1);
  EXPECT_TRUE(hup.revents & POLLHUP);
}

TEST(PtyEpoll, IsReadyForWritingAndAfterInput) {
  Pair p = Open();
  pollfd both[] = {{p.slave.get(), POLLIN | POLLOUT, 0}, {p.master.get(), POLLIN | POLLOUT, 0}};
  EXPECT_EQ(poll(both, 2, 0), 2);
  EXPECT_EQ(both[0].revents, POLLOUT);
  EXPECT_EQ(both[1].revents, POLLOUT);
  pid_t pid = ForkChild([&] {
    pollfd in = {p.slave.get(), POLLIN, 0};
    CHILD_CHECK(poll(&in, 1, -1) == 1);
  });
  ChildGuard guard(pid);
  ASSERT_TRUE(WaitUntilBlocked(pid));
  Send(p.master.get(), "x\n");
  EXPECT_EXITED(guard.Wait(), 0);
}

}  // namespace
}  // namespace conformance

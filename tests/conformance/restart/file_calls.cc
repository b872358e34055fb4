// Calls that wait: pipes, files of events, terminals, FIFOs, locks.
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <termios.h>
#include <time.h>

#include <vector>

#include "restart/call.h"

namespace conformance::restart {
namespace {

// --- Descriptors that become readable ------------------------------------------------------------------------------

class PipeCall : public Call {
 public:
  void Prepare() override { pipe_ = MakePipe(); }
  void Release(pid_t) override { EXPECT_EQ(write(pipe_.write_end.get(), "x", 1), 1); }

 protected:
  int fd() const { return pipe_.read_end.get(); }
  char c_ = 0;
  Pipe pipe_;
};
struct ReadPipe : PipeCall {
  long Block() override { return read(fd(), &c_, 1); }
};
struct ReadvPipe : PipeCall {
  long Block() override {
    iovec v = {&c_, 1};
    return readv(fd(), &v, 1);
  }
};
struct Poll : PipeCall {
  long Block() override {
    pollfd p = {fd(), POLLIN, 0};
    return poll(&p, 1, -1);
  }
};
struct PollTimeout : PipeCall {
  long Block() override {
    pollfd p = {fd(), POLLIN, 0};
    return syscall(SYS_poll, &p, 1, kLongSeconds * 1000);
  }
};
struct Ppoll : PipeCall {
  long Block() override {
    pollfd p = {fd(), POLLIN, 0};
    return ppoll(&p, 1, nullptr, nullptr);
  }
};
struct Select : PipeCall {
  long Block() override {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(fd(), &set);
    timeval limit = {kLongSeconds, 0};
    return syscall(SYS_select, fd() + 1, &set, nullptr, nullptr, &limit);
  }
};
struct Pselect : PipeCall {
  long Block() override {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(fd(), &set);
    return pselect(fd() + 1, &set, nullptr, nullptr, nullptr, nullptr);
  }
};
struct EpollWait : PipeCall {
  void Prepare() override {
    PipeCall::Prepare();
    epoll_ = Fd(epoll_create1(0));
    epoll_event event = {EPOLLIN, {}};
    EXPECT_OK(epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd(), &event));
  }
  long Block() override {
    epoll_event event;
    return syscall(SYS_epoll_wait, epoll_.get(), &event, 1, -1);
  }
  Fd epoll_;
};
struct EpollPwait : EpollWait {
  long Block() override {
    epoll_event event;
    return syscall(SYS_epoll_pwait, epoll_.get(), &event, 1, kLongSeconds * 1000, nullptr, 8);
  }
};
struct Splice : PipeCall {
  void Prepare() override {
    PipeCall::Prepare();
    out_ = MakePipe();
  }
  long Block() override { return splice(fd(), nullptr, out_.write_end.get(), nullptr, 100, 0); }
  Pipe out_;
};
struct Tee : Splice {
  long Block() override { return tee(fd(), out_.write_end.get(), 100, 0); }
};
struct Preadv2 : PipeCall {
  long Block() override {
    iovec v = {&c_, 1};
    return syscall(SYS_preadv2, fd(), &v, 1, -1L, -1L, 0);
  }
};
struct EpollPwait2 : EpollWait {
  long Block() override {
    epoll_event event;
    timespec limit = {kLongSeconds, 0};
    return syscall(SYS_epoll_pwait2, epoll_.get(), &event, 1, &limit, nullptr, 8);
  }
};

// --- Full pipes ----------------------------------------------------------------------------------------------------

struct WritePipe : Call {
  void Prepare() override {
    pipe_ = MakePipe();
    fcntl(pipe_.write_end.get(), F_SETFL, O_NONBLOCK);
    char page[4096] = {};
    while (write(pipe_.write_end.get(), page, sizeof(page)) > 0) {
    }
    fcntl(pipe_.write_end.get(), F_SETFL, 0);
  }
  long Block() override { return write(pipe_.write_end.get(), "x", 1); }
  void Release(pid_t) override {
    char page[8192];
    EXPECT_GT(read(pipe_.read_end.get(), page, sizeof(page)), 0);
  }
  Pipe pipe_;
};
struct WritevPipe : WritePipe {
  long Block() override {
    char c = 'x';
    iovec v = {&c, 1};
    return writev(pipe_.write_end.get(), &v, 1);
  }
};
struct Sendfile : WritePipe {
  long Block() override {
    Fd file(open("/proc/self/exe", O_RDONLY));
    return sendfile(pipe_.write_end.get(), file.get(), nullptr, 1);
  }
};
struct Pwritev2 : WritePipe {
  long Block() override {
    char c = 'x';
    iovec v = {&c, 1};
    return syscall(SYS_pwritev2, pipe_.write_end.get(), &v, 1, -1L, -1L, 0);
  }
};
struct Vmsplice : WritePipe {
  long Block() override {
    char c = 'x';
    iovec v = {&c, 1};
    return vmsplice(pipe_.write_end.get(), &v, 1, 0);
  }
};

// --- Event descriptors ---------------------------------------------------------------------------------------------

struct ReadEventfd : Call {
  void Prepare() override { fd_ = Fd(eventfd(0, 0)); }
  long Block() override {
    uint64_t value;
    return read(fd_.get(), &value, 8);
  }
  void Release(pid_t) override {
    uint64_t one = 1;
    EXPECT_EQ(write(fd_.get(), &one, 8), 8);
  }
  Fd fd_;
};
struct WriteEventfd : ReadEventfd {
  void Prepare() override {
    fd_ = Fd(eventfd(0, 0));
    uint64_t full = ~1ull;
    EXPECT_EQ(write(fd_.get(), &full, 8), 8);
  }
  long Block() override {
    uint64_t one = 1;
    return write(fd_.get(), &one, 8);
  }
  void Release(pid_t) override {
    uint64_t value;
    EXPECT_EQ(read(fd_.get(), &value, 8), 8);
  }
};
struct ReadTimerfd : ReadEventfd {
  void Prepare() override {
    fd_ = Fd(timerfd_create(CLOCK_MONOTONIC, 0));
    itimerspec later = {{0, 0}, {kLongSeconds, 0}};
    EXPECT_OK(timerfd_settime(fd_.get(), 0, &later, nullptr));
  }
  void Release(pid_t) override {
    itimerspec now = {{0, 0}, {0, 1}};
    EXPECT_OK(timerfd_settime(fd_.get(), 0, &now, nullptr));
  }
};
struct ReadSignalfd : Call {
  void PrepareChild() override {
    sigset_t set = MakeSet({SIGRTMIN});
    sigprocmask(SIG_BLOCK, &set, nullptr);
    fd_ = Fd(signalfd(-1, &set, 0));
  }
  long Block() override {
    signalfd_siginfo info;
    return read(fd_.get(), &info, sizeof(info));
  }
  void Release(pid_t child) override { EXPECT_OK(kill(child, SIGRTMIN)); }
  Fd fd_;
};
struct ReadInotify : Call {
  void Prepare() override {
    fd_ = Fd(inotify_init1(0));
    EXPECT_OK(inotify_add_watch(fd_.get(), dir_.path().c_str(), IN_CREATE));
  }
  long Block() override {
    char buffer[4096];
    return read(fd_.get(), buffer, sizeof(buffer));
  }
  void Release(pid_t) override { EXPECT_TRUE(WriteFile(dir_ / "new", "")); }
  TempDir dir_;
  Fd fd_;
};

// --- Terminals and FIFOs -------------------------------------------------------------------------------------------

struct ReadTerminal : Call {
  void Prepare() override {
    master_ = Fd(posix_openpt(O_RDWR | O_NOCTTY));
    grantpt(master_.get());
    unlockpt(master_.get());
    slave_ = Fd(open(ptsname(master_.get()), O_RDWR | O_NOCTTY));
    EXPECT_TRUE(slave_.ok());
  }
  long Block() override {
    char c;
    return read(slave_.get(), &c, 1);
  }
  void Release(pid_t) override { EXPECT_EQ(write(master_.get(), "x\n", 2), 2); }
  Fd master_, slave_;
};
struct ReadMaster : ReadTerminal {
  long Block() override {
    char c;
    return read(master_.get(), &c, 1);
  }
  void Release(pid_t) override { EXPECT_EQ(write(slave_.get(), "x", 1), 1); }
};
struct OpenFifoForReading : Call {
  void Prepare() override { EXPECT_OK(mkfifo((dir_ / "fifo").c_str(), 0600)); }
  long Block() override { return open((dir_ / "fifo").c_str(), O_RDONLY); }
  void Release(pid_t) override { other_ = Fd(open((dir_ / "fifo").c_str(), O_RDWR)); }
  TempDir dir_;
  Fd other_;
};
struct OpenFifoForWriting : OpenFifoForReading {
  long Block() override { return open((dir_ / "fifo").c_str(), O_WRONLY); }
};
struct WriteTerminal : ReadTerminal {
  void Prepare() override {
    ReadTerminal::Prepare();
    termios t;
    EXPECT_OK(tcgetattr(slave_.get(), &t));
    cfmakeraw(&t);
    EXPECT_OK(tcsetattr(slave_.get(), TCSANOW, &t));
    SetNonblocking(true);
    // The host's line discipline moves bytes in the background.
    for (int quiet = 0; quiet < 20;) {
      if (write(slave_.get(), "x", 1) == 1) {
        quiet = 0;
      } else {
        ++quiet;
        SleepMs(1);
      }
    }
    SetNonblocking(false);
  }
  void SetNonblocking(bool on) {
    const int flags = fcntl(slave_.get(), F_GETFL);
    fcntl(slave_.get(), F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
  }
  long Block() override { return write(slave_.get(), "x", 1); }
  void Release(pid_t) override {
    // A writer is woken when there is much room.
    std::vector<char> data(1 << 16);
    for (pollfd p = {master_.get(), POLLIN, 0}; poll(&p, 1, 50) == 1;) {
      EXPECT_GT(read(master_.get(), data.data(), data.size()), 0);
    }
  }
};

// --- Locks ---------------------------------------------------------------------------------------------------------

struct Flock : Call {
  void Prepare() override {
    EXPECT_TRUE(WriteFile(dir_ / "lock", "x"));
    mine_ = Fd(open((dir_ / "lock").c_str(), O_RDWR));
    EXPECT_OK(flock(mine_.get(), LOCK_EX));
  }
  long Block() override {
    Fd other(open((dir_ / "lock").c_str(), O_RDWR));
    return flock(other.get(), LOCK_EX);
  }
  void Release(pid_t) override { EXPECT_OK(flock(mine_.get(), LOCK_UN)); }
  TempDir dir_;
  Fd mine_;
};
struct RecordLock : Flock {
  void Prepare() override {
    EXPECT_TRUE(WriteFile(dir_ / "lock", "x"));
    mine_ = Fd(open((dir_ / "lock").c_str(), O_RDWR));
    Lock(mine_.get(), F_WRLCK, false);
  }
  long Block() override {
    Fd other(open((dir_ / "lock").c_str(), O_RDWR));
    return Lock(other.get(), F_WRLCK, true);
  }
  void Release(pid_t) override { Lock(mine_.get(), F_UNLCK, false); }
  virtual long Lock(int fd, short type, bool wait) {
    struct flock lock = {};
    lock.l_type = type;
    return fcntl(fd, wait ? F_SETLKW : F_SETLK, &lock);
  }
};
struct DescriptionLock : RecordLock {
  long Lock(int fd, short type, bool wait) override {
    struct flock lock = {};
    lock.l_type = type;
    return fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &lock);
  }
};
// Who opens or truncates waits for a lease to be given up (man 2 fcntl).
struct OpenLeased : Call {
  void Prepare() override {
    EXPECT_TRUE(WriteFile(dir_ / "leased", "x"));
    old_ = signal(SIGIO, SIG_IGN);
    mine_ = Fd(open((dir_ / "leased").c_str(), O_RDONLY));
    EXPECT_OK(fcntl(mine_.get(), F_SETLEASE, F_RDLCK));
  }
  ~OpenLeased() override { signal(SIGIO, old_); }
  long Block() override { return open((dir_ / "leased").c_str(), O_WRONLY); }
  void Release(pid_t) override { EXPECT_OK(fcntl(mine_.get(), F_SETLEASE, F_UNLCK)); }
  TempDir dir_;
  Fd mine_;
  sighandler_t old_ = nullptr;
};
struct TruncateLeased : OpenLeased {
  long Block() override { return truncate((dir_ / "leased").c_str(), 0); }
};

}  // namespace

std::vector<CallRow> FileCalls() {
  return {
      {"read_pipe", Make<ReadPipe>, Rule::kRestart},
      {"readv_pipe", Make<ReadvPipe>, Rule::kRestart},
      {"write_pipe", Make<WritePipe>, Rule::kRestart},
      {"writev_pipe", Make<WritevPipe>, Rule::kRestart},
      {"sendfile_to_pipe", Make<Sendfile>, Rule::kRestart},
      {"splice", Make<Splice>, Rule::kRestart},
      {"tee", Make<Tee>, Rule::kRestart},
      {"poll", Make<Poll>, Rule::kRestartNoHand},
      {"poll_timeout", Make<PollTimeout>, Rule::kRestartNoHand},
      {"ppoll", Make<Ppoll>, Rule::kRestartNoHand},
      {"select", Make<Select>, Rule::kRestartNoHand},
      {"pselect", Make<Pselect>, Rule::kRestartNoHand},
      {"epoll_wait", Make<EpollWait>, Rule::kInterrupt},
      {"epoll_pwait_timeout", Make<EpollPwait>, Rule::kInterrupt},
      {"read_eventfd", Make<ReadEventfd>, Rule::kRestart},
      {"write_eventfd", Make<WriteEventfd>, Rule::kRestart},
      {"read_timerfd", Make<ReadTimerfd>, Rule::kRestart},
      {"read_signalfd", Make<ReadSignalfd>, Rule::kRestart},
      {"read_inotify", Make<ReadInotify>, Rule::kRestart},
      {"read_terminal", Make<ReadTerminal>, Rule::kRestart},
      {"read_terminal_master", Make<ReadMaster>, Rule::kRestart},
      {"open_fifo_for_reading", Make<OpenFifoForReading>, Rule::kRestart},
      {"open_fifo_for_writing", Make<OpenFifoForWriting>, Rule::kRestart},
      {"flock", Make<Flock>, Rule::kRestart},
      {"fcntl_setlkw", Make<RecordLock>, Rule::kRestart},
      {"fcntl_ofd_setlkw", Make<DescriptionLock>, Rule::kRestart},
      {"preadv2_pipe", Make<Preadv2>, Rule::kRestart},
      {"pwritev2_pipe", Make<Pwritev2>, Rule::kRestart},
      {"vmsplice", Make<Vmsplice>, Rule::kRestart},
      {"epoll_pwait2", Make<EpollPwait2>, Rule::kInterrupt},
      {"write_terminal", Make<WriteTerminal>, Rule::kRestart},
      {"open_leased", Make<OpenLeased>, Rule::kRestart},
      {"truncate_leased", Make<TruncateLeased>, Rule::kRestart},
  };
}

}  // namespace conformance::restart

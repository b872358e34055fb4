// Every call that can block, and what interrupts it: a table of calls times a table of events.
//
// A child makes the call; the parent waits until it sleeps, lets the event happen, and learns whether the call went on
// (it still waits, and ends normally once what it waits for comes) or ended with EINTR.
//
// Sources: man 7 signal, "Interruption of system calls and library functions by signal handlers" and "... by stop
// signals"; kernel/signal.c and arch/x86/kernel/signal.c for the four -ERESTART codes.
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/seccomp.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>

#include <atomic>
#include <memory>
#include <vector>

#include "support/support.h"

namespace conformance {
namespace {

constexpr long kLongSeconds = 1000;

// What a signal does to a call that waits.
enum class Rule {
  kRestart,        // ERESTARTSYS: goes on after a handler with SA_RESTART, EINTR after one without.
  kRestartNoHand,  // ERESTARTNOHAND, ERESTART_RESTARTBLOCK: EINTR after every handler, goes on when none ran.
  kRestartAlways,  // ERESTARTNOINTR: goes on after every handler.
  kInterrupt,      // EINTR: ends after every handler, and also when the process was stopped and continued.
  kCutShort,       // Waits no longer in those cases, and succeeds all the same.
};

// One call: made in the child, released by the parent.
class Call {
 public:
  virtual ~Call() = default;
  virtual void Prepare() {}               // Before the fork.
  virtual void PrepareChild() {}          // In the child, before it says that it is ready.
  virtual long Block() = 0;               // In the child: −1 with errno, or the result.
  virtual void Release(pid_t child) = 0;  // In the parent: makes the call end with success.
  virtual bool Succeeded(long result) { return result >= 0; }
};

template <typename T>
std::unique_ptr<Call> Make() {
  return std::make_unique<T>();
}

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

// --- Sockets -------------------------------------------------------------------------------------------------------

struct SocketCall : Call {
  void Prepare() override { pair_ = MakeSocketPair(); }
  void Release(pid_t) override { EXPECT_EQ(write(pair_.b.get(), "x", 1), 1); }
  int fd() const { return pair_.a.get(); }
  SocketPair pair_;
  char c_ = 0;
};
struct ReadSocket : SocketCall {
  long Block() override { return read(fd(), &c_, 1); }
};
struct Recv : SocketCall {
  long Block() override { return recv(fd(), &c_, 1, 0); }
};
struct Recvmsg : SocketCall {
  long Block() override {
    iovec v = {&c_, 1};
    msghdr message = {};
    message.msg_iov = &v;
    message.msg_iovlen = 1;
    return recvmsg(fd(), &message, 0);
  }
};
struct Recvmmsg : SocketCall {
  long Block() override {
    iovec v = {&c_, 1};
    mmsghdr message = {};
    message.msg_hdr.msg_iov = &v;
    message.msg_hdr.msg_iovlen = 1;
    return recvmmsg(fd(), &message, 1, 0, nullptr);
  }
};
struct RecvTimeout : SocketCall {
  long Block() override {
    timeval limit = {kLongSeconds, 0};
    setsockopt(fd(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    return recv(fd(), &c_, 1, 0);
  }
};
struct RecvDatagram : SocketCall {
  void Prepare() override { pair_ = MakeSocketPair(SOCK_DGRAM); }
  long Block() override { return recv(fd(), &c_, 1, 0); }
};
struct Send : SocketCall {
  void Prepare() override {
    SocketCall::Prepare();
    char page[4096] = {};
    while (send(fd(), page, sizeof(page), MSG_DONTWAIT) > 0) {
    }
  }
  long Block() override { return send(fd(), "x", 1, 0); }
  void Release(pid_t) override {
    static char buffer[1 << 20];
    EXPECT_GT(read(pair_.b.get(), buffer, sizeof(buffer)), 0);
  }
};
struct SendTimeout : Send {
  long Block() override {
    timeval limit = {kLongSeconds, 0};
    setsockopt(fd(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    return send(fd(), "x", 1, 0);
  }
};
struct Sendmsg : Send {
  long Block() override {
    char c = 'x';
    iovec v = {&c, 1};
    msghdr message = {};
    message.msg_iov = &v;
    message.msg_iovlen = 1;
    return sendmsg(fd(), &message, 0);
  }
};

struct AcceptUnix : Call {
  void Prepare() override {
    listener_ = Fd(socket(AF_UNIX, SOCK_STREAM, 0));
    address_ = {};
    address_.sun_family = AF_UNIX;
    strcpy(address_.sun_path, (dir_ / "s").c_str());
    EXPECT_OK(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address_), sizeof(address_)));
    EXPECT_OK(listen(listener_.get(), 0));
  }
  long Block() override { return accept(listener_.get(), nullptr, nullptr); }
  void Release(pid_t) override {
    client_ = Fd(socket(AF_UNIX, SOCK_STREAM, 0));
    EXPECT_OK(connect(client_.get(), reinterpret_cast<sockaddr*>(&address_), sizeof(address_)));
  }
  TempDir dir_;
  sockaddr_un address_;
  Fd listener_, client_;
};
struct Accept4Timeout : AcceptUnix {
  long Block() override {
    timeval limit = {kLongSeconds, 0};
    setsockopt(listener_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    return accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
  }
};
struct ConnectUnix : AcceptUnix {
  void Prepare() override {
    AcceptUnix::Prepare();
    // A backlog of 0 holds one connection; the next one waits.
    first_ = Fd(socket(AF_UNIX, SOCK_STREAM, 0));
    EXPECT_OK(connect(first_.get(), reinterpret_cast<sockaddr*>(&address_), sizeof(address_)));
  }
  long Block() override {
    Fd s(socket(AF_UNIX, SOCK_STREAM, 0));
    return connect(s.get(), reinterpret_cast<sockaddr*>(&address_), sizeof(address_));
  }
  void Release(pid_t) override { accepted_ = Fd(accept(listener_.get(), nullptr, nullptr)); }
  Fd first_, accepted_;
};

struct TcpCall : Call {
  void Prepare() override {
    listener_ = Fd(socket(AF_INET, SOCK_STREAM, 0));
    address_ = {};
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_OK(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address_), sizeof(address_)));
    EXPECT_OK(listen(listener_.get(), backlog_));
    socklen_t size = sizeof(address_);
    EXPECT_OK(getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address_), &size));
  }
  Fd Connect() {
    Fd s(socket(AF_INET, SOCK_STREAM, 0));
    EXPECT_OK(connect(s.get(), reinterpret_cast<sockaddr*>(&address_), sizeof(address_)));
    return s;
  }
  int backlog_ = 5;
  sockaddr_in address_;
  Fd listener_, client_, server_;
};
struct AcceptTcp : TcpCall {
  long Block() override { return accept(listener_.get(), nullptr, nullptr); }
  void Release(pid_t) override { client_ = Connect(); }
};
struct ConnectTcp : TcpCall {
  void Prepare() override {
    // A backlog of 0 holds one connection; the next one's SYN is dropped, and sent again after one, two, four seconds.
    backlog_ = 0;
    TcpCall::Prepare();
    client_ = Connect();
    // The last segment of its handshake may come later.
    pollfd p = {listener_.get(), POLLIN, 0};
    EXPECT_EQ(poll(&p, 1, 10'000), 1);
  }
  long Block() override {
    Fd s(socket(AF_INET, SOCK_STREAM, 0));
    return connect(s.get(), reinterpret_cast<sockaddr*>(&address_), sizeof(address_));
  }
  void Release(pid_t) override { server_ = Fd(accept(listener_.get(), nullptr, nullptr)); }
};
struct RecvTcp : TcpCall {
  void Prepare() override {
    TcpCall::Prepare();
    client_ = Connect();
    server_ = Fd(accept(listener_.get(), nullptr, nullptr));
  }
  long Block() override {
    char c;
    return recv(client_.get(), &c, 1, 0);
  }
  void Release(pid_t) override { EXPECT_EQ(send(server_.get(), "x", 1, 0), 1); }
};
struct RecvUdp : Call {
  void Prepare() override {
    socket_ = Fd(socket(AF_INET, SOCK_DGRAM, 0));
    address_ = {};
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_OK(bind(socket_.get(), reinterpret_cast<sockaddr*>(&address_), sizeof(address_)));
    socklen_t size = sizeof(address_);
    EXPECT_OK(getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&address_), &size));
  }
  long Block() override {
    char c;
    return recvfrom(socket_.get(), &c, 1, 0, nullptr, nullptr);
  }
  void Release(pid_t) override {
    EXPECT_EQ(sendto(socket_.get(), "x", 1, 0, reinterpret_cast<sockaddr*>(&address_), sizeof(address_)), 1);
  }
  sockaddr_in address_;
  Fd socket_;
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

// --- Processes -----------------------------------------------------------------------------------------------------

struct WaitCall : Call {
  void Prepare() override { pipe_ = MakePipe(); }
  void PrepareChild() override {
    grandchild_ = ForkChild([&] {
      char c;
      ssize_t n = read(pipe_.read_end.get(), &c, 1);
      _exit(n == 1 ? 0 : 1);
    });
  }
  void Release(pid_t) override { EXPECT_EQ(write(pipe_.write_end.get(), "x", 1), 1); }
  Pipe pipe_;
  pid_t grandchild_ = 0;
};
struct Wait4 : WaitCall {
  long Block() override { return waitpid(grandchild_, nullptr, 0); }
};
struct Waitid : WaitCall {
  long Block() override {
    siginfo_t info;
    return waitid(P_PID, grandchild_, &info, WEXITED);
  }
};

// --- Time and signals ----------------------------------------------------------------------------------------------

// Sleeps end by themselves: 600 ms, long enough for the event.
struct Nanosleep : Call {
  long Block() override {
    timespec time = {0, 600'000'000};
    return syscall(SYS_nanosleep, &time, nullptr);
  }
  void Release(pid_t) override {}
};
struct ClockNanosleep : Nanosleep {
  long Block() override {
    timespec time = {0, 600'000'000};
    return syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &time, nullptr);
  }
};
struct ClockNanosleepAbsolute : Nanosleep {
  long Block() override {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    time.tv_nsec += 600'000'000;
    if (time.tv_nsec >= 1'000'000'000) {
      time.tv_nsec -= 1'000'000'000;
      ++time.tv_sec;
    }
    return syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &time, nullptr);
  }
};
struct PollSleep : Nanosleep {
  long Block() override { return syscall(SYS_poll, nullptr, 0, 600); }
};
struct Sigtimedwait : Call {
  void PrepareChild() override {
    set_ = MakeSet({SIGRTMIN});
    sigprocmask(SIG_BLOCK, &set_, nullptr);
  }
  long Block() override {
    timespec limit = {kLongSeconds, 0};
    return sigtimedwait(&set_, nullptr, &limit);
  }
  void Release(pid_t child) override { EXPECT_OK(kill(child, SIGRTMIN)); }
  sigset_t set_;
};
struct Sigwaitinfo : Sigtimedwait {
  long Block() override { return syscall(SYS_rt_sigtimedwait, &set_, nullptr, nullptr, 8); }
};
// pause and sigsuspend end only with a handler: the release is a signal whose handler makes them "fail" with EINTR.
struct Pause : Call {
  void PrepareChild() override {
    signal(SIGRTMIN, [](int) {});
  }
  long Block() override { return pause(); }
  void Release(pid_t child) override { EXPECT_OK(kill(child, SIGRTMIN)); }
};
struct Sigsuspend : Pause {
  long Block() override {
    sigset_t none;
    sigemptyset(&none);
    return sigsuspend(&none);
  }
};

// --- Futexes -------------------------------------------------------------------------------------------------------

struct FutexWait : Call {
  void Prepare() override { shared_ = Mapping(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS); }
  long Block() override { return syscall(SYS_futex, word(), FUTEX_WAIT, 0, nullptr); }
  void Release(pid_t) override {
    EXPECT_TRUE(Eventually([&] { return syscall(SYS_futex, word(), FUTEX_WAKE, 1) == 1; }));
  }
  uint32_t* word() { return shared_.as<uint32_t>(); }
  Mapping shared_;
};
struct FutexWaitTimeout : FutexWait {
  long Block() override {
    timespec limit = {kLongSeconds, 0};
    return syscall(SYS_futex, word(), FUTEX_WAIT, 0, &limit);
  }
};
struct FutexWaitBitset : FutexWait {
  long Block() override {
    timespec limit;
    clock_gettime(CLOCK_MONOTONIC, &limit);
    limit.tv_sec += kLongSeconds;
    return syscall(SYS_futex, word(), FUTEX_WAIT_BITSET, 0, &limit, nullptr, FUTEX_BITSET_MATCH_ANY);
  }
};

// --- Queues and semaphores -----------------------------------------------------------------------------------------

struct SemopCall : Call {
  void Prepare() override {
    id_ = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);
    EXPECT_OK(id_);
  }
  ~SemopCall() override { semctl(id_, 0, IPC_RMID); }
  long Block() override {
    sembuf down = {0, -1, 0};
    return syscall(SYS_semop, id_, &down, 1);
  }
  void Release(pid_t) override {
    sembuf up = {0, 1, 0};
    EXPECT_OK(semop(id_, &up, 1));
  }
  int id_ = -1;
};
struct Semtimedop : SemopCall {
  long Block() override {
    sembuf down = {0, -1, 0};
    timespec limit = {kLongSeconds, 0};
    return syscall(SYS_semtimedop, id_, &down, 1, &limit);
  }
};
struct MessageOf16 {
  long type = 1;
  char text[16] = {};
};
struct Msgrcv : Call {
  void Prepare() override {
    id_ = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
    EXPECT_OK(id_);
  }
  ~Msgrcv() override { msgctl(id_, IPC_RMID, nullptr); }
  long Block() override {
    MessageOf16 m;
    return msgrcv(id_, &m, sizeof(m.text), 0, 0);
  }
  void Release(pid_t) override {
    MessageOf16 m;
    EXPECT_OK(msgsnd(id_, &m, sizeof(m.text), 0));
  }
  int id_ = -1;
};
struct Msgsnd : Msgrcv {
  void Prepare() override {
    Msgrcv::Prepare();
    MessageOf16 m;
    while (msgsnd(id_, &m, sizeof(m.text), IPC_NOWAIT) == 0) {
    }
  }
  long Block() override {
    MessageOf16 m;
    return msgsnd(id_, &m, sizeof(m.text), 0);
  }
  void Release(pid_t) override {
    MessageOf16 m;
    EXPECT_OK(msgrcv(id_, &m, sizeof(m.text), 0, 0));
  }
};
struct MqReceive : Call {
  void Prepare() override {
    const std::string name = "/restart-" + std::to_string(getpid());
    mq_attr attr = {};
    attr.mq_maxmsg = 1;
    attr.mq_msgsize = 16;
    queue_ = Fd(mq_open(name.c_str(), O_RDWR | O_CREAT, 0600, &attr));
    EXPECT_TRUE(queue_.ok());
    mq_unlink(name.c_str());
  }
  long Block() override {
    char text[16];
    return mq_receive(queue_.get(), text, sizeof(text), nullptr);
  }
  void Release(pid_t) override { EXPECT_OK(mq_send(queue_.get(), "x", 1, 0)); }
  Fd queue_;
};
struct MqReceiveTimeout : MqReceive {
  long Block() override {
    char text[16];
    timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += kLongSeconds;
    return mq_timedreceive(queue_.get(), text, sizeof(text), nullptr, &limit);
  }
};
struct MqSend : MqReceive {
  void Prepare() override {
    MqReceive::Prepare();
    EXPECT_OK(mq_send(queue_.get(), "y", 1, 0));
  }
  long Block() override { return mq_send(queue_.get(), "x", 1, 0); }
  void Release(pid_t) override {
    char text[16];
    EXPECT_EQ(mq_receive(queue_.get(), text, sizeof(text), nullptr), 1);
  }
};

// --- The same waits by other calls ---------------------------------------------------------------------------------

struct Preadv2 : PipeCall {
  long Block() override {
    iovec v = {&c_, 1};
    return syscall(SYS_preadv2, fd(), &v, 1, -1L, -1L, 0);
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
struct EpollPwait2 : EpollWait {
  long Block() override {
    epoll_event event;
    timespec limit = {kLongSeconds, 0};
    return syscall(SYS_epoll_pwait2, epoll_.get(), &event, 1, &limit, nullptr, 8);
  }
};
struct Sendmmsg : Send {
  long Block() override {
    char c = 'x';
    iovec v = {&c, 1};
    mmsghdr message = {};
    message.msg_hdr.msg_iov = &v;
    message.msg_hdr.msg_iovlen = 1;
    return sendmmsg(fd(), &message, 1, 0);
  }
};
struct SendTcp : RecvTcp {
  void Prepare() override {
    RecvTcp::Prepare();
    FillSocket(client_.get());
  }
  long Block() override { return send(client_.get(), "x", 1, 0); }
  void Release(pid_t) override {
    // What is on its way counts, too: until nothing more comes.
    std::vector<char> data(1 << 20);
    while (recv(server_.get(), data.data(), data.size(), MSG_DONTWAIT) > 0) SleepMs(1);
  }
  static void FillSocket(int fd) {
    std::vector<char> data(1 << 16, 'x');
    // The other side takes some more when it has looked.
    for (int quiet = 0; quiet < 20;) {
      if (send(fd, data.data(), data.size(), MSG_DONTWAIT) > 0 || send(fd, "x", 1, MSG_DONTWAIT) > 0) {
        quiet = 0;
      } else {
        ++quiet;
        SleepMs(1);
      }
    }
  }
};
// close(2) waits until the peer's kernel has everything, for as long as SO_LINGER says. The wait is no part of the call
// that a signal could make fail (tcp_close, sk_stream_wait_close).
struct CloseLingering : TcpCall {
  // In the child: its descriptor has to be the last one.
  void PrepareChild() override {
    client_ = Connect();
    const linger wait = {1, kLongSeconds};
    CHILD_CHECK(setsockopt(client_.get(), SOL_SOCKET, SO_LINGER, &wait, sizeof(wait)) == 0);
    SendTcp::FillSocket(client_.get());
  }
  long Block() override { return close(client_.get()); }
  void Release(pid_t) override {
    server_ = Fd(accept(listener_.get(), nullptr, nullptr));
    std::vector<char> data(1 << 20);
    while (recv(server_.get(), data.data(), data.size(), 0) > 0) {
    }
  }
};
struct RecvNetlink : Call {
  void Prepare() override { socket_ = Fd(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)); }
  long Block() override {
    char bytes[8192];
    return recv(socket_.get(), bytes, sizeof(bytes), 0);
  }
  void Release(pid_t) override {
    struct {
      nlmsghdr header;
      rtgenmsg message;
    } request = {};
    request.header.nlmsg_len = sizeof(request);
    request.header.nlmsg_type = RTM_GETLINK;
    request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    EXPECT_EQ(send(socket_.get(), &request, sizeof(request), 0), static_cast<ssize_t>(sizeof(request)));
  }
  Fd socket_;
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
struct WaitidPidfd : WaitCall {
  void PrepareChild() override {
    WaitCall::PrepareChild();
    pidfd_ = static_cast<int>(syscall(SYS_pidfd_open, grandchild_, 0));
  }
  long Block() override {
    siginfo_t info;
    return waitid(static_cast<idtype_t>(3), static_cast<id_t>(pidfd_), &info, WEXITED);  // P_PIDFD
  }
  int pidfd_ = -1;
};
struct FutexWaitv : FutexWait {
  long Block() override {
    struct {
      uint64_t value, address;
      uint32_t flags, reserved;
    } waiter = {0, reinterpret_cast<uint64_t>(word()), 2, 0};  // FUTEX_32
    return syscall(SYS_futex_waitv, &waiter, 1, 0, nullptr, 0);
  }
};
struct FutexLockPi : FutexWait {
  void Prepare() override {
    FutexWait::Prepare();
    EXPECT_OK(syscall(SYS_futex, word(), FUTEX_LOCK_PI, 0, nullptr));
  }
  long Block() override { return syscall(SYS_futex, word(), FUTEX_LOCK_PI, 0, nullptr); }
  void Release(pid_t) override { EXPECT_OK(syscall(SYS_futex, word(), FUTEX_UNLOCK_PI, 0, nullptr)); }
};

// --- Questions of seccomp ------------------------------------------------------------------------------------------

// The child's calls of umask are for a listener to decide (man 2 seccomp_unotify), and so are those of its own child,
// which has the listener, too.
struct SeccompCall : Call {
  void Prepare() override { pipe_ = MakePipe(); }
  void PrepareChild() override {
    sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_umask, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog fprog = {std::size(program), program};
    CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    listener_ =
        Fd(static_cast<int>(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &fprog)));
    CHILD_CHECK(listener_.ok());
    ForkChild([&] {
      pipe_.write_end.Close();
      char c;
      if (read(pipe_.read_end.get(), &c, 1) != 1) _exit(0);
      Grandchild();
    });
  }
  void Release(pid_t) override { EXPECT_EQ(write(pipe_.write_end.get(), "x", 1), 1); }
  virtual void Grandchild() = 0;
  Pipe pipe_;
  Fd listener_;
};
struct SeccompNotifRecv : SeccompCall {
  void Grandchild() override {
    listener_.Close();  // so that the child's end ends the question
    syscall(SYS_umask, 0);
  }
  long Block() override {
    seccomp_notif question = {};
    return ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_RECV, &question);
  }
};
struct SeccompQuestion : SeccompCall {
  void Grandchild() override {
    seccomp_notif question = {};
    CHILD_CHECK(ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_RECV, &question) == 0);
    seccomp_notif_resp answer = {question.id, 0, 0, 0};
    CHILD_CHECK(ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_SEND, &answer) == 0);
  }
  long Block() override { return syscall(SYS_umask, 0); }
};

// --- The table -----------------------------------------------------------------------------------------------------

struct CallRow {
  const char* name;
  std::unique_ptr<Call> (*make)();
  Rule rule;
};

const CallRow kCalls[] = {
    {"read_pipe", Make<ReadPipe>, Rule::kRestart},
    {"readv_pipe", Make<ReadvPipe>, Rule::kRestart},
    {"write_pipe", Make<WritePipe>, Rule::kRestart},
    {"writev_pipe", Make<WritevPipe>, Rule::kRestart},
    {"sendfile_to_pipe", Make<Sendfile>, Rule::kRestart},
    {"splice", Make<Splice>, Rule::kRestart},
    {"tee", Make<Tee>, Rule::kRestart},
    {"poll", Make<Poll>, Rule::kRestartNoHand},
    {"poll_timeout", Make<PollTimeout>, Rule::kRestartNoHand},
    {"poll_sleep", Make<PollSleep>, Rule::kRestartNoHand},
    {"ppoll", Make<Ppoll>, Rule::kRestartNoHand},
    {"select", Make<Select>, Rule::kRestartNoHand},
    {"pselect", Make<Pselect>, Rule::kRestartNoHand},
    {"epoll_wait", Make<EpollWait>, Rule::kInterrupt},
    {"epoll_pwait_timeout", Make<EpollPwait>, Rule::kInterrupt},
    {"read_unix", Make<ReadSocket>, Rule::kRestart},
    {"recv_unix", Make<Recv>, Rule::kRestart},
    {"recvmsg_unix", Make<Recvmsg>, Rule::kRestart},
    {"recvmmsg_unix", Make<Recvmmsg>, Rule::kRestart},
    {"recv_unix_datagram", Make<RecvDatagram>, Rule::kRestart},
    {"recv_unix_timeout", Make<RecvTimeout>, Rule::kInterrupt},
    {"send_unix", Make<Send>, Rule::kRestart},
    {"sendmsg_unix", Make<Sendmsg>, Rule::kRestart},
    {"send_unix_timeout", Make<SendTimeout>, Rule::kInterrupt},
    {"accept_unix", Make<AcceptUnix>, Rule::kRestart},
    {"accept4_unix_timeout", Make<Accept4Timeout>, Rule::kInterrupt},
    {"connect_unix", Make<ConnectUnix>, Rule::kRestart},
    {"accept_tcp", Make<AcceptTcp>, Rule::kRestart},
    {"connect_tcp", Make<ConnectTcp>, Rule::kRestart},
    {"recv_tcp", Make<RecvTcp>, Rule::kRestart},
    {"recvfrom_udp", Make<RecvUdp>, Rule::kRestart},
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
    {"wait4", Make<Wait4>, Rule::kRestart},
    {"waitid", Make<Waitid>, Rule::kRestart},
    {"nanosleep", Make<Nanosleep>, Rule::kRestartNoHand},
    {"clock_nanosleep", Make<ClockNanosleep>, Rule::kRestartNoHand},
    {"clock_nanosleep_absolute", Make<ClockNanosleepAbsolute>, Rule::kRestartNoHand},
    {"sigtimedwait", Make<Sigtimedwait>, Rule::kInterrupt},
    {"sigwaitinfo", Make<Sigwaitinfo>, Rule::kInterrupt},
    {"pause", Make<Pause>, Rule::kRestartNoHand},
    {"sigsuspend", Make<Sigsuspend>, Rule::kRestartNoHand},
    {"futex_wait", Make<FutexWait>, Rule::kRestart},
    {"futex_wait_timeout", Make<FutexWaitTimeout>, Rule::kRestartNoHand},
    {"futex_wait_bitset", Make<FutexWaitBitset>, Rule::kRestartNoHand},
    {"semop", Make<SemopCall>, Rule::kInterrupt},
    {"semtimedop", Make<Semtimedop>, Rule::kInterrupt},
    {"msgrcv", Make<Msgrcv>, Rule::kRestartNoHand},
    {"msgsnd", Make<Msgsnd>, Rule::kRestartNoHand},
    {"mq_receive", Make<MqReceive>, Rule::kRestart},
    {"mq_timedreceive", Make<MqReceiveTimeout>, Rule::kRestart},
    {"mq_send", Make<MqSend>, Rule::kRestart},
    {"preadv2_pipe", Make<Preadv2>, Rule::kRestart},
    {"pwritev2_pipe", Make<Pwritev2>, Rule::kRestart},
    {"vmsplice", Make<Vmsplice>, Rule::kRestart},
    {"epoll_pwait2", Make<EpollPwait2>, Rule::kInterrupt},
    {"sendmmsg_unix", Make<Sendmmsg>, Rule::kRestart},
    {"send_tcp", Make<SendTcp>, Rule::kRestart},
    {"close_lingering", Make<CloseLingering>, Rule::kCutShort},
    {"recv_netlink", Make<RecvNetlink>, Rule::kRestart},
    {"write_terminal", Make<WriteTerminal>, Rule::kRestart},
    {"open_leased", Make<OpenLeased>, Rule::kRestart},
    {"truncate_leased", Make<TruncateLeased>, Rule::kRestart},
    {"waitid_pidfd", Make<WaitidPidfd>, Rule::kRestart},
    {"futex_waitv", Make<FutexWaitv>, Rule::kRestart},
    {"futex_lock_pi", Make<FutexLockPi>, Rule::kRestartAlways},
    {"seccomp_notif_recv", Make<SeccompNotifRecv>, Rule::kRestart},
    {"seccomp_question", Make<SeccompQuestion>, Rule::kRestart},
};

enum class Event { kHandlerRestart, kHandler, kIgnored, kBlocked, kStopContinue, kKill };

struct EventRow {
  const char* name;
  Event event;
};
const EventRow kEvents[] = {
    {"handler_with_SA_RESTART", Event::kHandlerRestart},
    {"handler_without_SA_RESTART", Event::kHandler},
    {"ignored_signal", Event::kIgnored},
    {"blocked_signal", Event::kBlocked},
    {"stop_and_continue", Event::kStopContinue},
    {"fatal_signal", Event::kKill},
};

bool Interrupts(Rule rule, Event event) {
  switch (event) {
    case Event::kHandlerRestart:
      return rule == Rule::kRestartNoHand || rule == Rule::kInterrupt || rule == Rule::kCutShort;
    case Event::kHandler:
      return rule != Rule::kRestartAlways;
    case Event::kStopContinue:
      return rule == Rule::kInterrupt || rule == Rule::kCutShort;
    case Event::kIgnored:
    case Event::kBlocked:
    case Event::kKill:
      return false;
  }
  return false;
}

// What the child tells the parent.
struct Report {
  std::atomic<bool> ready, done;
  std::atomic<int> handled;
  std::atomic<long> result;
  std::atomic<int> error;
};
Report* g_report;

class Restart : public ::testing::TestWithParam<std::tuple<CallRow, EventRow>> {};

TEST_P(Restart, Follows) {
  const auto& [call_row, event_row] = GetParam();
  const Event event = event_row.event;
  Mapping memory(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  Report* report = g_report = memory.as<Report>();
  std::unique_ptr<Call> call = call_row.make();
  call->Prepare();
  if (HasFailure()) return;

  ChildGuard child(ForkChild([&] {
    struct sigaction action = {};
    if (event == Event::kHandler || event == Event::kHandlerRestart) {
      action.sa_handler = [](int) { ++g_report->handled; };
      action.sa_flags = event == Event::kHandlerRestart ? SA_RESTART : 0;
      sigaction(SIGUSR1, &action, nullptr);
    }
    if (event == Event::kIgnored) signal(SIGUSR1, SIG_IGN);
    if (event == Event::kBlocked) {
      sigset_t set = MakeSet({SIGUSR1});
      sigprocmask(SIG_BLOCK, &set, nullptr);
    }
    call->PrepareChild();
    report->ready = true;
    errno = 0;
    const long result = call->Block();
    report->error = result == -1 ? errno : 0;
    report->result = result;
    report->done = true;
    _exit(0);
  }));
  const pid_t pid = child.pid();
  // sigsuspend with an empty mask would deliver the blocked signal.
  const bool suspends = std::string(call_row.name) == "sigsuspend";
  if (suspends && event == Event::kBlocked) GTEST_SKIP() << "the call itself unblocks the signal";

  ASSERT_TRUE(Eventually([&] { return report->ready.load(); }));
  ASSERT_TRUE(WaitUntilBlocked(pid)) << "the call does not block; state " << ThreadState(pid);
  ASSERT_FALSE(report->done) << "the call ended by itself with " << report->result << ", errno " << report->error;

  switch (event) {
    case Event::kHandler:
    case Event::kHandlerRestart:
      ASSERT_OK(kill(pid, SIGUSR1));
      ASSERT_TRUE(Eventually([&] { return report->handled == 1; })) << "the handler does not run";
      break;
    case Event::kIgnored:
    case Event::kBlocked:
      ASSERT_OK(kill(pid, SIGUSR1));
      SleepMs(10);
      break;
    case Event::kStopContinue: {
      int status;
      ASSERT_OK(kill(pid, SIGSTOP));
      ASSERT_EQ(waitpid(pid, &status, WUNTRACED), pid);
      ASSERT_TRUE(WIFSTOPPED(status));
      ASSERT_OK(kill(pid, SIGCONT));
      ASSERT_EQ(waitpid(pid, &status, WCONTINUED), pid);
      break;
    }
    case Event::kKill:
      ASSERT_OK(kill(pid, SIGTERM));
      EXPECT_SIGNALED(child.Wait(), SIGTERM);
      return;
  }

  if (Interrupts(call_row.rule, event)) {
    EXPECT_TRUE(Eventually([&] { return report->done.load(); }, 5)) << "the call goes on, but its end was due";
    if (call_row.rule == Rule::kCutShort) {
      EXPECT_EQ(report->result, 0) << strerrorname_np(report->error);
      return;
    }
    EXPECT_EQ(report->result, -1);
    EXPECT_EQ(report->error, EINTR) << strerrorname_np(report->error);
    return;
  }
  // It goes on waiting (a sleep may have ended by now, which is success too).
  const bool sleeps = dynamic_cast<Nanosleep*>(call.get()) != nullptr;
  if (!sleeps) {
    ASSERT_TRUE(Eventually([&] { return report->done || ThreadState(pid) == 'S'; }));
    SleepMs(5);
    ASSERT_FALSE(report->done) << "the call ended with " << report->result << ", errno "
                               << strerrorname_np(report->error) << ", but it had to go on";
  }
  call->Release(pid);
  ASSERT_TRUE(Eventually([&] { return report->done.load(); })) << "the call does not end";
  const bool ends_with_eintr = dynamic_cast<Pause*>(call.get()) != nullptr;
  if (ends_with_eintr) {
    EXPECT_EQ(report->error, EINTR);
  } else {
    EXPECT_TRUE(call->Succeeded(report->result)) << "the call ended with errno " << strerrorname_np(report->error);
  }
}

INSTANTIATE_TEST_SUITE_P(Matrix, Restart, ::testing::Combine(::testing::ValuesIn(kCalls), ::testing::ValuesIn(kEvents)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param).name) + "__" + std::get<1>(info.param).name;
                         });

// --- What the matrix does not cover --------------------------------------------------------------------------------

volatile int g_handled;
void Count(int) { g_handled = g_handled + 1; }

TEST(Partial, AReadThatHasSomethingReturnsIt) {
  // recv with MSG_WAITALL returns what it has when a handler runs.
  SocketPair s = MakeSocketPair();
  Mapping memory(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  auto* result = memory.as<std::atomic<long>>();
  *result = -100;
  ASSERT_EQ(write(s.b.get(), "abc", 3), 3);
  pid_t pid = ForkChild([&] {
    ScopedHandler handler(SIGUSR1, Count, SA_RESTART);
    char buffer[10];
    *result = recv(s.a.get(), buffer, 10, MSG_WAITALL);
  });
  ASSERT_TRUE(WaitUntilBlocked(pid));
  kill(pid, SIGUSR1);
  EXPECT_EXITED(WaitFor(pid), 0);
  EXPECT_EQ(*result, 3);
}

TEST(Partial, AWriteThatHasWrittenReturnsHowMuch) {
  Pipe p = MakePipe();
  Mapping memory(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  auto* result = memory.as<std::atomic<long>>();
  pid_t pid = ForkChild([&] {
    ScopedHandler handler(SIGUSR1, Count, SA_RESTART);
    std::vector<char> data(200'000, 'x');
    *result = write(p.write_end.get(), data.data(), data.size());
  });
  ASSERT_TRUE(WaitUntilBlocked(pid));
  kill(pid, SIGUSR1);
  EXPECT_EXITED(WaitFor(pid), 0);
  EXPECT_EQ(*result, 65536);
}

TEST(Sleep, AnInterruptedSleepTellsWhatIsLeft) {
  timespec left = {};
  Mapping memory(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  auto* seconds = memory.as<std::atomic<long>>();
  pid_t pid = ForkChild([&] {
    ScopedHandler handler(SIGUSR1, Count);
    timespec time = {100, 0};
    CHILD_CHECK(nanosleep(&time, &left) == -1 && errno == EINTR);
    *seconds = left.tv_sec;
  });
  ASSERT_TRUE(WaitUntilBlocked(pid));
  kill(pid, SIGUSR1);
  EXPECT_EXITED(WaitFor(pid), 0);
  EXPECT_GE(*seconds, 80);
  EXPECT_LE(*seconds, 99);
}

TEST(Sleep, ARestartedSleepKeepsItsDeadline) {
  // Stopped and continued half way: the sleep ends when it would have ended anyway.
  pid_t pid = ForkChild([] {
    const int64_t start = NowNs();
    timespec time = {0, 300'000'000};
    CHILD_CHECK(nanosleep(&time, nullptr) == 0);
    const int64_t took = NowNs() - start;
    CHILD_CHECK(took >= 300'000'000);
  });
  ASSERT_TRUE(WaitUntilBlocked(pid));
  kill(pid, SIGSTOP);
  int status;
  ASSERT_EQ(waitpid(pid, &status, WUNTRACED), pid);
  kill(pid, SIGCONT);
  EXPECT_EXITED(WaitFor(pid), 0);
}

TEST(Handler, RunsOnceForEachOfManyInterruptions) {
  Mapping memory(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  Report* report = g_report = memory.as<Report>();
  Pipe p = MakePipe();
  ChildGuard child(ForkChild([&] {
    ScopedHandler handler(
        SIGUSR1, +[](int) { ++g_report->handled; }, SA_RESTART);
    char c;
    report->ready = true;
    CHILD_CHECK(read(p.read_end.get(), &c, 1) == 1 && c == 'x');
  }));
  ASSERT_TRUE(Eventually([&] { return report->ready.load(); }));
  for (int i = 1; i <= 200; ++i) {
    kill(child.pid(), SIGUSR1);
    ASSERT_TRUE(Eventually([&] { return report->handled == i; })) << i;
  }
  ASSERT_EQ(write(p.write_end.get(), "x", 1), 1);
  EXPECT_EXITED(child.Wait(), 0);
}

TEST(Handler, ThatMakesItsOwnCallDoesNotDisturbTheRestart) {
  Mapping memory(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  Report* report = g_report = memory.as<Report>();
  Pipe p = MakePipe();
  ChildGuard child(ForkChild([&] {
    ScopedHandler handler(
        SIGUSR1,
        +[](int) {
          timespec time = {0, 1'000'000};
          nanosleep(&time, nullptr);  // Leaves its own restart block behind.
          ++g_report->handled;
        },
        SA_RESTART);
    char c;
    report->ready = true;
    CHILD_CHECK(read(p.read_end.get(), &c, 1) == 1);
  }));
  ASSERT_TRUE(Eventually([&] { return report->ready.load(); }));
  ASSERT_TRUE(WaitUntilBlocked(child.pid()));
  kill(child.pid(), SIGUSR1);
  ASSERT_TRUE(Eventually([&] { return report->handled == 1; }));
  kill(child.pid(), SIGSTOP);
  int status;
  ASSERT_EQ(waitpid(child.pid(), &status, WUNTRACED), child.pid());
  kill(child.pid(), SIGCONT);
  ASSERT_EQ(write(p.write_end.get(), "x", 1), 1);
  EXPECT_EXITED(child.Wait(), 0);
}

}  // namespace
// What a call waits for, when it is there, comes before the signal that came with it (wait_event_interruptible and
// do_wait look at the condition last).
TEST(BeforeTheSignal, AChildIsReapedThatSaysSoBySigchld) {
  ScopedHandler handler(
      SIGCHLD, +[](int) {});
  for (int i = 0; i < 200; ++i) {
    pid_t pid = ForkChild([] {});
    ASSERT_EQ(waitpid(pid, nullptr, 0), pid) << strerror(errno) << " at " << i;
  }
}

TEST(BeforeTheSignal, BytesOfAPipeAreReadThatCameFirst) {
  ScopedHandler handler(
      SIGUSR1, +[](int) {});
  Pipe p = MakePipe();
  const pid_t parent = getpid();
  for (int i = 0; i < 100; ++i) {
    pid_t pid = ForkChild([&] {
      CHILD_CHECK(WaitUntilBlocked(parent));
      CHILD_CHECK(write(p.write_end.get(), "x", 1) == 1);
      CHILD_CHECK(kill(parent, SIGUSR1) == 0);
    });
    char byte;
    ASSERT_EQ(read(p.read_end.get(), &byte, 1), 1) << strerror(errno) << " at " << i;
    int status = -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    EXPECT_EXITED(status, 0);
  }
}

}  // namespace conformance

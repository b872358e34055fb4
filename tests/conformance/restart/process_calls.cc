// Calls that wait: processes, time, signals, futexes, queues, semaphores, listeners of seccomp.
#include <linux/futex.h>
#include <mqueue.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <time.h>

#include "restart/call.h"
#include "support/seccomp.h"

namespace conformance::restart {
namespace {

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

// --- Time and signals ----------------------------------------------------------------------------------------------

// Sleeps end by themselves: 600 ms, long enough for the event.
struct Nanosleep : Call {
  long Block() override {
    timespec time = {0, 600'000'000};
    return syscall(SYS_nanosleep, &time, nullptr);
  }
  void Release(pid_t) override {}
  bool EndsByItself() override { return true; }
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
  bool OnlyASignalEndsIt() override { return true; }
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

// --- Questions of seccomp ------------------------------------------------------------------------------------------

// The child's calls of umask are for a listener to decide (man 2 seccomp_unotify), and so are those of its own child,
// which has the listener, too.
struct SeccompCall : Call {
  void Prepare() override { pipe_ = MakePipe(); }
  void PrepareChild() override {
    NoNewPrivs();
    listener_ = Fd(static_cast<int>(Install(For(SYS_umask, SECCOMP_RET_USER_NOTIF), SECCOMP_FILTER_FLAG_NEW_LISTENER)));
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

}  // namespace

std::vector<CallRow> ProcessCalls() {
  return {
      {"poll_sleep", Make<PollSleep>, Rule::kRestartNoHand},
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
      {"waitid_pidfd", Make<WaitidPidfd>, Rule::kRestart},
      {"futex_waitv", Make<FutexWaitv>, Rule::kRestart},
      {"futex_lock_pi", Make<FutexLockPi>, Rule::kRestartAlways},
      {"seccomp_notif_recv", Make<SeccompNotifRecv>, Rule::kRestart},
      {"seccomp_question", Make<SeccompQuestion>, Rule::kRestart},
  };
}

}  // namespace conformance::restart

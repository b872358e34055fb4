// What programs that test ptrace(2) share: raw requests, children that ask to be traced, and what a wait said.
#ifndef TESTS_CONFORMANCE_SUPPORT_TRACEE_H_
#define TESTS_CONFORMANCE_SUPPORT_TRACEE_H_

#include <elf.h>
#include <linux/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>

#include "support/support.h"

// glibc has some of these as enumerators of the same value.
#ifndef PTRACE_SYSEMU
#define PTRACE_SYSEMU 31
#define PTRACE_SYSEMU_SINGLESTEP 32
#endif
#ifndef PTRACE_O_EXITKILL
#define PTRACE_O_EXITKILL (1 << 20)
#endif

// <sys/ptrace.h> and <linux/ptrace.h> cannot be had together.
enum {
  PTRACE_TRACEME_ = 0,
  PTRACE_PEEKTEXT_ = 1,
  PTRACE_PEEKDATA_ = 2,
  PTRACE_PEEKUSER_ = 3,
  PTRACE_POKETEXT_ = 4,
  PTRACE_POKEDATA_ = 5,
  PTRACE_POKEUSER_ = 6,
  PTRACE_CONT_ = 7,
  PTRACE_KILL_ = 8,
  PTRACE_SINGLESTEP_ = 9,
  PTRACE_GETREGS_ = 12,
  PTRACE_SETREGS_ = 13,
  PTRACE_GETFPREGS_ = 14,
  PTRACE_SETFPREGS_ = 15,
  PTRACE_ATTACH_ = 16,
  PTRACE_DETACH_ = 17,
  PTRACE_SYSCALL_ = 24,
};

namespace conformance {

inline long Ptrace(long request, pid_t pid, uint64_t addr = 0, uint64_t data = 0) {
  return syscall(SYS_ptrace, request, pid, addr, data);
}
template <typename T>
uint64_t Address(T* p) {
  return reinterpret_cast<uint64_t>(p);
}

// A child that has called PTRACE_TRACEME and stopped itself with SIGSTOP; it was waited for. Killed at the end.
inline pid_t StartTraced(const std::function<void()>& body) {
  pid_t pid = ForkChild([&] {
    CHILD_CHECK(Ptrace(PTRACE_TRACEME_, 0) == 0);
    raise(SIGSTOP);
    body();
  });
  if (pid > 0) {
    int status = WaitFor(pid);
    EXPECT_TRUE(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP) << std::hex << status;
  }
  return pid;
}

// waitpid with __WALL; the status, or -1.
inline int WaitAll(pid_t pid, int options = 0) {
  int status = -1;
  pid_t got;
  do {
    got = waitpid(pid, &status, __WALL | options);
  } while (got < 0 && errno == EINTR);
  return got == pid ? status : -1;
}
// The status of a stop with this signal and event.
constexpr int Stop(int signo, int event = 0) { return event << 16 | signo << 8 | 0x7f; }
constexpr int kSyscallStop = Stop(SIGTRAP | 0x80);
constexpr int Event(int event) { return Stop(SIGTRAP, event); }

// Goes on and waits for the next status.
inline int Resume(long request, pid_t pid, int signo = 0) {
  if (Ptrace(request, pid, 0, static_cast<uint64_t>(signo)) != 0) return -1;
  return WaitAll(pid);
}

inline user_regs_struct GetRegs(pid_t pid) {
  user_regs_struct regs{};
  EXPECT_OK(Ptrace(PTRACE_GETREGS_, pid, 0, Address(&regs)));
  return regs;
}
inline bool SetRegs(pid_t pid, const user_regs_struct& regs) {
  return Ptrace(PTRACE_SETREGS_, pid, 0, Address(&regs)) == 0;
}
inline uint64_t EventMessage(pid_t pid) {
  uint64_t message = 0;
  EXPECT_OK(Ptrace(PTRACE_GETEVENTMSG, pid, 0, Address(&message)));
  return message;
}
inline siginfo_t GetInfo(pid_t pid) {
  siginfo_t info{};
  EXPECT_OK(Ptrace(PTRACE_GETSIGINFO, pid, 0, Address(&info)));
  return info;
}

// A field of /proc/<pid>/status.
inline std::string StatusField(pid_t pid, const std::string& name) {
  std::string text = ReadFile("/proc/" + std::to_string(pid) + "/status");
  size_t at = text.find("\n" + name + ":\t");
  if (at == std::string::npos) return "";
  at += name.size() + 3;
  return text.substr(at, text.find('\n', at) - at);
}

}  // namespace conformance

#endif  // TESTS_CONFORMANCE_SUPPORT_TRACEE_H_

#include "runsc/container/foreground.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>

namespace runsc::container {

Foreground::Foreground(base::UniqueFd terminal) {
  sigset_t set;
  sigfillset(&set);
  for (int signo : {SIGCHLD, SIGPIPE, SIGURG, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS})
    sigdelset(&set, signo);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
  signals_.reset(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (terminal.valid()) terminal_ = std::make_unique<TerminalProxy>(std::move(terminal));
}

Foreground::~Foreground() = default;

void Foreground::Loop(int end_fd, const std::function<bool()>& ended, const std::function<void(int)>& forward) {
  for (;;) {
    pollfd fds[4] = {{end_fd, POLLIN, 0},
                     {signals_.get(), POLLIN, 0},
                     {terminal_ ? terminal_->input() : -1, POLLIN, 0},
                     {terminal_ ? terminal_->output() : -1, POLLIN, 0}};
    if (poll(fds, 4, -1) < 0) continue;
    if (fds[3].revents != 0) terminal_->CopyOutput();
    if (fds[2].revents != 0) terminal_->CopyInput();
    if (fds[1].revents != 0) {
      signalfd_siginfo info;
      if (read(signals_.get(), &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
        int signo = static_cast<int>(info.ssi_signo);
        if (signo == SIGWINCH && terminal_) {
          terminal_->Resize();
        } else {
          forward(signo);
          // The news of the end may have come together with the answer to that.
          if (ended()) break;
        }
      }
    }
    if (fds[0].revents != 0 && ended()) break;
  }
  if (terminal_) terminal_->DrainOutput();
}

}  // namespace runsc::container

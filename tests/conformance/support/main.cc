// The main function of every conformance program.
//
// A program that is started as process 1 of a PID namespace becomes a minimal init and runs the cases in a child:
// otherwise the cases would see the special rules for init (default signal actions are ignored, orphans arrive).
#include <gtest/gtest.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

int RunAsInit(pid_t tests) {
  for (;;) {
    int status;
    pid_t pid = wait(&status);
    if (pid == tests) return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (pid < 0) return 127;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (getpid() == 1) {
    pid_t tests = fork();
    if (tests < 0) {
      perror("fork");
      return 127;
    }
    if (tests > 0) return RunAsInit(tests);
    setsid();
  }
  // Cases must not inherit what a shell or a test runner left ignored or blocked.
  for (int signo = 1; signo < 32; ++signo) {
    if (signo != SIGKILL && signo != SIGSTOP) signal(signo, SIG_DFL);
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}

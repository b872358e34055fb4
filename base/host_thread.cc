#include "base/host_thread.h"

#include <signal.h>

#include <memory>

#include "base/check.h"
#include "base/sanitizers.h"

namespace base {
namespace {

// Reactor callbacks, idle strategies and blocking host calls: no deep recursion runs here. Fibers have stacks of their
// own.
constexpr size_t kStackBytes = (256 << 10) * kSanitizerStackFactor;

struct ThreadStart {
  std::string name;
  std::function<void()> body;
};

void* ThreadMain(void* argument) {
  std::unique_ptr<ThreadStart> start(static_cast<ThreadStart*>(argument));
  pthread_setname_np(pthread_self(), start->name.substr(0, 15).c_str());
  start->body();
  return nullptr;
}

}  // namespace

HostThread& HostThread::operator=(HostThread&& other) noexcept {
  if (this != &other) {
    Join();
    thread_ = other.thread_;
    running_ = std::exchange(other.running_, false);
  }
  return *this;
}

bool HostThread::Start(std::string name, std::function<void()> body) {
  CHECK(!running_);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  // Synchronous faults stay unblocked: a blocked SIGSEGV kills the process without a message.
  sigset_t blocked, before;
  sigfillset(&blocked);
  for (int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGSYS, SIGPROF}) sigdelset(&blocked, signal);
  pthread_sigmask(SIG_SETMASK, &blocked, &before);
  std::unique_ptr<ThreadStart> start(new ThreadStart{std::move(name), std::move(body)});
  int error = pthread_create(&thread_, &attributes, &ThreadMain, start.get());
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  if (error != 0) return false;
  (void)start.release();  // ThreadMain owns it now
  running_ = true;
  return true;
}

void HostThread::Join() {
  if (!running_) return;
  running_ = false;
  CHECK(pthread_join(thread_, nullptr) == 0);
}

}  // namespace base

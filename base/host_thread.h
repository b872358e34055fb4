// HostThread: a named host thread with a small stack, joined by its destructor.
#ifndef BASE_HOST_THREAD_H_
#define BASE_HOST_THREAD_H_

#include <pthread.h>

#include <functional>
#include <string>
#include <utility>

namespace base {

class HostThread {
 public:
  HostThread() = default;
  HostThread(HostThread&& other) noexcept : thread_(other.thread_), running_(std::exchange(other.running_, false)) {}
  HostThread& operator=(HostThread&& other) noexcept;
  ~HostThread() { Join(); }

  // Runs `body` on a new thread. All signals that a process can be sent are blocked there: they are for the main
  // thread, which decides what they mean. `name` as in comm, 15 characters. False when the host refuses (EAGAIN).
  [[nodiscard]] bool Start(std::string name, std::function<void()> body);
  void Join();

 private:
  pthread_t thread_{};
  bool running_ = false;
};

}  // namespace base

#endif  // BASE_HOST_THREAD_H_

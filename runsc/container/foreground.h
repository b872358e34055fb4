// Waiting for a process of a container in the foreground: signals are passed on, a terminal is copied.
#ifndef RUNSC_CONTAINER_FOREGROUND_H_
#define RUNSC_CONTAINER_FOREGROUND_H_

#include <functional>
#include <memory>

#include "base/unique_fd.h"
#include "runsc/container/console.h"

namespace runsc::container {

class Foreground {
 public:
  // From here on signals wait for Loop. `terminal`: the master to copy, or invalid.
  explicit Foreground(base::UniqueFd terminal);
  Foreground(Foreground&&) = default;
  ~Foreground();

  // Until `ended` says true; it is asked whenever `end_fd` is readable. `forward` gets each signal that we get.
  void Loop(int end_fd, const std::function<bool()>& ended, const std::function<void(int)>& forward);
  int signals() const { return signals_.get(); }

 private:
  base::UniqueFd signals_;
  std::unique_ptr<TerminalProxy> terminal_;
};

}  // namespace runsc::container

#endif  // RUNSC_CONTAINER_FOREGROUND_H_

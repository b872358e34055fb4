// Terminals: a host pseudo-terminal for the container, its master given to the caller or joined to runsc's own
// terminal.
#ifndef RUNSC_CONTAINER_CONSOLE_H_
#define RUNSC_CONTAINER_CONSOLE_H_

#include <termios.h>

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace runsc::container {

struct Pty {
  base::UniqueFd master;
  base::UniqueFd slave;
  std::string name;  // of the slave
};

// `rows` and `columns` 0: as they are.
absl::StatusOr<Pty> OpenPty(uint16_t rows, uint16_t columns);

// Sends the master over the listening Unix socket at `path`, as runc's --console-socket has it: one message with the
// terminal's name and the descriptor.
absl::Status SendMaster(const std::string& path, const Pty& pty);

// Copies between runsc's own standard streams and a master while a container runs in the foreground. Puts our terminal
// into raw mode; the destructor restores it.
class TerminalProxy {
 public:
  explicit TerminalProxy(base::UniqueFd master);
  ~TerminalProxy();
  TerminalProxy(const TerminalProxy&) = delete;
  TerminalProxy& operator=(const TerminalProxy&) = delete;

  // Descriptors to poll for input; −1 when there is nothing more to read.
  int input() const { return input_open_ ? 0 : -1; }
  int output() const { return output_open_ ? master_.get() : -1; }
  // One of them is readable (or has hung up): copies what is there.
  void CopyInput();
  void CopyOutput();
  // After the container has ended: what is left in the terminal.
  void DrainOutput();
  // Our window has another size.
  void Resize();

 private:
  base::UniqueFd master_;
  std::optional<termios> saved_;
  bool input_open_ = true;
  bool output_open_ = true;
};

}  // namespace runsc::container

#endif  // RUNSC_CONTAINER_CONSOLE_H_

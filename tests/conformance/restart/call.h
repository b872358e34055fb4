// A call that waits, for the table of calls times events of signal_restart_test.
#ifndef TESTS_CONFORMANCE_RESTART_CALL_H_
#define TESTS_CONFORMANCE_RESTART_CALL_H_

#include <sys/types.h>

#include <memory>
#include <vector>

#include "support/support.h"

namespace conformance::restart {

inline constexpr long kLongSeconds = 1000;

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
  virtual void Prepare() {}                      // Before the fork.
  virtual void PrepareChild() {}                 // In the child, before it says that it is ready.
  virtual long Block() = 0;                      // In the child: −1 with errno, or the result.
  virtual void Release(pid_t child) = 0;         // In the parent: makes the call end with success.
  virtual bool EndsByItself() { return false; }  // A sleep.
  virtual bool OnlyASignalEndsIt() { return false; }
};

template <typename T>
std::unique_ptr<Call> Make() {
  return std::make_unique<T>();
}

struct CallRow {
  const char* name;
  std::unique_ptr<Call> (*make)();
  Rule rule;
};

std::vector<CallRow> FileCalls();
std::vector<CallRow> SocketCalls();
std::vector<CallRow> ProcessCalls();

}  // namespace conformance::restart

#endif  // TESTS_CONFORMANCE_RESTART_CALL_H_

// Zygotes: processes with nothing but the stub's pages, from which stubs are cloned, and the command pages of the
// stubs.
#ifndef PLATFORM_PTRACE_ZYGOTE_H_
#define PLATFORM_PTRACE_ZYGOTE_H_

#include <sys/types.h>

#include <memory>
#include <vector>

#include "base/errno.h"
#include "base/fiber.h"
#include "base/fiber_lock.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "platform/ptrace/stub_layout.h"
#include "platform/registers.h"

namespace platform::ptrace {

class Tracer;
class Tracee;

// One memfd with a page per stub. The sentry has all of it mapped; a stub has its own page, read-only.
class CommandFile {
 public:
  static base::Result<std::unique_ptr<CommandFile>> Create();
  ~CommandFile();
  int fd() const { return fd_.get(); }
  // Index of a free page; ENOMEM when kPages are in use.
  base::Result<uint32_t> Take() EXCLUDES(mu_);
  void Give(uint32_t index) EXCLUDES(mu_);
  // The first zygote's: it says there that it is ready. No stub's.
  static constexpr uint32_t kFirstZygotesPage = 0;
  CommandPage& page(uint32_t index) { return pages_[index]; }

 private:
  static constexpr uint32_t kPages = 1 << 18;
  CommandFile() = default;
  base::UniqueFd fd_;
  CommandPage* pages_ = nullptr;
  base::Mutex mu_;
  std::vector<uint32_t> free_ GUARDED_BY(mu_);
  uint32_t used_ GUARDED_BY(mu_) = kFirstZygotesPage + 1;
};

struct FirstZygote {
  pid_t pid = 0;
  base::UniqueFd text;  // the text page; open until the zygote has mapped it
};
// Clones the first zygote from the calling process. It makes itself ready on its own while the sandbox starts. Host
// errors; EPERM if ptrace is forbidden (as far as can be seen yet).
base::Result<FirstZygote> MakeFirstZygote(CommandFile& commands);
// Until it sleeps, untraced. Parks. EIO if it has ended instead.
base::Result<void> WaitForFirstZygote(const FirstZygote& zygote, CommandFile& commands);

// What a fiber waits for that an executor's thread will tell: parks until Set, and gives back permits of others.
class Event {
 public:
  void Wait();
  void Set();
  bool is_set() const { return set_; }

 private:
  base::RefPtr<base::Fiber> waiter_;
  bool set_ = false;
};

// A zygote that `tracer` traces. Stopped but while it clones.
class Zygote {
 public:
  // Seizes a sleeping zygote. Parks.
  static base::Result<std::unique_ptr<Zygote>> Adopt(Tracer& tracer, pid_t pid);
  ~Zygote();

  enum class Child { kStub, kZygote };
  // Clones a child whose command page is `index` of `file`. A stub is traced by the same tracer and is about to stop; a
  // zygote sleeps untraced. Parks.
  base::Result<pid_t> Spawn(Child child, const CommandFile& file, uint32_t index);
  pid_t pid() const;
  // Killed on the host.
  bool dead() const;

 private:
  struct Impl;
  explicit Zygote(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace platform::ptrace

#endif  // PLATFORM_PTRACE_ZYGOTE_H_

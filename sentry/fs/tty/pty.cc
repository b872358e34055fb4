#include "sentry/fs/tty/pty.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include "base/executor.h"
#include "base/time.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"

namespace sentry {
namespace {

constexpr base::EventMask kReadable = base::kEventIn | base::kEventRdNorm;
constexpr base::EventMask kWritable = base::kEventOut | base::kEventWrNorm;
constexpr size_t kChunk = 2048;  // bytes on the stack at a time

std::span<const uint8_t> AsBytes(const std::byte* data, size_t n) {
  return {reinterpret_cast<const uint8_t*>(data), n};
}

}  // namespace

Pty::Pty(Kernel& kernel, int index, std::function<void()> on_end)
    : Terminal(kernel), index_(index), on_end_(std::move(on_end)) {}

Pty::~Pty() = default;

int Pty::device_number() const { return static_cast<int>(makedev(kSlaveMajor, index_)); }

RefPtr<FileDescription> Pty::OpenMaster(const VfsPath& path, uint32_t flags) {
  return base::MakeRef<PtyMasterFile>(path, flags, RefPtr<Pty>(this));
}

Result<RefPtr<FileDescription>> Pty::OpenTerminal(const VfsPath& path, uint32_t flags) {
  if (hung_up() || locked_.load(std::memory_order_acquire)) return Errno(EIO);
  if (exclusive_.load(std::memory_order_relaxed)) {
    Task* task = Task::Current();
    if (task == nullptr || !task->Capable(CAP_SYS_ADMIN)) return Errno(EBUSY);
  }
  TRY(base::ChargedMemory::Admit());
  slaves_.fetch_add(1, std::memory_order_acq_rel);
  slave_gone_.store(false, std::memory_order_release);
  return RefPtr<FileDescription>(base::MakeRef<PtySlaveFile>(path, flags, RefPtr<Pty>(this)));
}

// The master goes: everybody in the slave's session is told, readers see the end. (pty_close, __tty_hangup)
void Pty::MasterClosed() {
  master_closed_.store(true, std::memory_order_release);
  if (on_end_) on_end_();
  slave_queue_.Notify(kReadable | kWritable | base::kEventHup | base::kEventErr);
  // Hangup needs TaskSet::mu, which this may run under.
  kernel_.scheduler().executors().front()->Post([self = RefPtr<Pty>(this)] { self->Hangup(self->kernel_); });
}

void Pty::SlaveClosed() {
  if (slaves_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  slave_gone_.store(true, std::memory_order_release);
  exclusive_.store(false, std::memory_order_relaxed);
  master_queue_.Notify(kReadable | base::kEventHup);
}

// --- The master's side.

Result<size_t> Pty::MasterRead(IoBuffer& to) {
  if (to.remaining() == 0) return 0;
  size_t total = 0;
  {
    base::FiberMutexLock lock(mu_);
    if (packet_mode_) {
      // A status byte alone, or a zero before data (man 2 ioctl_tty, TIOCPKT).
      uint8_t head = packet_status_;
      if (head == 0 && ldisc_.output().empty()) {
        if (slave_gone_.load(std::memory_order_acquire)) return Errno(EIO);
        return Errno(EAGAIN);
      }
      if (TRY(to.CopyOut(std::as_bytes(std::span(&head, 1)))) != 1) return Errno(EFAULT);
      if (head != 0) {
        packet_status_ = 0;
        return 1;
      }
      total = 1;
    }
    std::span<const std::byte> waiting = ldisc_.output().front();
    if (waiting.empty()) {
      if (slave_gone_.load(std::memory_order_acquire)) return Errno(EIO);
      return Errno(EAGAIN);
    }
    auto copied = to.CopyOut(waiting.subspan(0, std::min(waiting.size(), to.remaining())));
    if (!copied.ok()) {
      if (total == 0) return copied.error();
    } else {
      ldisc_.output().Take(*copied);
      total += *copied;
    }
  }
  slave_queue_.Notify(kWritable);
  return total;
}

Result<size_t> Pty::MasterWrite(IoBuffer& from) {
  size_t total = 0;
  std::vector<int> signals;
  bool stuck = false;
  Errno error(EAGAIN);
  while (from.remaining() != 0 && !stuck) {
    std::byte chunk[kChunk];
    auto copied = from.CopyIn(std::span(chunk, std::min(kChunk, from.remaining())));
    if (!copied.ok()) {
      error = copied.error();
      break;
    }
    size_t taken;
    {
      base::FiberMutexLock lock(mu_);
      taken = ldisc_.Receive(AsBytes(chunk, *copied), signals);
      if (taken != 0) last_input_ = base::MonotonicNow();
      if (!signals.empty() && packet_mode_) AddPacketStatus(TIOCPKT_FLUSHREAD | TIOCPKT_FLUSHWRITE);
    }
    if (taken < *copied) {
      from.Revert(*copied - taken);
      stuck = true;
    }
    total += taken;
  }
  for (int signo : signals) SignalForeground(kernel_, signo);
  if (total == 0) {
    if (from.remaining() == 0) return 0;
    return error;
  }
  slave_queue_.Notify(kReadable | kWritable);
  master_queue_.Notify(kReadable);  // the echo
  return total;
}

base::EventMask Pty::MasterReadiness() {
  base::FiberMutexLock lock(mu_);
  base::EventMask events = 0;
  if (!ldisc_.output().empty()) events |= kReadable;
  if (packet_mode_ && packet_status_ != 0) events |= kReadable | base::kEventPri;
  if (ldisc_.CanReceive()) events |= kWritable;
  if (slave_gone_.load(std::memory_order_acquire)) events |= base::kEventHup;
  return events;
}

void Pty::AddPacketStatus(uint8_t bits) {
  if ((bits & TIOCPKT_STOP) != 0) packet_status_ &= static_cast<uint8_t>(~TIOCPKT_START);
  if ((bits & TIOCPKT_START) != 0) packet_status_ &= static_cast<uint8_t>(~TIOCPKT_STOP);
  packet_status_ |= bits;
}

// --- The slave's side.

Result<size_t> Pty::SlaveRead(IoBuffer& to, bool timed_out, bool nonblock) {
  if (hung_up()) return 0;
  Result<size_t> result = [&] {
    base::FiberMutexLock lock(mu_);
    // Without waiting, fewer than VMIN bytes are better than none (n_tty_read).
    return ldisc_.Read(to, timed_out || (nonblock && !ldisc_.canonical() && ldisc_.InputBytes() != 0));
  }();
  if (result.ok()) master_queue_.Notify(kWritable);
  return result;
}

base::MonotonicNs Pty::SlaveReadDeadline(base::MonotonicNs started) {
  constexpr int64_t kTenth = 100'000'000;  // VTIME counts tenths of a second
  base::FiberMutexLock lock(mu_);
  if (ldisc_.canonical()) return base::kNever;
  int64_t time = ldisc_.termios().c_cc[VTIME];
  if (time == 0) return base::kNever;
  if (ldisc_.termios().c_cc[VMIN] == 0) return started + time * kTenth;
  return ldisc_.BetweenBytes() ? std::max(started, last_input_) + time * kTenth : base::kNever;
}

Result<size_t> Pty::SlaveWrite(IoBuffer& from) {
  if (hung_up()) return Errno(EIO);
  size_t total = 0;
  Errno error(EAGAIN);
  bool stuck = false;
  while (from.remaining() != 0 && !stuck) {
    std::byte chunk[kChunk];
    auto copied = from.CopyIn(std::span(chunk, std::min(kChunk, from.remaining())));
    if (!copied.ok()) {
      error = copied.error();
      break;
    }
    size_t taken;
    {
      base::FiberMutexLock lock(mu_);
      taken = ldisc_.Write(AsBytes(chunk, *copied));
    }
    if (taken < *copied) {
      from.Revert(*copied - taken);
      stuck = true;
    }
    total += taken;
  }
  if (total == 0) {
    if (from.remaining() == 0) return 0;
    return error;
  }
  master_queue_.Notify(kReadable);
  return total;
}

bool Pty::StopsBackgroundWriters() {
  base::FiberMutexLock lock(mu_);
  return (ldisc_.termios().c_lflag & TOSTOP) != 0;
}

base::EventMask Pty::SlaveReadiness() {
  if (hung_up()) return kReadable | kWritable | base::kEventErr | base::kEventHup;
  base::FiberMutexLock lock(mu_);
  base::EventMask events = 0;
  if (ldisc_.InputAvailable()) events |= kReadable;
  if (ldisc_.CanWrite()) events |= kWritable;
  return events;
}

// --- ioctl(2).

namespace {
// unset_locked_termios()
void KeepLocked(abi::Termios& value, const abi::Termios& now, const abi::Termios& locked) {
  auto keep = [](uint32_t& bits, uint32_t old, uint32_t mask) { bits = (bits & ~mask) | (old & mask); };
  keep(value.c_iflag, now.c_iflag, locked.c_iflag);
  keep(value.c_oflag, now.c_oflag, locked.c_oflag);
  keep(value.c_cflag, now.c_cflag, locked.c_cflag);
  keep(value.c_lflag, now.c_lflag, locked.c_lflag);
  if (locked.c_line != 0) value.c_line = now.c_line;
  for (size_t i = 0; i < std::size(value.c_cc); ++i) {
    if (locked.c_cc[i] != 0) value.c_cc[i] = now.c_cc[i];
  }
}
}  // namespace

abi::Termios Pty::CurrentTermios() {
  base::FiberMutexLock lock(mu_);
  return ldisc_.termios();
}

void Pty::ApplyTermios(const abi::Termios& termios, bool flush_input) {
  {
    base::FiberMutexLock lock(mu_);
    // pty_set_termios(): a master in packet mode hears whether ^S and ^Q do flow control.
    auto flow = [](const abi::Termios& t) {
      return (t.c_iflag & IXON) != 0 && t.c_cc[VSTART] == 021 && t.c_cc[VSTOP] == 023;
    };
    bool before = flow(ldisc_.termios());
    if (flush_input) ldisc_.FlushInput();
    abi::Termios value = termios;
    KeepLocked(value, ldisc_.termios(), locked_termios_);
    value.c_cflag = (value.c_cflag & ~uint32_t{CSIZE | PARENB}) | CS8 | CREAD;
    ldisc_.SetTermios(value);
    if (packet_mode_ && flow(value) != before) {
      packet_status_ &= static_cast<uint8_t>(~(TIOCPKT_DOSTOP | TIOCPKT_NOSTOP));
      AddPacketStatus(flow(value) ? TIOCPKT_DOSTOP : TIOCPKT_NOSTOP);
    }
  }
  slave_queue_.Notify(kReadable | kWritable);
  master_queue_.Notify(kReadable | kWritable | base::kEventPri);
}

void Pty::SetFlow(bool stopped) {
  {
    base::FiberMutexLock lock(mu_);
    if (ldisc_.stopped() == stopped) return;
    ldisc_.SetStopped(stopped);
    if (packet_mode_) AddPacketStatus(stopped ? TIOCPKT_STOP : TIOCPKT_START);
  }
  slave_queue_.Notify(kWritable);
  master_queue_.Notify(kReadable | base::kEventPri);
}

void Pty::Flush(bool input, bool output) {
  {
    base::FiberMutexLock lock(mu_);
    if (input) ldisc_.FlushInput();
    if (output) ldisc_.FlushOutput();
    if (packet_mode_) {
      if (input) AddPacketStatus(TIOCPKT_FLUSHREAD);
      if (output) AddPacketStatus(TIOCPKT_FLUSHWRITE);
    }
  }
  slave_queue_.Notify(kWritable);
  master_queue_.Notify(kWritable | base::kEventPri);
}

Result<void> Pty::SetWindowSize(abi::Winsize size) {
  {
    base::MutexLock lock(size_mu_);
    if (size_ == size) return {};
    size_ = size;
  }
  SignalForeground(kernel_, kSIGWINCH);
  return {};
}

// What both ends answer alike: a pty has one termios, the slave's (tty_mode_ioctl: real_tty).
Result<int64_t> Pty::CommonIoctl(Task& task, const IoctlArgs& args, bool master) {
  UserMemory& memory = args.memory;
  auto read_int = [&] { return memory.Read(UserPtr<int32_t>{args.argument}); };
  auto write_int = [&](int32_t value) -> Result<int64_t> {
    TRY(memory.Write(UserPtr<int32_t>{args.argument}, value));
    return 0;
  };
  // A background process of the session that changes the terminal is stopped (tty_check_change). The master's user is
  // outside.
  auto may_change = [&]() -> Result<void> { return master ? Result<void>() : CheckBackground(task, kSIGTTOU); };
  switch (args.command) {
    case TCGETS:
      TRY(memory.Write(UserPtr<abi::Termios>{args.argument}, CurrentTermios()));
      return 0;
    case TCSETS:
    case TCSETSW:
    case TCSETSF: {
      TRY(may_change());
      abi::Termios value = TRY(memory.Read(UserPtr<abi::Termios>{args.argument}));
      ApplyTermios(value, args.command == TCSETSF);
      return 0;
    }
    case TCGETS2: {
      abi::Termios2 value{CurrentTermios(), 0, 0};
      {
        base::FiberMutexLock lock(mu_);
        value.c_ispeed = input_speed_;
        value.c_ospeed = output_speed_;
      }
      TRY(memory.Write(UserPtr<abi::Termios2>{args.argument}, value));
      return 0;
    }
    case TCSETS2:
    case TCSETSW2:
    case TCSETSF2: {
      TRY(may_change());
      abi::Termios2 value = TRY(memory.Read(UserPtr<abi::Termios2>{args.argument}));
      ApplyTermios(value.base, args.command == TCSETSF2);
      base::FiberMutexLock lock(mu_);
      input_speed_ = value.c_ispeed;
      output_speed_ = value.c_ospeed;
      return 0;
    }
    case TCGETA: {
      abi::Termios t = CurrentTermios();
      abi::Termio old{};
      old.c_iflag = static_cast<uint16_t>(t.c_iflag);
      old.c_oflag = static_cast<uint16_t>(t.c_oflag);
      old.c_cflag = static_cast<uint16_t>(t.c_cflag);
      old.c_lflag = static_cast<uint16_t>(t.c_lflag);
      std::copy_n(t.c_cc, sizeof(old.c_cc), old.c_cc);
      TRY(memory.Write(UserPtr<abi::Termio>{args.argument}, old));
      return 0;
    }
    case TCSETA:
    case TCSETAW:
    case TCSETAF: {
      TRY(may_change());
      abi::Termio old = TRY(memory.Read(UserPtr<abi::Termio>{args.argument}));
      abi::Termios t = CurrentTermios();
      auto low = [](uint32_t all, uint16_t bits) { return (all & 0xffff0000) | bits; };
      t.c_iflag = low(t.c_iflag, old.c_iflag);
      t.c_oflag = low(t.c_oflag, old.c_oflag);
      t.c_cflag = low(t.c_cflag, old.c_cflag);
      t.c_lflag = low(t.c_lflag, old.c_lflag);
      std::copy_n(old.c_cc, sizeof(old.c_cc), t.c_cc);
      ApplyTermios(t, args.command == TCSETAF);
      return 0;
    }
    case TIOCGWINSZ: {
      abi::Winsize size;
      {
        base::MutexLock lock(size_mu_);
        size = size_;
      }
      TRY(memory.Write(UserPtr<abi::Winsize>{args.argument}, size));
      return 0;
    }
    case TIOCSWINSZ:
      TRY(SetWindowSize(TRY(memory.Read(UserPtr<abi::Winsize>{args.argument}))));
      return 0;
    case TCSBRK:
    case TCSBRKP:
      // As on Linux, nothing counts as unsent here: what is written is in the master's buffer at once.
      TRY(may_change());
      return 0;
    case TCXONC:
      TRY(may_change());
      switch (args.argument) {
        case TCOOFF:
          SetFlow(true);
          return 0;
        case TCOON:
          SetFlow(false);
          return 0;
        case TCIOFF:
        case TCION: {
          abi::Termios t = CurrentTermios();
          uint8_t c = t.c_cc[args.argument == TCIOFF ? VSTOP : VSTART];
          if (c != 0) {
            base::FiberMutexLock lock(mu_);
            ldisc_.output().Append(c);
          }
          master_queue_.Notify(kReadable);
          return 0;
        }
        default:
          return Errno(EINVAL);
      }
    case TCFLSH: {
      TRY(may_change());
      if (args.argument > TCIOFLUSH) return Errno(EINVAL);
      bool input = args.argument != TCOFLUSH, output = args.argument != TCIFLUSH;
      // What is input for the slave is output for the master.
      master ? Flush(output, input) : Flush(input, output);
      return 0;
    }
    case TIOCGETD:
      return write_int(0);  // N_TTY
    case TIOCSETD:
      if (TRY(read_int()) != 0) return Errno(EINVAL);
      return 0;
    case TIOCGLCKTRMIOS: {
      abi::Termios locked;
      {
        base::FiberMutexLock lock(mu_);
        locked = locked_termios_;
      }
      TRY(memory.Write(UserPtr<abi::Termios>{args.argument}, locked));
      return 0;
    }
    case TIOCSLCKTRMIOS: {
      if (!task.Capable(CAP_SYS_ADMIN)) return Errno(EPERM);
      abi::Termios locked = TRY(memory.Read(UserPtr<abi::Termios>{args.argument}));
      base::FiberMutexLock lock(mu_);
      locked_termios_ = locked;
      return 0;
    }
    case TIOCEXCL:
      exclusive_.store(true, std::memory_order_relaxed);
      return 0;
    case TIOCNXCL:
      exclusive_.store(false, std::memory_order_relaxed);
      return 0;
    case TIOCGEXCL:
      return write_int(exclusive_.load(std::memory_order_relaxed) ? 1 : 0);
    case TIOCGDEV:
      TRY(memory.Write(UserPtr<uint32_t>{args.argument}, static_cast<uint32_t>(device_number())));
      return 0;
    case TIOCSTI:
      return Errno(EIO);  // as with dev.tty.legacy_tiocsti=0
    case TIOCVHANGUP:
      if (!task.Capable(CAP_SYS_ADMIN)) return Errno(EPERM);
      Hangup(kernel_);
      return 0;
    default:
      return Errno(ENOTTY);
  }
}

Result<int64_t> Pty::MasterIoctl(Task& task, const IoctlArgs& args, FileDescription& file) {
  UserMemory& memory = args.memory;
  auto write_int = [&](int32_t value) -> Result<int64_t> {
    TRY(memory.Write(UserPtr<int32_t>{args.argument}, value));
    return 0;
  };
  switch (args.command) {
    case TIOCGPTN:
      return write_int(index_);
    case TIOCSPTLCK:
      locked_.store(TRY(memory.Read(UserPtr<int32_t>{args.argument})) != 0, std::memory_order_release);
      return 0;
    case TIOCGPTLCK:
      return write_int(locked_.load(std::memory_order_acquire) ? 1 : 0);
    case TIOCGPTPEER: {
      uint32_t flags = static_cast<uint32_t>(args.argument);
      auto slave = TRY(OpenTerminal(slave_path_, flags & ~uint32_t{O_CLOEXEC}));
      return TRY(task.InstallFile(std::move(slave), (flags & O_CLOEXEC) != 0));
    }
    case TIOCPKT: {
      bool on = TRY(memory.Read(UserPtr<int32_t>{args.argument})) != 0;
      base::FiberMutexLock lock(mu_);
      if (on && !packet_mode_) packet_status_ = 0;
      packet_mode_ = on;
      return 0;
    }
    case TIOCGPKT: {
      bool on;
      {
        base::FiberMutexLock lock(mu_);
        on = packet_mode_;
      }
      return write_int(on ? 1 : 0);
    }
    case TIOCSIG: {
      int signo = static_cast<int>(args.argument);
      if (signo != kSIGINT && signo != kSIGQUIT && signo != kSIGTSTP) return Errno(EINVAL);
      SignalForeground(kernel_, signo);
      return 0;
    }
    case FIONREAD: {
      size_t n;
      {
        base::FiberMutexLock lock(mu_);
        n = ldisc_.output().size();
      }
      return write_int(static_cast<int32_t>(n));
    }
    case TIOCOUTQ: {
      size_t n;
      {
        base::FiberMutexLock lock(mu_);
        n = ldisc_.InputBytes();
      }
      return write_int(static_cast<int32_t>(n));
    }
    case TIOCGPGRP:
    case TIOCGSID: {
      // The master's user is not of the slave's session and may look all the same (tty_jobctrl.c: real_tty).
      int id;
      {
        base::MutexLock tree(kernel_.tasks().mu);
        Ids ids = IdsLocked(task.pid_namespace());
        id = args.command == TIOCGPGRP ? ids.foreground : ids.session;
      }
      if (id < 0 && args.command == TIOCGSID) return Errno(ENOTTY);
      return write_int(std::max(id, 0));
    }
    case TIOCSPGRP: {
      int32_t pgid = TRY(memory.Read(UserPtr<int32_t>{args.argument}));
      TRY(SetForegroundGroup(task, pgid));
      return 0;
    }
    default:
      break;
  }
  return CommonIoctl(task, args, /*master=*/true);
}

Result<int64_t> Pty::SlaveIoctl(Task& task, const IoctlArgs& args, FileDescription& file) {
  if (hung_up()) return Errno(args.command == TIOCSPGRP ? ENOTTY : EIO);
  if (auto handled = JobControlIoctl(task, args, file.readable())) return *handled;
  if (args.command == FIONREAD || args.command == TIOCOUTQ) {
    size_t n;
    {
      base::FiberMutexLock lock(mu_);
      n = args.command == FIONREAD ? ldisc_.InputBytes() : ldisc_.output().size();
    }
    TRY(args.memory.Write(UserPtr<int32_t>{args.argument}, static_cast<int32_t>(n)));
    return 0;
  }
  return CommonIoctl(task, args, /*master=*/false);
}

// --- Descriptions.

Result<int64_t> PtyMasterFile::Ioctl(const IoctlArgs& args) {
  Task* task = TaskOf(args.ctx);
  if (task == nullptr) return Errno(ENOTTY);
  return pty_->MasterIoctl(*task, args, *this);
}

Result<int64_t> PtySlaveFile::Ioctl(const IoctlArgs& args) {
  Task* task = TaskOf(args.ctx);
  if (task == nullptr) return Errno(ENOTTY);
  return pty_->SlaveIoctl(*task, args, *this);
}

Result<size_t> PtySlaveFile::Read(IoBuffer& to, const IoFlags& flags) {
  if (Task* task = Task::Current(); task != nullptr && !pty_->hung_up()) TRY(pty_->CheckBackground(*task, kSIGTTIN));
  return pty_->SlaveRead(to, flags.timed_out, flags.nonblock);
}

Result<size_t> PtySlaveFile::Write(IoBuffer& from, const IoFlags&) {
  Task* task = Task::Current();
  if (task != nullptr && !pty_->hung_up() && pty_->StopsBackgroundWriters())
    TRY(pty_->CheckBackground(*task, kSIGTTOU));
  return pty_->SlaveWrite(from);
}

}  // namespace sentry

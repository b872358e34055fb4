// Pseudo terminals. (man 7 pty, man 2 ioctl_tty, drivers/tty/pty.c)
//
// One Pty object is both ends: the line discipline between them, their queues and the state of job control (as a
// Terminal, which is the slave). Locks: mu_ (a fiber lock: guest memory is copied under it) guards the discipline;
// hangups and open counts are atomics, because the end of a description may not wait.
#ifndef SENTRY_FS_TTY_PTY_H_
#define SENTRY_FS_TTY_PTY_H_

#include <atomic>
#include <functional>

#include "base/fiber_lock.h"
#include "base/wait_queue.h"
#include "sentry/fs/tty/line_discipline.h"
#include "sentry/fs/tty/terminal.h"

namespace sentry {

class Pty final : public Terminal {
 public:
  static constexpr uint32_t kSlaveMajor = 136;  // UNIX98_PTY_SLAVE_MAJOR

  // `index`: N of /dev/pts/N. `slave_path`: where that is, for TIOCGPTPEER. `on_end` is called once when the master has
  // been closed (devpts removes the name); it must not wait.
  Pty(Kernel& kernel, int index, std::function<void()> on_end);
  ~Pty() override;

  int index() const { return index_; }
  int device_number() const override;
  // The master's description; once.
  RefPtr<FileDescription> OpenMaster(const VfsPath& path, uint32_t flags);
  // Set by devpts, before anybody has the master's descriptor.
  void SetSlavePath(VfsPath path) { slave_path_ = std::move(path); }
  const VfsPath& slave_path() const { return slave_path_; }

  Result<RefPtr<FileDescription>> OpenTerminal(const VfsPath& path, uint32_t flags) override;
  Result<void> SetWindowSize(abi::Winsize size) override;

  // --- For the two kinds of description.
  Result<size_t> MasterRead(IoBuffer& to) EXCLUDES(mu_);
  Result<size_t> MasterWrite(IoBuffer& from) EXCLUDES(mu_);
  base::EventMask MasterReadiness() EXCLUDES(mu_);
  Result<int64_t> MasterIoctl(Task& task, const IoctlArgs& args, FileDescription& file);
  Result<size_t> SlaveRead(IoBuffer& to, bool timed_out, bool nonblock) EXCLUDES(mu_);
  Result<size_t> SlaveWrite(IoBuffer& from) EXCLUDES(mu_);
  bool StopsBackgroundWriters() EXCLUDES(mu_);  // TOSTOP
  base::EventMask SlaveReadiness() EXCLUDES(mu_);
  Result<int64_t> SlaveIoctl(Task& task, const IoctlArgs& args, FileDescription& file);
  base::MonotonicNs SlaveReadDeadline(base::MonotonicNs started) EXCLUDES(mu_);
  void MasterClosed();
  void SlaveClosed();
  bool hung_up() const { return master_closed_.load(std::memory_order_acquire); }
  base::WaitQueue& master_queue() { return master_queue_; }
  base::WaitQueue& slave_queue() { return slave_queue_; }

 private:
  Result<int64_t> CommonIoctl(Task& task, const IoctlArgs& args, bool master);
  void ApplyTermios(const abi::Termios& termios, bool flush_input) EXCLUDES(mu_);
  void SetFlow(bool stopped) EXCLUDES(mu_);
  void Flush(bool input, bool output) EXCLUDES(mu_);
  abi::Termios CurrentTermios() EXCLUDES(mu_);
  void AddPacketStatus(uint8_t bits) REQUIRES(mu_);

  const int index_;
  std::function<void()> on_end_;
  VfsPath slave_path_;  // set once

  base::FiberMutex mu_;
  LineDiscipline ldisc_ GUARDED_BY(mu_);
  abi::Termios locked_termios_ GUARDED_BY(mu_){};  // bits and characters that stay what they are (man 2 TIOCSLCKTRMIOS)
  uint32_t input_speed_ GUARDED_BY(mu_) = 38400, output_speed_ GUARDED_BY(mu_) = 38400;
  bool packet_mode_ GUARDED_BY(mu_) = false;
  uint8_t packet_status_ GUARDED_BY(mu_) = 0;
  base::MonotonicNs last_input_ GUARDED_BY(mu_) = 0;

  base::Mutex size_mu_;
  abi::Winsize size_ GUARDED_BY(size_mu_){};

  std::atomic<bool> locked_{true};      // TIOCSPTLCK: a new slave cannot be opened before unlockpt
  std::atomic<bool> exclusive_{false};  // TIOCEXCL
  std::atomic<bool> master_closed_{false};
  std::atomic<int> slaves_{0};
  std::atomic<bool> slave_gone_{false};  // all slaves were closed: the master reads EIO (TTY_OTHER_CLOSED)
  base::WaitQueue master_queue_, slave_queue_;
};

class PtyMasterFile final : public FileDescription {
 public:
  PtyMasterFile(VfsPath path, uint32_t flags, RefPtr<Pty> pty)
      : FileDescription(std::move(path), flags), pty_(std::move(pty)) {}
  ~PtyMasterFile() override { pty_->MasterClosed(); }
  Result<size_t> Read(IoBuffer& to, const IoFlags&) override { return pty_->MasterRead(to); }
  Result<size_t> Write(IoBuffer& from, const IoFlags&) override { return pty_->MasterWrite(from); }
  Result<size_t> PRead(IoBuffer&, int64_t, const IoFlags&) override { return Errno(ESPIPE); }
  Result<size_t> PWrite(IoBuffer&, int64_t, const IoFlags&) override { return Errno(ESPIPE); }
  Result<int64_t> Ioctl(const IoctlArgs& args) override;
  base::EventMask Readiness() override { return pty_->MasterReadiness(); }
  base::WaitQueue* wait_queue() override { return &pty_->master_queue(); }
  bool WritesUntilDone() const override { return true; }
  std::string FdInfo() override { return "tty-index:\t" + std::to_string(pty_->index()) + "\n"; }

 private:
  RefPtr<Pty> pty_;
};

class PtySlaveFile final : public FileDescription {
 public:
  PtySlaveFile(VfsPath path, uint32_t flags, RefPtr<Pty> pty)
      : FileDescription(std::move(path), flags), pty_(std::move(pty)) {}
  ~PtySlaveFile() override { pty_->SlaveClosed(); }
  Result<size_t> Read(IoBuffer& to, const IoFlags& flags) override;
  Result<size_t> Write(IoBuffer& from, const IoFlags&) override;
  Result<size_t> PRead(IoBuffer&, int64_t, const IoFlags&) override { return Errno(ESPIPE); }
  Result<size_t> PWrite(IoBuffer&, int64_t, const IoFlags&) override { return Errno(ESPIPE); }
  Result<int64_t> Ioctl(const IoctlArgs& args) override;
  base::EventMask Readiness() override { return pty_->SlaveReadiness(); }
  base::WaitQueue* wait_queue() override { return &pty_->slave_queue(); }
  bool WritesUntilDone() const override { return true; }
  base::MonotonicNs ReadDeadline(base::MonotonicNs started) override { return pty_->SlaveReadDeadline(started); }

 private:
  RefPtr<Pty> pty_;
};

}  // namespace sentry

#endif  // SENTRY_FS_TTY_PTY_H_

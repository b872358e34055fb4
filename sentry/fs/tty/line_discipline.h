// LineDiscipline: N_TTY, what lies between a terminal's device (for a pty: its master) and the program that uses it.
// (man 3 termios, drivers/tty/n_tty.c)
//
// Two directions: Receive takes what was typed, edits lines, echoes and finds signal characters; Read gives it to the
// program. Write takes what the program prints; the device takes it, processed and mixed with the echo, from output().
// Not thread-safe; knows nothing of waiting.
#ifndef SENTRY_FS_TTY_LINE_DISCIPLINE_H_
#define SENTRY_FS_TTY_LINE_DISCIPLINE_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/errno.h"
#include "sentry/fs/tty/termios.h"
#include "sentry/mm/user_memory.h"

namespace sentry {

// Bytes in a row, taken from the front.
class ByteQueue {
 public:
  size_t size() const { return bytes_.size() - head_; }
  bool empty() const { return size() == 0; }
  void Append(uint8_t byte) { bytes_.push_back(static_cast<char>(byte)); }
  void Append(std::string_view text) { bytes_.append(text); }
  std::span<const std::byte> front() const { return std::as_bytes(std::span(bytes_.data() + head_, size())); }
  void Take(size_t n) {
    head_ += n;
    if (head_ == bytes_.size() || head_ >= 65536) {
      bytes_.erase(0, head_);
      head_ = 0;
    }
  }
  void Clear() {
    bytes_.clear();
    head_ = 0;
  }

 private:
  std::string bytes_;
  size_t head_ = 0;
};

class LineDiscipline {
 public:
  static constexpr size_t kInputSize = 4096;    // N_TTY_BUF_SIZE
  static constexpr size_t kOutputSize = 65536;  // what a program may print ahead of the device

  LineDiscipline();

  const abi::Termios& termios() const { return termios_; }
  // Takes effect at once. Turning ICANON on or off keeps the input that is there.
  void SetTermios(const abi::Termios& termios);

  // --- The device's side.
  // Takes typed bytes, fewer if the program does not read (0: none fits now). What has to be signalled to the
  // foreground group is appended to `signals`.
  size_t Receive(std::span<const uint8_t> typed, std::vector<int>& signals);
  bool CanReceive() const;
  ByteQueue& output() { return output_; }

  // --- The program's side.
  // Bytes taken; 0 when the output is full or stopped.
  size_t Write(std::span<const uint8_t> text);
  bool CanWrite() const { return !stopped_ && output_.size() < kOutputSize; }
  // EAGAIN: nothing, or not enough by VMIN. `timed_out`: the time of VTIME is over, what is there (perhaps nothing) is
  // the answer.
  Result<size_t> Read(IoBuffer& to, bool timed_out);
  // poll's POLLIN.
  bool InputAvailable() const;
  // Bytes that FIONREAD reports.
  size_t InputBytes() const;
  bool canonical() const { return (termios_.c_lflag & ICANON) != 0; }
  // True if Read in raw mode has begun to wait between bytes (VMIN and VTIME both set, some input there).
  bool BetweenBytes() const;

  // --- Flow.
  bool stopped() const { return stopped_; }
  void SetStopped(bool stopped) { stopped_ = stopped; }
  void FlushInput();
  void FlushOutput() { output_.Clear(); }

 private:
  // The low byte is the character.
  static constexpr uint16_t kLineEnd = 0x100;  // the last of a line; read with it
  static constexpr uint16_t kEof = 0x200;      // VEOF was typed: ends a line and is not read

  uint8_t cc(int index) const { return termios_.c_cc[index]; }
  bool IsCc(uint8_t c, int index) const { return cc(index) != 0 && c == cc(index); }
  bool Iflag(uint32_t f) const { return (termios_.c_iflag & f) != 0; }
  bool Lflag(uint32_t f) const { return (termios_.c_lflag & f) != 0; }
  bool Oflag(uint32_t f) const { return (termios_.c_oflag & f) != 0; }
  bool Continuation(uint8_t c) const { return Iflag(IUTF8) && (c & 0xc0) == 0x80; }

  void ReceiveByte(uint8_t c, std::vector<int>& signals);
  void ReceiveSignal(int signo, uint8_t c, std::vector<int>& signals);
  bool ReceiveEditing(uint8_t c);
  void Put(uint16_t c);
  bool Full() const { return input_.size() >= kInputSize - 1; }
  void EndLine(uint16_t flagged);
  void Erase(uint8_t c);
  void Reprint();

  void Output(uint8_t c);   // OPOST
  void EchoRaw(uint8_t c);  // through OPOST
  void Echo(uint8_t c);     // with ^X for control characters
  void EchoErased(uint8_t c);
  void EchoEraseTab(size_t columns, bool after_tab);

  abi::Termios termios_ = abi::kInitialTermios;
  std::vector<uint16_t> input_;  // everything not read yet; [0, committed_) are whole lines in canonical mode
  size_t committed_ = 0;
  ByteQueue output_;
  unsigned column_ = 0;             // of the output
  unsigned line_start_column_ = 0;  // where the line being edited began
  bool literal_next_ = false;       // VLNEXT was typed
  bool erasing_ = false;            // ECHOPRT: between '\' and '/'
  bool stopped_ = false;
};

}  // namespace sentry

#endif  // SENTRY_FS_TTY_LINE_DISCIPLINE_H_

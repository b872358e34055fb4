#include "sentry/fs/tty/line_discipline.h"

#include <algorithm>

#include "sentry/kernel/signal.h"

namespace sentry {
namespace {

bool IsControl(uint8_t c) { return c < 32 || c == 127; }
bool IsAlnum(uint8_t c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
uint8_t ToLower(uint8_t c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; }
uint8_t ToUpper(uint8_t c) { return c >= 'a' && c <= 'z' ? c - 32 : c; }

constexpr uint8_t kBell = 7;

}  // namespace

LineDiscipline::LineDiscipline() { input_.reserve(64); }

void LineDiscipline::SetTermios(const abi::Termios& termios) {
  bool was_canonical = canonical();
  bool had_ixon = Iflag(IXON);
  termios_ = termios;
  // n_tty_set_termios(): what is there when lines begin becomes one; when they end everything is there to read.
  if (canonical() != was_canonical) {
    for (uint16_t& c : input_) c &= static_cast<uint16_t>(~kLineEnd);
    if (canonical()) {
      if (!input_.empty()) input_.back() |= kLineEnd;
      committed_ = input_.size();
    } else {
      std::erase_if(input_, [](uint16_t c) { return (c & kEof) != 0; });
      committed_ = 0;
    }
    literal_next_ = false;
    erasing_ = false;
  }
  if (had_ixon && !Iflag(IXON)) stopped_ = false;
}

void LineDiscipline::FlushInput() {
  input_.clear();
  committed_ = 0;
  literal_next_ = false;
  erasing_ = false;
}

// --- Output.

// do_output_char().
void LineDiscipline::Output(uint8_t c) {
  if (!Oflag(OPOST)) {
    output_.Append(c);
    return;
  }
  switch (c) {
    case '\n':
      if (Oflag(ONLRET)) column_ = 0;
      if (Oflag(ONLCR)) {
        column_ = line_start_column_ = 0;
        output_.Append("\r\n");
        return;
      }
      line_start_column_ = column_;
      break;
    case '\r':
      if (Oflag(ONOCR) && column_ == 0) return;
      if (Oflag(OCRNL)) {
        c = '\n';
        if (Oflag(ONLRET)) column_ = line_start_column_ = 0;
        break;
      }
      column_ = line_start_column_ = 0;
      break;
    case '\t': {
      unsigned spaces = 8 - (column_ & 7);
      column_ += spaces;
      if ((termios_.c_oflag & TABDLY) == XTABS) {
        output_.Append(std::string(spaces, ' '));
        return;
      }
      break;
    }
    case '\b':
      if (column_ > 0) --column_;
      break;
    default:
      if (!IsControl(c)) {
        if (Oflag(OLCUC)) c = ToUpper(c);
        if (!Continuation(c)) ++column_;
      }
      break;
  }
  output_.Append(c);
}

size_t LineDiscipline::Write(std::span<const uint8_t> text) {
  size_t n = 0;
  while (n < text.size() && CanWrite()) Output(text[n++]);
  return n;
}

// --- Echo. What would make the output grow without bound (a device that types and does not read) is not echoed.

void LineDiscipline::EchoRaw(uint8_t c) {
  if (output_.size() < kOutputSize + kInputSize) Output(c);
}

void LineDiscipline::Echo(uint8_t c) {
  if (Lflag(ECHOCTL) && IsControl(c) && c != '\t') {
    EchoRaw('^');
    EchoRaw(c ^ 0100);
  } else {
    EchoRaw(c);
  }
}

void LineDiscipline::EchoErased(uint8_t c) {
  auto rub = [&] {
    for (uint8_t b : {uint8_t{'\b'}, uint8_t{' '}, uint8_t{'\b'}}) EchoRaw(b);
  };
  if (IsControl(c) && Lflag(ECHOCTL)) rub();
  if (!IsControl(c) || Lflag(ECHOCTL)) rub();
}

// echo_erase_tab(): back to the column where the tab began. `columns`: of the characters between it and the tab (or
// start of line) before.
void LineDiscipline::EchoEraseTab(size_t columns, bool after_tab) {
  if (!after_tab) columns += line_start_column_;
  for (size_t back = 8 - (columns & 7); back > 0; --back) {
    output_.Append(uint8_t{'\b'});
    if (column_ > 0) --column_;
  }
}

// --- Input.

bool LineDiscipline::CanReceive() const {
  // A line that is too long is not a reason to stop: signals and the end of the line have to come through
  // (n_tty_receive_buf_common).
  return !Full() || (canonical() && committed_ == 0);
}

size_t LineDiscipline::Receive(std::span<const uint8_t> typed, std::vector<int>& signals) {
  size_t n = 0;
  while (n < typed.size() && CanReceive()) ReceiveByte(typed[n++], signals);
  return n;
}

void LineDiscipline::Put(uint16_t c) {
  if (input_.size() < kInputSize) input_.push_back(c);
}

void LineDiscipline::EndLine(uint16_t flagged) {
  Put(flagged);
  if (!input_.empty()) input_.back() |= flagged & (kLineEnd | kEof);
  committed_ = input_.size();
}

// n_tty_receive_char_special() and its relatives, in the kernel's order.
void LineDiscipline::ReceiveByte(uint8_t c, std::vector<int>& signals) {
  if (literal_next_) {
    literal_next_ = false;
    if (Iflag(ISTRIP)) c &= 0x7f;
    if (Full()) return;
    if (Lflag(ECHO)) {
      if (committed_ == input_.size()) line_start_column_ = column_;
      Echo(c);
    }
    Put(c);
    return;
  }
  if (Iflag(ISTRIP)) c &= 0x7f;
  if (Iflag(IUCLC) && Lflag(IEXTEN)) c = ToLower(c);

  if (Iflag(IXON)) {
    if (IsCc(c, VSTART)) {
      stopped_ = false;
      return;
    }
    if (IsCc(c, VSTOP)) {
      stopped_ = true;
      return;
    }
  }
  if (Lflag(ISIG)) {
    if (IsCc(c, VINTR)) return ReceiveSignal(kSIGINT, c, signals);
    if (IsCc(c, VQUIT)) return ReceiveSignal(kSIGQUIT, c, signals);
    if (IsCc(c, VSUSP)) return ReceiveSignal(kSIGTSTP, c, signals);
  }
  if (stopped_ && Iflag(IXON) && Iflag(IXANY)) stopped_ = false;

  if (c == '\r') {
    if (Iflag(IGNCR)) return;
    if (Iflag(ICRNL)) c = '\n';
  } else if (c == '\n' && Iflag(INLCR)) {
    c = '\r';
  }

  if (canonical() && ReceiveEditing(c)) return;

  if (Full()) {
    if (Iflag(IMAXBEL)) EchoRaw(kBell);
    return;
  }
  if (Lflag(ECHO)) {
    if (c == '\n') {
      EchoRaw('\n');
    } else {
      // Where the line starts matters for erasing tabs.
      if (committed_ == input_.size()) line_start_column_ = column_;
      Echo(c);
    }
  }
  if (c == 0xff && Iflag(PARMRK)) Put(0xff);
  Put(c);
}

// isig(): unless NOFLSH, what was typed and what is still to be shown goes away.
void LineDiscipline::ReceiveSignal(int signo, uint8_t c, std::vector<int>& signals) {
  if (!Lflag(NOFLSH)) {
    FlushOutput();
    FlushInput();
  }
  signals.push_back(signo);
  if (Iflag(IXON)) stopped_ = false;
  if (Lflag(ECHO)) Echo(c);
}

// Canonical mode. True if the character has been dealt with.
bool LineDiscipline::ReceiveEditing(uint8_t c) {
  if (IsCc(c, VERASE) || IsCc(c, VKILL) || (IsCc(c, VWERASE) && Lflag(IEXTEN))) {
    Erase(c);
    return true;
  }
  if (IsCc(c, VLNEXT) && Lflag(IEXTEN)) {
    literal_next_ = true;
    if (Lflag(ECHO) && Lflag(ECHOCTL)) {
      EchoRaw('^');
      EchoRaw('\b');
    }
    return true;
  }
  if (IsCc(c, VREPRINT) && Lflag(ECHO) && Lflag(IEXTEN)) {
    Echo(c);
    Reprint();
    return true;
  }
  // The kernel finishes an ECHOPRT erasure when something else is typed.
  if (erasing_) {
    EchoRaw('/');
    erasing_ = false;
  }
  if (c == '\n') {
    if (Lflag(ECHO) || Lflag(ECHONL)) EchoRaw('\n');
    EndLine('\n' | kLineEnd);
    return true;
  }
  if (IsCc(c, VEOF)) {
    EndLine(kEof);
    return true;
  }
  if (IsCc(c, VEOL) || (IsCc(c, VEOL2) && Lflag(IEXTEN))) {
    if (Lflag(ECHO)) {
      if (committed_ == input_.size()) line_start_column_ = column_;
      Echo(c);
    }
    EndLine(c | kLineEnd);
    return true;
  }
  return false;
}

void LineDiscipline::Reprint() {
  EchoRaw('\n');
  for (size_t i = committed_; i < input_.size(); ++i) Echo(static_cast<uint8_t>(input_[i]));
}

// eraser().
void LineDiscipline::Erase(uint8_t c) {
  if (input_.size() == committed_) return;
  enum class Kind { kChar, kWord, kLine } kind = Kind::kChar;
  if (IsCc(c, VERASE)) {
    kind = Kind::kChar;
  } else if (IsCc(c, VWERASE)) {
    kind = Kind::kWord;
  } else {
    if (!Lflag(ECHO)) {
      input_.resize(committed_);
      return;
    }
    if (!Lflag(ECHOK) || !Lflag(ECHOKE) || !Lflag(ECHOE)) {
      input_.resize(committed_);
      if (erasing_) EchoRaw('/');
      erasing_ = false;
      Echo(c);
      // Add a newline if ECHOK is on and ECHOKE is off.
      if (Lflag(ECHOK)) EchoRaw('\n');
      return;
    }
    kind = Kind::kLine;
  }
  bool seen_alnum = false;
  while (input_.size() > committed_) {
    // A character of several bytes goes as a whole.
    size_t head = input_.size();
    do {
      --head;
      c = static_cast<uint8_t>(input_[head]);
    } while (Continuation(c) && head > committed_);
    if (Continuation(c)) break;  // half a character: nothing to erase
    if (kind == Kind::kWord) {
      if (IsAlnum(c)) {
        seen_alnum = true;
      } else if (seen_alnum) {
        break;
      }
    }
    std::vector<uint16_t> erased(input_.begin() + static_cast<ptrdiff_t>(head), input_.end());
    input_.resize(head);
    if (Lflag(ECHO)) {
      if (Lflag(ECHOPRT)) {
        if (!erasing_) {
          EchoRaw('\\');
          erasing_ = true;
        }
        for (uint16_t e : erased) Echo(static_cast<uint8_t>(e));
      } else if (kind == Kind::kChar && !Lflag(ECHOE)) {
        Echo(cc(VERASE));
      } else if (c == '\t') {
        size_t columns = 0;
        bool after_tab = false;
        for (size_t tail = input_.size(); tail > committed_;) {
          uint8_t before = static_cast<uint8_t>(input_[--tail]);
          if (before == '\t') {
            after_tab = true;
            break;
          }
          if (IsControl(before)) {
            if (Lflag(ECHOCTL)) columns += 2;
          } else if (!Continuation(before)) {
            ++columns;
          }
        }
        EchoEraseTab(columns, after_tab);
      } else {
        EchoErased(c);
      }
    }
    if (kind == Kind::kChar) break;
  }
  if (input_.size() == committed_ && erasing_) {
    EchoRaw('/');
    erasing_ = false;
  }
}

// --- Reading.

size_t LineDiscipline::InputBytes() const {
  if (!canonical()) return input_.size();
  // inq_canon(): the marks of VEOF do not count.
  size_t n = committed_;
  for (size_t i = 0; i < committed_; ++i) n -= (input_[i] & kEof) != 0 ? 1 : 0;
  return n;
}

bool LineDiscipline::InputAvailable() const {
  if (canonical()) return committed_ != 0;
  size_t amount = cc(VTIME) == 0 && cc(VMIN) != 0 ? cc(VMIN) : 1;
  return input_.size() >= amount;
}

bool LineDiscipline::BetweenBytes() const {
  return !canonical() && cc(VMIN) != 0 && cc(VTIME) != 0 && !input_.empty() && input_.size() < cc(VMIN);
}

Result<size_t> LineDiscipline::Read(IoBuffer& to, bool timed_out) {
  if (to.remaining() == 0) return 0;
  uint8_t chunk[kInputSize];
  size_t n = 0, consumed = 0;
  if (canonical()) {
    if (committed_ == 0) return Errno(EAGAIN);
    // A line at a time, or as much of it as was asked for.
    size_t limit = std::min(to.remaining(), sizeof(chunk));
    while (consumed < committed_ && n < limit) {
      uint16_t c = input_[consumed++];
      if ((c & kEof) != 0) break;
      chunk[n++] = static_cast<uint8_t>(c);
      if ((c & kLineEnd) != 0) break;
    }
  } else {
    size_t minimum = std::min<size_t>(cc(VMIN), to.remaining());
    if (input_.empty()) {
      if (timed_out || (cc(VMIN) == 0 && cc(VTIME) == 0)) return 0;
      return Errno(EAGAIN);
    }
    if (!timed_out && input_.size() < minimum) return Errno(EAGAIN);
    n = consumed = std::min({input_.size(), to.remaining(), sizeof(chunk)});
    for (size_t i = 0; i < n; ++i) chunk[i] = static_cast<uint8_t>(input_[i]);
  }
  size_t copied = 0;
  if (n != 0) {
    copied = TRY(to.CopyOut(std::as_bytes(std::span(chunk, n))));
    if (copied < n) consumed = copied;
  }
  input_.erase(input_.begin(), input_.begin() + static_cast<ptrdiff_t>(consumed));
  committed_ -= std::min(committed_, consumed);
  return copied;
}

}  // namespace sentry

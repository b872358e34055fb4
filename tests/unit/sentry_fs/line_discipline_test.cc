// What the conformance suite (pty_test) cannot see: bounds, and that no input breaks it.
#include "sentry/fs/tty/line_discipline.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "sentry/kernel/signal.h"

namespace sentry {
namespace {

class Ldisc : public ::testing::Test {
 protected:
  size_t Type(std::string_view text) {
    return l_.Receive({reinterpret_cast<const uint8_t*>(text.data()), text.size()}, signals_);
  }
  size_t Print(std::string_view text) { return l_.Write({reinterpret_cast<const uint8_t*>(text.data()), text.size()}); }
  std::string Read(size_t max = 8192, bool timed_out = false) {
    std::string buffer(max, '\0');
    KernelIo io(std::as_writable_bytes(std::span(buffer)));
    auto n = l_.Read(io, timed_out);
    if (!n.ok()) return std::string("error ") + base::ErrnoName(n.error().value());
    buffer.resize(*n);
    return buffer;
  }
  std::string Shown() {
    auto front = l_.output().front();
    std::string text(reinterpret_cast<const char*>(front.data()), front.size());
    l_.output().Take(text.size());
    return text;
  }
  void Change(const std::function<void(abi::Termios&)>& change) {
    abi::Termios t = l_.termios();
    change(t);
    l_.SetTermios(t);
  }
  LineDiscipline l_;
  std::vector<int> signals_;
};

TEST_F(Ldisc, SignalsFlushUnlessToldOtherwise) {
  Type("abc");
  Print("output");
  Type("\003");
  EXPECT_EQ(signals_, std::vector<int>{kSIGINT});
  EXPECT_EQ(Shown(), "^C");
  Type("x\n");
  EXPECT_EQ(Read(), "x\n");
  Change([](abi::Termios& t) { t.c_lflag |= NOFLSH; });
  Shown();
  Type("kept\034\n");
  EXPECT_EQ(signals_.back(), kSIGQUIT);
  EXPECT_EQ(Read(), "kept\n");
  EXPECT_EQ(Shown(), "kept^\\\r\n");
}

TEST_F(Ldisc, AProgramThatDoesNotReadStopsTheDeviceNotTheSignals) {
  // A whole line waits: nothing more fits in than the buffer holds.
  Type("line\n");
  std::string flood(10'000, 'x');
  size_t taken = Type(flood);
  EXPECT_LT(taken, flood.size());
  EXPECT_FALSE(l_.CanReceive());
  EXPECT_EQ(Read(), "line\n");
  // Now an unfinished line fills it: it goes on taking, and drops.
  EXPECT_TRUE(l_.CanReceive());
  EXPECT_EQ(Type(flood), flood.size());
  EXPECT_EQ(Type("\003"), 1u);
  EXPECT_EQ(signals_, std::vector<int>{kSIGINT});
}

TEST_F(Ldisc, EchoIsBoundedWhenTheDeviceDoesNotRead) {
  for (int i = 0; i < 1000; ++i) {
    Type(std::string(1000, 'y') + "\n");
    Read();
  }
  EXPECT_LE(l_.output().size(), LineDiscipline::kOutputSize + LineDiscipline::kInputSize + 16);
}

TEST_F(Ldisc, OutputStopsAtItsBound) {
  std::string text(1 << 20, 'z');
  size_t n = Print(text);
  EXPECT_EQ(n, LineDiscipline::kOutputSize);
  EXPECT_FALSE(l_.CanWrite());
  EXPECT_EQ(Print("more"), 0u);
  l_.output().Take(10);
  EXPECT_EQ(Print("more"), 4u);
}

TEST_F(Ldisc, TimedReadsTakeWhatIsThere) {
  Change([](abi::Termios& t) {
    t.c_lflag &= ~uint32_t{ICANON};
    t.c_cc[VMIN] = 5;
    t.c_cc[VTIME] = 1;
  });
  EXPECT_FALSE(l_.BetweenBytes());
  Type("ab");
  EXPECT_TRUE(l_.BetweenBytes());
  EXPECT_EQ(Read(), "error EAGAIN");
  EXPECT_EQ(Read(8192, /*timed_out=*/true), "ab");
  EXPECT_EQ(Read(8192, /*timed_out=*/true), "");
}

TEST_F(Ldisc, NoInputBreaksIt) {
  std::mt19937 random(20260101);
  auto any = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
  for (int round = 0; round < 20'000; ++round) {
    switch (any(8)) {
      case 0:
        Change([&](abi::Termios& t) {
          t.c_iflag = static_cast<uint32_t>(random()) & 0xffff;
          t.c_oflag = static_cast<uint32_t>(random()) & 0xffff;
          t.c_lflag = static_cast<uint32_t>(random()) & 0xffff;
          for (uint8_t& c : t.c_cc) c = static_cast<uint8_t>(any(3) == 0 ? any(256) : any(32));
        });
        break;
      case 1:
        Read(any(100) + 1, any(2) == 0);
        break;
      case 2:
        if (any(4) == 0) Shown();
        break;
      case 3: {
        std::string text(any(300), '\0');
        for (char& c : text) c = static_cast<char>(random());
        Print(text);
        break;
      }
      default: {
        std::string text(any(60), '\0');
        for (char& c : text) c = static_cast<char>(any(4) == 0 ? random() : any(40));
        Type(text);
        break;
      }
    }
    ASSERT_LE(l_.InputBytes(), LineDiscipline::kInputSize);
    ASSERT_LE(l_.output().size(), LineDiscipline::kOutputSize + 3 * LineDiscipline::kInputSize);
  }
}

}  // namespace
}  // namespace sentry

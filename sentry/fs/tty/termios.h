// Terminal attributes as guests lay them out. (include/uapi/asm-generic/termbits.h, termios.h)
#ifndef SENTRY_FS_TTY_TERMIOS_H_
#define SENTRY_FS_TTY_TERMIOS_H_

#include <asm/termbits.h>

#include <cstdint>

namespace sentry::abi {

struct Termios {  // TCGETS
  uint32_t c_iflag, c_oflag, c_cflag, c_lflag;
  uint8_t c_line;
  uint8_t c_cc[19];
};
static_assert(sizeof(Termios) == 36);
struct Termios2 {  // TCGETS2
  Termios base;
  uint32_t c_ispeed, c_ospeed;
};
static_assert(sizeof(Termios2) == 44);
struct Termio {  // TCGETA: System V's
  uint16_t c_iflag, c_oflag, c_cflag, c_lflag;
  uint8_t c_line;
  uint8_t c_cc[8];
  uint8_t pad;
};
static_assert(sizeof(Termio) == 18);
struct Winsize {
  uint16_t ws_row, ws_col, ws_xpixel, ws_ypixel;
  friend bool operator==(const Winsize&, const Winsize&) = default;
};

// tty_std_termios as a pty's slave starts with it (drivers/tty/tty_io.c, pty.c).
inline constexpr Termios kInitialTermios = {
    ICRNL | IXON,
    OPOST | ONLCR,
    B38400 | CS8 | CREAD,
    ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN,
    0,
    // VINTR VQUIT VERASE VKILL VEOF VTIME VMIN VSWTC VSTART VSTOP VSUSP VEOL VREPRINT VDISCARD VWERASE VLNEXT VEOL2
    {3, 034, 0177, 025, 4, 0, 1, 0, 021, 023, 032, 0, 022, 017, 027, 026, 0, 0, 0},
};

}  // namespace sentry::abi

#endif  // SENTRY_FS_TTY_TERMIOS_H_

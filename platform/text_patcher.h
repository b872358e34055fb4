// TextPatcher: what a platform offers to the owner of guest memory where a call that comes by a jump costs less than one
// that comes by the `syscall` instruction: copies of pages of program text in which call sites are jumps to the stub.
#ifndef PLATFORM_TEXT_PATCHER_H_
#define PLATFORM_TEXT_PATCHER_H_

namespace platform {

class TextPatcher {
 public:
  virtual ~TextPatcher() = default;
};

}  // namespace platform

#endif  // PLATFORM_TEXT_PATCHER_H_

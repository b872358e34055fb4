// runsc_systrap_entry: the way into the stub for patched call sites (stub_text.S), as the sentry sees it.
#ifndef PLATFORM_SYSTRAP_ENTRY_H_
#define PLATFORM_SYSTRAP_ENTRY_H_

#include <cstdint>

#include "platform/registers.h"
#include "platform/systrap/stub_layout.h"

namespace platform::systrap {

// Whether guest threads of this host can use the entry: it takes the calls of i386 (to set the segment by which a
// thread finds its slot), LAHF in 64-bit mode, and room for two frames in a slot. Forks.
bool HostHasEntry();

// What a thread of the guest's was doing at an address of the stub.
enum class StubPlace : uint8_t {
  kElsewhere,  // nothing of interest: a jump there, or guest code
  kBefore,     // a call that has not been made
  kAnswered,   // one that the stub has answered
  kAsked,      // a call to the host in its name has been made; its result is in rax
  kBehind,     // it made a call and waits, or is on its way back
};
StubPlace PlaceInStub(uint64_t rip);

// The registers of a thread that has made a call: as after a `syscall` instruction, orig_rax and rax included. The
// bases of segments are the caller's business, as below.
void FromCall(const CallRegisters& call, Registers& to);
// Those of one that was stopped before it made the call (kBefore): at the `syscall` instruction. `call` is what its
// slot has.
void RollBack(const CallRegisters& call, Registers& regs);
// Those of one that was stopped after the stub had answered it (kAnswered): behind the call.
void FinishAnswer(const CallRegisters& call, Registers& regs);
// Those of one that was stopped when the host had answered in its name (kAsked): behind the call if the guest is to see
// the result; false: it has made a call that the sentry has to serve, with registers as of FromCall.
bool FinishHostCall(const CallRegisters& call, Registers& regs);

// Whether a thread at `rip` is among the waiters that its address space counts (Slot::waiters).
bool CountsAsWaiter(uint64_t rip);
// Where it counts, by the address of the futex.
inline uint32_t FutexHash(uint64_t address) {
  return static_cast<uint32_t>(address >> FUTEX_HASH_SHIFT) & (FUTEX_HASHES - 1);
}

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_ENTRY_H_

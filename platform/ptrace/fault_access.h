// What a guest instruction that faulted wanted to do at the address: read, write or execute.
//
// The host knows (the error code of the exception) but tells only a signal handler in the faulting thread, and running
// one in the stub would cost as much as the fault itself. So the instruction is decoded.
//
// The contract with ContextCore::Access: kWrite is said only if the instruction does write there. A store that the
// decoder does not know is called a read; mm then maps the page for reading, the instruction faults again at the same
// byte, now with SEGV_ACCERR, and is called a write. So a wrong guess costs one more fault and never loops.
#ifndef PLATFORM_PTRACE_FAULT_ACCESS_H_
#define PLATFORM_PTRACE_FAULT_ACCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <span>

#include "platform/platform.h"
#include "platform/registers.h"

namespace platform::ptrace {

// Reads the instruction from the stopped tracee `tid`.
AccessType GuessAccess(pid_t tid, const Registers& regs, uint64_t address);

// The same for given bytes at regs.rip: fewer than 15 if what follows cannot be read.
AccessType DecodeAccess(std::span<const uint8_t> code, const Registers& regs, uint64_t address);

}  // namespace platform::ptrace

#endif  // PLATFORM_PTRACE_FAULT_ACCESS_H_

#include "platform/registers.h"

#include <cpuid.h>

#include <algorithm>
#include <cstring>

namespace platform {
namespace {

// Offsets in the standard XSAVE format (Intel SDM vol. 1, 13.4).
constexpr uint32_t kLegacyBytes = 512;
constexpr uint32_t kHeaderBytes = 64;
constexpr uint32_t kMxcsrOffset = 24;
constexpr uint32_t kMxcsrMaskOffset = 28;
constexpr uint64_t kX87 = 1, kSse = 2;
constexpr uint64_t kXTile = uint64_t{3} << 17;  // AMX: needs a permission per process that stubs never ask for
constexpr uint64_t kPkru = uint64_t{1} << 9;

// User selectors of the Linux GDT (arch/x86/include/asm/segment.h).
constexpr uint64_t kUserCs = 0x33, kUserDs = 0x2b;
// CF PF AF ZF SF TF DF OF NT RF AC ID: what POPF in user mode and sigreturn may set (FIX_EFLAGS,
// arch/x86/include/asm/sighandling.h).
constexpr uint64_t kUserFlags = 0x254dd5;
constexpr uint64_t kFixedFlags = 0x202;  // bit 1 and IF are always set in user mode
constexpr uint64_t kAddressLimit = 0x7ffffffff000;

struct XFeatures {
  uint64_t features = kX87 | kSse;
  uint32_t size = kLegacyBytes + kHeaderBytes;
  uint32_t mxcsr_mask = 0xffbf;
  struct {
    uint32_t offset = 0, size = 0;
  } component[64];
};

XFeatures Detect() {
  XFeatures x;
  alignas(16) uint8_t fx[kLegacyBytes] = {};
  asm volatile("fxsave64 %0" : "=m"(fx));
  uint32_t mask;
  memcpy(&mask, fx + kMxcsrMaskOffset, sizeof(mask));
  if (mask != 0) x.mxcsr_mask = mask;

  uint32_t a, b, c, d;
  constexpr uint32_t kOsxsave = 1u << 27;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & kOsxsave)) return x;
  uint32_t lo, hi;
  asm volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  x.features = ((static_cast<uint64_t>(hi) << 32) | lo) & ~kXTile;
  for (int i = 2; i < 63; ++i) {
    if (!(x.features >> i & 1)) continue;
    __cpuid_count(0xd, i, a, b, c, d);
    x.component[i] = {b, a};
    x.size = std::max(x.size, a + b);
  }
  return x;
}

const XFeatures& Host() {
  static const XFeatures features = Detect();
  return features;
}

}  // namespace

void SanitizeRegisters(Registers& regs) {
  regs.cs = kUserCs;
  regs.ss = kUserDs;
  // A selector other than null or the user data segment would have to exist in a descriptor table that guests do not
  // have.
  for (uint64_t* sel : {&regs.ds, &regs.es, &regs.fs, &regs.gs}) {
    if (*sel != kUserDs) *sel = 0;
  }
  regs.rflags = (regs.rflags & kUserFlags) | kFixedFlags;
  if (regs.fs_base >= kAddressLimit) regs.fs_base = 0;
  if (regs.gs_base >= kAddressLimit) regs.gs_base = 0;
}

uint32_t XStateSize() { return Host().size; }
uint64_t XStateFeatures() { return Host().features; }

void InitXState(void* area) {
  auto* bytes = static_cast<uint8_t*>(area);
  memset(bytes, 0, XStateSize());
  const uint16_t fcw = 0x37f;
  const uint32_t mxcsr = 0x1f80;
  memcpy(bytes, &fcw, sizeof(fcw));
  memcpy(bytes + kMxcsrOffset, &mxcsr, sizeof(mxcsr));
  memcpy(bytes + kMxcsrMaskOffset, &Host().mxcsr_mask, sizeof(uint32_t));
  uint64_t present = kX87 | kSse;
  if (Host().features & kPkru) {
    // Linux starts a program with every key but 0 closed (init_pkru_value, arch/x86/mm/pkeys.c).
    const uint32_t pkru = 0x55555554;
    memcpy(bytes + Host().component[9].offset, &pkru, sizeof(pkru));
    present |= kPkru;
  }
  memcpy(bytes + kLegacyBytes, &present, sizeof(present));
}

bool SanitizeXState(void* area, uint32_t given) {
  auto* bytes = static_cast<uint8_t*>(area);
  if (given < kLegacyBytes + kHeaderBytes) return false;
  uint64_t header[8];
  memcpy(header, bytes + kLegacyBytes, sizeof(header));
  if (header[1] != 0) return false;  // compacted format
  if (given < XStateSize()) memset(bytes + given, 0, XStateSize() - given);
  header[0] &= XStateFeatures();
  for (int i = 2; i < 63; ++i) {
    const auto& c = Host().component[i];
    if ((header[0] >> i & 1) && c.offset + c.size > given) header[0] &= ~(uint64_t{1} << i);
  }
  std::fill(header + 1, header + 8, 0);
  memcpy(bytes + kLegacyBytes, header, sizeof(header));
  uint32_t mxcsr;
  memcpy(&mxcsr, bytes + kMxcsrOffset, sizeof(mxcsr));
  mxcsr &= Host().mxcsr_mask;
  memcpy(bytes + kMxcsrOffset, &mxcsr, sizeof(mxcsr));
  return true;
}

}  // namespace platform

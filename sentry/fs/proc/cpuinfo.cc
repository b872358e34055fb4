// /proc/cpuinfo (arch/x86/kernel/cpu/proc.c).
#include <cpuid.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "sentry/fs/proc/append.h"
#include "sentry/fs/proc/system_text.h"

namespace sentry::proc {

namespace {

// The names that /proc/cpuinfo gives to CPUID's bits (arch/x86/include/asm/cpufeatures.h), for the leaves that programs
// look at.
struct FeatureWord {
  uint32_t leaf, subleaf;
  int reg;  // 0 eax, 1 ebx, 2 ecx, 3 edx
  const char* names[32];
};
constexpr FeatureWord kFeatures[] = {
    {1, 0, 3, {"fpu",  "vme",  "de",   "pse", "tsc",  "msr", "pae",   "mce", "cx8",     "apic",  nullptr,
               "sep",  "mtrr", "pge",  "mca", "cmov", "pat", "pse36", "pn",  "clflush", nullptr, "dts",
               "acpi", "mmx",  "fxsr", "sse", "sse2", "ss",  "ht",    "tm",  "ia64",    "pbe"}},
    {0x80000001, 0, 3, {nullptr, nullptr,    nullptr,   nullptr,   nullptr, nullptr, nullptr,    nullptr,
                        nullptr, nullptr,    nullptr,   "syscall", nullptr, nullptr, nullptr,    nullptr,
                        nullptr, nullptr,    nullptr,   "mp",      "nx",    nullptr, "mmxext",   nullptr,
                        nullptr, "fxsr_opt", "pdpe1gb", "rdtscp",  nullptr, "lm",    "3dnowext", "3dnow"}},
    {1, 0, 2, {"pni",    "pclmulqdq", "dtes64", "monitor", "ds_cpl",
               nullptr,  "smx",       "est",    "tm2",     "ssse3",
               "cid",    "sdbg",      "fma",    "cx16",    "xtpr",
               "pdcm",   nullptr,     "pcid",   "dca",     "sse4_1",
               "sse4_2", "x2apic",    "movbe",  "popcnt",  "tsc_deadline_timer",
               "aes",    "xsave",     nullptr,  "avx",     "f16c",
               "rdrand", "hypervisor"}},
    {0x80000001,
     0,
     2,
     {"lahf_lm", "cmp_legacy", nullptr, "extapic", "cr8_legacy", "abm", "sse4a", "misalignsse", "3dnowprefetch",
      "osvw"}},
    {7, 0, 1, {"fsgsbase", "tsc_adjust", nullptr,    "bmi1",     "hle",      "avx2",       nullptr,    "smep",
               "bmi2",     "erms",       "invpcid",  "rtm",      nullptr,    nullptr,      "mpx",      nullptr,
               "avx512f",  "avx512dq",   "rdseed",   "adx",      "smap",     "avx512ifma", nullptr,    "clflushopt",
               "clwb",     nullptr,      "avx512pf", "avx512er", "avx512cd", "sha_ni",     "avx512bw", "avx512vl"}},
    {7, 0, 2, {nullptr,      "avx512vbmi",   "umip",          nullptr, nullptr,
               nullptr,      "avx512_vbmi2", nullptr,         "gfni",  "vaes",
               "vpclmulqdq", "avx512_vnni",  "avx512_bitalg", nullptr, "avx512_vpopcntdq",
               nullptr,      nullptr,        nullptr,         nullptr, nullptr,
               nullptr,      nullptr,        "rdpid"}},
};

std::string FeatureNames() {
  std::string flags;
  for (const FeatureWord& w : kFeatures) {
    uint32_t r[4] = {};
    if (!__get_cpuid_count(w.leaf, w.subleaf, &r[0], &r[1], &r[2], &r[3])) continue;
    for (int bit = 0; bit < 32; ++bit) {
      if (w.names[bit] != nullptr && ((r[w.reg] >> bit) & 1))
        flags += std::string(flags.empty() ? "" : " ") + w.names[bit];
    }
  }
  return flags;
}

}  // namespace

std::string CpuinfoText(int cpus) {
  uint32_t a = 0, b = 0, c = 0, d = 0;
  char vendor[13] = {};
  __get_cpuid(0, &a, &b, &c, &d);
  std::memcpy(vendor, &b, 4);
  std::memcpy(vendor + 4, &d, 4);
  std::memcpy(vendor + 8, &c, 4);
  uint32_t signature = 0, ignored;
  __get_cpuid(1, &signature, &b, &ignored, &ignored);
  uint32_t family = (signature >> 8) & 15, model = (signature >> 4) & 15;
  if (family == 15) family += (signature >> 20) & 255;
  if (family >= 6) model |= ((signature >> 16) & 15) << 4;
  uint32_t brand[13] = {};
  for (uint32_t i = 0; i < 3; ++i)
    __get_cpuid(0x80000002 + i, &brand[4 * i], &brand[4 * i + 1], &brand[4 * i + 2], &brand[4 * i + 3]);
  const std::string flags = FeatureNames();
  std::string out;
  for (int i = 0; i < cpus; ++i) {
    Append(out,
           "processor\t: %d\nvendor_id\t: %s\ncpu family\t: %u\nmodel\t\t: %u\nmodel name\t: %.48s\nstepping\t: %u\n",
           i, vendor, family, model, reinterpret_cast<const char*>(brand), signature & 15);
    Append(out,
           "cpu MHz\t\t: 2000.000\ncache size\t: 1024 KB\nphysical id\t: 0\nsiblings\t: %d\ncore id\t\t: %d\ncpu "
           "cores\t: %d\napicid\t\t: %d\n",
           cpus, i, cpus, i);
    Append(out, "fpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: 13\nwp\t\t: yes\nflags\t\t: ");
    out += flags;
    Append(out,
           "\nbugs\t\t:\nbogomips\t: 4000.00\nclflush size\t: %u\ncache_alignment\t: 64\naddress sizes\t: 48 bits "
           "physical, 48 bits virtual\npower management:\n\n",
           ((b >> 8) & 255) * 8);
  }
  return out;
}

}  // namespace sentry::proc

#include "sentry/loader/initial_stack.h"

#include <elf.h>

#include <algorithm>
#include <cstring>

#include "sentry/arch/cpu_features.h"

namespace sentry::loader {

base::Result<void> CheckArguments(const std::vector<std::string>& argv, const std::vector<std::string>& envp,
                                  const std::string& filename, uint64_t stack_limit) {
  constexpr uint64_t kMaxString = 32 * kPageSize;       // MAX_ARG_STRLEN, with the NUL
  constexpr uint64_t kMaxTotal = (8ull << 20) / 4 * 3;  // _STK_LIM / 4 * 3
  constexpr uint64_t kMinTotal = 32 * kPageSize;        // ARG_MAX
  // fs/exec.c, bprm_stack_limits.
  uint64_t limit = std::max(std::min(kMaxTotal, stack_limit / 4), kMinTotal);
  uint64_t pointers = (argv.size() + envp.size()) * sizeof(uint64_t);
  if (limit <= pointers) return base::Errno(E2BIG);
  limit -= pointers;
  uint64_t total = filename.size() + 1;
  for (const auto* list : {&argv, &envp}) {
    for (const std::string& s : *list) {
      if (s.size() >= kMaxString) return base::Errno(E2BIG);
      total += s.size() + 1;
      if (total > limit) return base::Errno(E2BIG);
    }
  }
  return {};
}

InitialStack BuildStack(Addr top, const StackContents& c) {
  InitialStack out;
  auto bytes_of = [](const std::vector<std::string>& list) {
    uint64_t n = 0;
    for (const std::string& s : list) n += s.size() + 1;
    return n;
  };
  // From the top: a null pointer, the file name, the environment, the arguments.
  const Addr filename_at = top - sizeof(uint64_t) - (c.filename.size() + 1);
  out.env_end = filename_at;
  out.env_start = out.env_end - bytes_of(*c.envp);
  out.arg_end = out.env_start;
  out.arg_start = out.arg_end - bytes_of(*c.argv);
  Addr sp = (out.arg_start & ~uint64_t{15}) - c.shift;
  const Addr platform_at = sp -= sizeof arch::kPlatform;
  const Addr random_at = sp -= c.random.size();

  out.auxv.reserve((c.auxv.size() + 4) * 2);
  for (const auto& [type, value] : c.auxv) out.auxv.insert(out.auxv.end(), {type, value});
  out.auxv.insert(out.auxv.end(), {AT_RANDOM, random_at, AT_EXECFN, filename_at, AT_PLATFORM, platform_at, AT_NULL, 0});
  const uint64_t words = 1 + c.argv->size() + 1 + c.envp->size() + 1 + out.auxv.size();
  out.rsp = (sp - words * sizeof(uint64_t)) & ~uint64_t{15};
  out.bytes.resize(top - out.rsp);

  auto put = [&](Addr at, const void* data, size_t n) {
    if (n > 0) memcpy(out.bytes.data() + (at - out.rsp), data, n);
  };
  Addr word = out.rsp;
  auto put_word = [&](uint64_t value) {
    put(word, &value, sizeof value);
    word += sizeof value;
  };
  auto put_strings = [&](const std::vector<std::string>& list, Addr at) {
    for (const std::string& s : list) {
      put_word(at);
      put(at, s.c_str(), s.size() + 1);
      at += s.size() + 1;
    }
    put_word(0);
  };
  put_word(c.argv->size());
  put_strings(*c.argv, out.arg_start);
  put_strings(*c.envp, out.env_start);
  for (uint64_t value : out.auxv) put_word(value);
  put(random_at, c.random.data(), c.random.size());
  put(platform_at, arch::kPlatform, sizeof arch::kPlatform);
  put(filename_at, c.filename.c_str(), c.filename.size() + 1);
  return out;
}

}  // namespace sentry::loader

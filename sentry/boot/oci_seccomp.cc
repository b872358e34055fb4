#include "sentry/boot/oci_seccomp.h"

#include <linux/seccomp.h>
#include <stddef.h>

#include <optional>

#include "absl/strings/str_cat.h"
#include "sentry/kernel/seccomp_bpf.h"
#include "sentry/syscalls/table.h"

namespace sentry::boot {

namespace {

std::optional<uint32_t> NumberOf(const std::string& name) {
  for (uint64_t number = 0; number < kTableSize; ++number) {
    const Row* row = FindRow(number);
    if (row != nullptr && std::string_view(row->name) == std::string_view(name)) return static_cast<uint32_t>(number);
  }
  return std::nullopt;
}

class Writer {
 public:
  std::vector<sock_filter> code;

  void Load(uint32_t offset) { code.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset)); }
  void Return(uint32_t action) { code.push_back(BPF_STMT(BPF_RET | BPF_K, action)); }
  void And(uint32_t mask) { code.push_back(BPF_STMT(BPF_ALU | BPF_AND | BPF_K, mask)); }
  enum class To { kNext, kPass, kFail };
  void Jump(uint16_t op, uint32_t k, To yes, To no) {
    if (yes != To::kNext) fixes_.push_back({code.size(), true, yes});
    if (no != To::kNext) fixes_.push_back({code.size(), false, no});
    code.push_back(BPF_JUMP(static_cast<uint16_t>(BPF_JMP | op | BPF_K), k, 0, 0));
  }
  // Everything that waits for `label` goes to the next instruction. Blocks are short: a distance fits a byte.
  void Bind(To label) {
    std::erase_if(fixes_, [&](const Fix& fix) {
      if (fix.to != label) return false;
      const auto distance = static_cast<uint8_t>(code.size() - fix.at - 1);
      (fix.yes ? code[fix.at].jt : code[fix.at].jf) = distance;
      return true;
    });
  }

  // Falls through to what follows if the argument compares so, else goes to kFail.
  void Compare(const SeccompCondition& c) {
    const uint32_t low = static_cast<uint32_t>(offsetof(seccomp_data, args) + 8 * c.index), high = low + 4;
    const auto half = [](uint64_t v, bool upper) { return static_cast<uint32_t>(upper ? v >> 32 : v); };
    using Op = SeccompCondition::Op;
    switch (c.op) {
      case Op::kEqual:
        Load(high);
        Jump(BPF_JEQ, half(c.value, true), To::kNext, To::kFail);
        Load(low);
        Jump(BPF_JEQ, half(c.value, false), To::kNext, To::kFail);
        break;
      case Op::kMaskedEqual:
        Load(high);
        And(half(c.value, true));
        Jump(BPF_JEQ, half(c.value_two, true), To::kNext, To::kFail);
        Load(low);
        And(half(c.value, false));
        Jump(BPF_JEQ, half(c.value_two, false), To::kNext, To::kFail);
        break;
      case Op::kNotEqual:
        Load(high);
        Jump(BPF_JEQ, half(c.value, true), To::kNext, To::kPass);
        Load(low);
        Jump(BPF_JEQ, half(c.value, false), To::kFail, To::kPass);
        break;
      case Op::kGreater:
      case Op::kGreaterOrEqual:
        Load(high);
        Jump(BPF_JGT, half(c.value, true), To::kPass, To::kNext);
        Jump(BPF_JEQ, half(c.value, true), To::kNext, To::kFail);
        Load(low);
        Jump(c.op == Op::kGreater ? BPF_JGT : BPF_JGE, half(c.value, false), To::kPass, To::kFail);
        break;
      case Op::kLess:
      case Op::kLessOrEqual:
        Load(high);
        Jump(BPF_JGT, half(c.value, true), To::kFail, To::kNext);
        Jump(BPF_JEQ, half(c.value, true), To::kNext, To::kPass);
        Load(low);
        Jump(c.op == Op::kLess ? BPF_JGE : BPF_JGT, half(c.value, false), To::kFail, To::kPass);
        break;
    }
    Bind(To::kPass);
  }

 private:
  struct Fix {
    size_t at;
    bool yes;
    To to;
  };
  std::vector<Fix> fixes_;
};

}  // namespace

absl::StatusOr<std::vector<sock_filter>> CompileSeccompProfile(const SeccompProfile& profile) {
  Writer out;
  out.Load(offsetof(seccomp_data, nr));
  for (bool conditional : {false, true}) {
    for (const SeccompRule& rule : profile.rules) {
      if (rule.conditions.empty() == conditional) continue;
      for (const std::string& name : rule.names) {
        const std::optional<uint32_t> number = NumberOf(name);
        if (!number) continue;
        out.Jump(BPF_JEQ, *number, Writer::To::kNext, Writer::To::kFail);
        for (const SeccompCondition& condition : rule.conditions) out.Compare(condition);
        out.Return(rule.action);
        out.Bind(Writer::To::kFail);
        if (conditional) out.Load(offsetof(seccomp_data, nr));
      }
    }
  }
  out.Return(profile.default_action);
  if (!CheckSeccompProgram(out.code).ok()) {
    return absl::InvalidArgumentError(absl::StrCat("config.json: linux.seccomp: makes a filter of ", out.code.size(),
                                                   " instructions; 4096 are the most"));
  }
  return std::move(out.code);
}

}  // namespace sentry::boot

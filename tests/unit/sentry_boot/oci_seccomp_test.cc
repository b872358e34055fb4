#include "sentry/boot/oci_seccomp.h"

#include <gtest/gtest.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include "sentry/kernel/seccomp_bpf.h"

namespace sentry::boot {
namespace {

constexpr uint32_t kAllow = SECCOMP_RET_ALLOW, kFail = SECCOMP_RET_ERRNO | 1;
using Op = SeccompCondition::Op;

uint32_t Ask(const std::vector<sock_filter>& program, int number, uint64_t arg0 = 0, uint64_t arg1 = 0) {
  seccomp_data data{};
  data.nr = number;
  data.arch = kAuditArchX86_64;
  data.args[0] = arg0;
  data.args[1] = arg1;
  return RunSeccompProgram(program, data);
}

std::vector<sock_filter> Compile(const SeccompProfile& profile) {
  absl::StatusOr<std::vector<sock_filter>> program = CompileSeccompProfile(profile);
  EXPECT_TRUE(program.ok()) << program.status();
  return program.ok() ? *program : std::vector<sock_filter>();
}

TEST(OciSeccomp, NamesDecideAndTheRestIsTheDefault) {
  auto program = Compile({kFail, {{{"read", "write", "nothing_of_the_kind"}, kAllow, {}}}});
  EXPECT_EQ(Ask(program, SYS_read), kAllow);
  EXPECT_EQ(Ask(program, SYS_write), kAllow);
  EXPECT_EQ(Ask(program, SYS_getpid), kFail);
  EXPECT_EQ(Ask(program, -1), kFail);
}

TEST(OciSeccomp, ComparesAll64Bits) {
  struct Case {
    Op op;
    uint64_t value, value_two;
    bool (*holds)(uint64_t, uint64_t, uint64_t);
  };
  const uint64_t numbers[] = {0,           1,           5,           6,           7,          0xffffffff, 0x100000000,
                              0x100000005, 0x100000006, 0x600000005, 0x600000006, 1ull << 63, ~0ull};
  for (uint64_t value : numbers) {
    const Case cases[] = {
        {Op::kEqual, value, 0, [](uint64_t a, uint64_t v, uint64_t) { return a == v; }},
        {Op::kNotEqual, value, 0, [](uint64_t a, uint64_t v, uint64_t) { return a != v; }},
        {Op::kLess, value, 0, [](uint64_t a, uint64_t v, uint64_t) { return a < v; }},
        {Op::kLessOrEqual, value, 0, [](uint64_t a, uint64_t v, uint64_t) { return a <= v; }},
        {Op::kGreater, value, 0, [](uint64_t a, uint64_t v, uint64_t) { return a > v; }},
        {Op::kGreaterOrEqual, value, 0, [](uint64_t a, uint64_t v, uint64_t) { return a >= v; }},
        {Op::kMaskedEqual, value, 5, [](uint64_t a, uint64_t v, uint64_t d) { return (a & v) == d; }},
    };
    for (const Case& c : cases) {
      auto program = Compile({kFail, {{{"dup2"}, kAllow, {{1, c.op, c.value, c.value_two}}}}});
      for (uint64_t arg : numbers) {
        EXPECT_EQ(Ask(program, SYS_dup2, 77, arg), c.holds(arg, c.value, c.value_two) ? kAllow : kFail)
            << static_cast<int>(c.op) << " of " << arg << " and " << c.value;
      }
      EXPECT_EQ(Ask(program, SYS_dup, 77, value), kFail);
    }
  }
}

TEST(OciSeccomp, AllConditionsOfARuleHoldAndAnyRuleDoes) {
  auto program = Compile({kFail,
                          {{{"socket"}, kAllow, {{0, Op::kEqual, 1, 0}, {1, Op::kLess, 3, 0}}},
                           {{"socket", "dup"}, kAllow, {{0, Op::kEqual, 2, 0}}},
                           {{"close"}, kAllow, {}}}});
  EXPECT_EQ(Ask(program, SYS_socket, 1, 2), kAllow);
  EXPECT_EQ(Ask(program, SYS_socket, 1, 3), kFail);
  EXPECT_EQ(Ask(program, SYS_socket, 2, 3), kAllow);
  EXPECT_EQ(Ask(program, SYS_dup, 2), kAllow);
  EXPECT_EQ(Ask(program, SYS_dup, 1, 2), kFail);
  EXPECT_EQ(Ask(program, SYS_close, 9), kAllow);
}

TEST(OciSeccomp, WhatCannotFitIsRefused) {
  SeccompProfile profile{kFail, {}};
  for (int i = 0; i < 1000; ++i) profile.rules.push_back({{"dup"}, kAllow, {{0, Op::kGreater, uint64_t(i), 0}}});
  EXPECT_FALSE(CompileSeccompProfile(profile).ok());
}

}  // namespace
}  // namespace sentry::boot

#include "platform/systrap/patch/instruction.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "platform/systrap/patch/relocate.h"

namespace platform::patch {
namespace {

struct Known {
  const char* name;  // as GNU as writes it
  std::vector<uint8_t> bytes;
  Flow flow = Flow::kNext;
};

class KnownInstruction : public ::testing::TestWithParam<Known> {};

TEST_P(KnownInstruction, HasItsLength) {
  auto bytes = GetParam().bytes;
  const size_t length = bytes.size();
  bytes.resize(length + 15, 0x90);
  Instruction i;
  ASSERT_TRUE(Decode(bytes, i)) << GetParam().name;
  EXPECT_EQ(i.length, length) << GetParam().name;
  EXPECT_EQ(i.flow, GetParam().flow) << GetParam().name;
}

TEST_P(KnownInstruction, IsRefusedWhenItIsCutOff) {
  const auto& bytes = GetParam().bytes;
  Instruction i;
  for (size_t n = 0; n < bytes.size(); ++n)
    EXPECT_FALSE(Decode(std::span(bytes).first(n), i)) << GetParam().name << " " << n;
}

INSTANTIATE_TEST_SUITE_P(
    Decode, KnownInstruction,
    ::testing::Values(
        Known{"mov $1,%eax", {0xb8, 1, 0, 0, 0}}, Known{"mov $1,%r8d", {0x41, 0xb8, 1, 0, 0, 0}},
        Known{"mov $1,%ax", {0x66, 0xb8, 1, 0}}, Known{"movabs $1,%rax", {0x48, 0xb8, 1, 0, 0, 0, 0, 0, 0, 0}},
        Known{"mov $1,%rax", {0x48, 0xc7, 0xc0, 1, 0, 0, 0}}, Known{"movw $1,(%rax)", {0x66, 0xc7, 0, 1, 0}},
        Known{"mov 8(%rsp),%r9", {0x4c, 0x8b, 0x4c, 0x24, 0x08}}, Known{"syscall", {0x0f, 0x05}},
        Known{"mov 0(,%rax,8),%eax", {0x8b, 0x04, 0xc5, 0, 0, 0, 0}},
        Known{"mov x(%rip),%eax", {0x8b, 0x05, 0, 0, 0, 0}}, Known{"mov (%r12),%eax", {0x41, 0x8b, 0x04, 0x24}},
        Known{"mov 0(%r13),%eax", {0x41, 0x8b, 0x45, 0}},
        Known{"mov %fs:0x28,%rax", {0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0}},
        Known{"movabs 1,%al", {0xa0, 1, 0, 0, 0, 0, 0, 0, 0}}, Known{"addr32 movabs", {0x67, 0xa0, 1, 0, 0, 0}},
        Known{"testb $1,(%rax)", {0xf6, 0, 1}}, Known{"test $1,%eax", {0xf7, 0xc0, 1, 0, 0, 0}},
        Known{"test $1,%ax", {0x66, 0xf7, 0xc0, 1, 0}}, Known{"neg %eax", {0xf7, 0xd8}},
        Known{"jmp short", {0xeb, 0}, Flow::kJump}, Known{"jmp", {0xe9, 0, 0, 0, 0}, Flow::kJump},
        Known{"bnd jmp", {0xf2, 0xe9, 0, 0, 0, 0}, Flow::kJump}, Known{"je", {0x74, 0}, Flow::kBranch},
        Known{"je far", {0x0f, 0x84, 0, 0, 0, 0}, Flow::kBranch}, Known{"jrcxz", {0xe3, 0}, Flow::kBranch},
        Known{"xbegin", {0xc7, 0xf8, 0, 0, 0, 0}, Flow::kBranch}, Known{"xabort", {0xc6, 0xf8, 1}},
        Known{"call", {0xe8, 0, 0, 0, 0}, Flow::kCall},
        Known{"data16 data16 rex.W call", {0x66, 0x66, 0x48, 0xe8, 0, 0, 0, 0}, Flow::kCall},
        Known{"call *%rax", {0xff, 0xd0}, Flow::kIndirectCall}, Known{"jmp *%rax", {0xff, 0xe0}, Flow::kIndirectJump},
        Known{"notrack jmp *%rax", {0x3e, 0xff, 0xe0}, Flow::kIndirectJump}, Known{"ret", {0xc3}, Flow::kNever},
        Known{"repz ret", {0xf3, 0xc3}, Flow::kNever}, Known{"ud2", {0x0f, 0x0b}, Flow::kNever},
        Known{"hlt", {0xf4}, Flow::kNever}, Known{"enter", {0xc8, 0, 0, 0}}, Known{"int $0x80", {0xcd, 0x80}},
        Known{"endbr64", {0xf3, 0x0f, 0x1e, 0xfa}}, Known{"nopw", {0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0}},
        Known{"lock cmpxchg", {0xf0, 0x0f, 0xb1, 0x0f}}, Known{"pshufd", {0x66, 0x0f, 0x70, 0xc0, 0}},
        Known{"pshufb", {0x66, 0x0f, 0x38, 0x00, 0xc1}}, Known{"pcmpistri", {0x66, 0x0f, 0x3a, 0x63, 0xc1, 0x1a}},
        Known{"crc32", {0xf2, 0x48, 0x0f, 0x38, 0xf1, 0xc1}}, Known{"vzeroupper", {0xc5, 0xf8, 0x77}},
        Known{"vmovdqu", {0xc5, 0xfe, 0x6f, 0x07}}, Known{"vpshufd", {0xc5, 0xf9, 0x70, 0xc0, 0}},
        Known{"vpternlog", {0x62, 0xf3, 0xf5, 0x48, 0x25, 0xc2, 0x96}},
        Known{"vextracti128", {0xc4, 0xe3, 0x7d, 0x39, 7, 1}},
        Known{"vmovdqu64 disp8", {0x62, 0xf1, 0xfe, 0x48, 0x6f, 0x47, 0x01}}, Known{"kmovd", {0xc5, 0xfb, 0x93, 0xc1}},
        Known{"vpgatherdd", {0xc4, 0xe2, 0x6d, 0x90, 0x04, 0x8f}}, Known{"fldt", {0xdb, 0x6c, 0x24, 0x08}}));

struct Bad {
  const char* name;
  std::vector<uint8_t> bytes;
};

TEST(Decode, RefusesWhatIsNotOneKnownInstruction) {
  const Bad cases[] = {
      {"push %es", {0x06}},
      {"bound or a bad EVEX", {0x62, 0x00, 0x00, 0x00, 0x00}},
      {"ljmp", {0xea, 0, 0, 0, 0, 0, 0}},
      {"XOP", {0x8f, 0xe8, 0x78, 0xc0, 0xc1, 0x00}},
      {"3DNow!", {0x0f, 0x0f, 0xc1, 0x9e}},
      {"lock nop", {0xf0, 0x90}},
      {"lock of a register", {0xf0, 0x01, 0xc0}},
      {"16-bit call", {0x66, 0xe8, 0, 0, 0, 0}},
      {"16-bit jcc", {0x66, 0x0f, 0x84, 0, 0, 0, 0}},
      {"REX before a prefix", {0x48, 0x66, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0}},
      {"two REX", {0x48, 0x48, 0x89, 0xc0}},
      {"REX before VEX", {0x48, 0xc5, 0xf8, 0x77}},
      {"66 before VEX", {0x66, 0xc5, 0xf8, 0x77}},
      {"VEX map 0", {0xc4, 0xe0, 0x78, 0x77, 0, 0}},
      {"VEX unknown opcode", {0xc5, 0xf8, 0x05, 0xc0}},
      {"lea of a register", {0x8d, 0xc0}},
      {"ud0", {0x0f, 0xff, 0xc0}},
      {"c7 /1", {0xc7, 0xc8, 0, 0, 0, 0}},
      {"ff /7", {0xff, 0xf8}},
      {"extrq", {0x66, 0x0f, 0x78, 0xc0, 0, 0}},
      {"unknown 0f38", {0x0f, 0x38, 0x7f, 0xc0}},
      {"move to a control register", {0x0f, 0x22, 0xc0}},
      {"only prefixes", std::vector<uint8_t>(20, 0x66)},
      {"sixteen bytes", {0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x48, 0x81, 0x80, 0, 0, 0, 0, 0, 0, 0, 0}},
  };
  for (const Bad& bad : cases) {
    Instruction i;
    EXPECT_FALSE(Decode(bad.bytes, i)) << bad.name;
  }
}

TEST(Decode, KnowsNops) {
  auto is_nop = [](std::vector<uint8_t> bytes) {
    Instruction i;
    return Decode(bytes, i) && i.is_nop();
  };
  EXPECT_TRUE(is_nop({0x90}));
  EXPECT_TRUE(is_nop({0x66, 0x90}));
  EXPECT_TRUE(is_nop({0x0f, 0x1f, 0x40, 0x00}));
  EXPECT_TRUE(is_nop({0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0}));
  EXPECT_FALSE(is_nop({0xf3, 0x90}));              // pause
  EXPECT_FALSE(is_nop({0x41, 0x90}));              // xchg %eax,%r8d
  EXPECT_FALSE(is_nop({0xf3, 0x0f, 0x1e, 0xfa}));  // endbr64
}

std::optional<uint32_t> Eax(std::vector<uint8_t> bytes) {
  Instruction i;
  EXPECT_TRUE(Decode(bytes, i));
  return ConstantEax(i, bytes);
}

TEST(ConstantEax, IsKnownForTheEncodingsOfANumber) {
  EXPECT_EQ(Eax({0xb8, 0x27, 0, 0, 0}), 39u);
  EXPECT_EQ(Eax({0x48, 0xc7, 0xc0, 15, 0, 0, 0}), 15u);
  EXPECT_EQ(Eax({0xc7, 0xc0, 15, 0, 0, 0}), 15u);
  EXPECT_EQ(Eax({0x48, 0xb8, 7, 0, 0, 0, 1, 0, 0, 0}), 7u);
  EXPECT_EQ(Eax({0x31, 0xc0}), 0u);
  EXPECT_EQ(Eax({0x33, 0xc0}), 0u);
}

TEST(ConstantEax, IsUnknownForOtherRegistersAndSizes) {
  EXPECT_EQ(Eax({0x41, 0xb8, 0x27, 0, 0, 0}), std::nullopt);  // r8d
  EXPECT_EQ(Eax({0xb9, 0x27, 0, 0, 0}), std::nullopt);
  EXPECT_EQ(Eax({0x66, 0xb8, 0x27, 0}), std::nullopt);
  EXPECT_EQ(Eax({0x45, 0x31, 0xc0}), std::nullopt);
  EXPECT_EQ(Eax({0x31, 0xff}), std::nullopt);
  EXPECT_EQ(Eax({0xc7, 0x00, 15, 0, 0, 0}), std::nullopt);
}

bool Moves(std::vector<uint8_t> bytes) {
  Instruction i;
  EXPECT_TRUE(Decode(bytes, i));
  return IsRelocatable(i);
}

TEST(IsRelocatable, TakesPlainInstructionsOnly) {
  EXPECT_TRUE(Moves({0xb8, 0x27, 0, 0, 0}));
  EXPECT_TRUE(Moves({0x4c, 0x8b, 0x4c, 0x24, 0x08}));
  EXPECT_TRUE(Moves({0x48, 0x8d, 0x35, 1, 0, 0, 0}));
  EXPECT_TRUE(Moves({0x0f, 0x11, 0x43, 0x10}));
  EXPECT_FALSE(Moves({0xe8, 0, 0, 0, 0}));
  EXPECT_FALSE(Moves({0x74, 0}));
  EXPECT_FALSE(Moves({0xc3}));
  EXPECT_FALSE(Moves({0xff, 0xd0}));
  EXPECT_FALSE(Moves({0x0f, 0x05}));
  EXPECT_FALSE(Moves({0xcd, 0x80}));
  EXPECT_FALSE(Moves({0xf0, 0x0f, 0xb1, 0x0f}));
  EXPECT_FALSE(Moves({0x0f, 0x0b}));
  EXPECT_FALSE(Moves({0x0f, 0xa2}));              // cpuid
  EXPECT_FALSE(Moves({0x0f, 0x31}));              // rdtsc
  EXPECT_FALSE(Moves({0xf3, 0xa4}));              // rep movsb: half done when it faults
  EXPECT_FALSE(Moves({0x9d}));                    // popf
  EXPECT_FALSE(Moves({0xf3, 0x0f, 0x1e, 0xfa}));  // endbr64
  EXPECT_FALSE(Moves({0xc9}));                    // leave
}

TEST(Relocate, KeepsWhatARipRelativeOperandNames) {
  const std::vector<uint8_t> lea = {0x48, 0x8d, 0x35, 0x00, 0x01, 0x00, 0x00};  // lea 0x100(%rip),%rsi
  Instruction i;
  ASSERT_TRUE(Decode(lea, i));
  std::vector<uint8_t> moved(lea.size());
  ASSERT_TRUE(Relocate(i, lea, 0x401000, 0x501000, moved));
  EXPECT_EQ(moved, (std::vector<uint8_t>{0x48, 0x8d, 0x35, 0x00, 0x01, 0xf0, 0xff}));
  ASSERT_TRUE(Relocate(i, lea, 0x501000, 0x401000, moved));
  EXPECT_EQ(moved, (std::vector<uint8_t>{0x48, 0x8d, 0x35, 0x00, 0x01, 0x10, 0x00}));
}

TEST(Relocate, RefusesWhatIsOutOfReach) {
  const std::vector<uint8_t> lea = {0x48, 0x8d, 0x35, 0xff, 0xff, 0xff, 0x7f};
  Instruction i;
  ASSERT_TRUE(Decode(lea, i));
  std::vector<uint8_t> moved(lea.size());
  EXPECT_FALSE(Relocate(i, lea, 0x401001, 0x401000, moved));
  EXPECT_TRUE(Relocate(i, lea, 0x401000, 0x401001, moved));
  EXPECT_FALSE(Relocate(i, lea, 0, uint64_t{1} << 63, moved));
  EXPECT_FALSE(Relocate(i, lea, uint64_t{1} << 63, 0, moved));
}

}  // namespace
}  // namespace platform::patch

#include "platform/ptrace/fault_access.h"

#include <gtest/gtest.h>

#include <vector>

namespace platform::ptrace {
namespace {

constexpr AccessType kLoad = AccessType::kRead, kStore = AccessType::kWrite, kFetch = AccessType::kExecute;

// As GNU as encodes them; the faulting address is rdi's (0x20000000) unless stated.
struct Case {
  const char* name;
  std::vector<uint8_t> code;
  AccessType access;
};

Registers Regs() {
  Registers r{};
  r.rip = 0x400100;
  r.rdi = 0x20000000;
  r.rsi = 0x30000000;
  r.rsp = 0x40000000;
  return r;
}

class DecodeAccessTest : public ::testing::TestWithParam<Case> {};

TEST_P(DecodeAccessTest, TellsLoadsFromStores) {
  EXPECT_EQ(DecodeAccess(GetParam().code, Regs(), 0x20000000), GetParam().access);
}

INSTANTIATE_TEST_SUITE_P(
    Instructions, DecodeAccessTest,
    ::testing::Values(
        Case{"mov_store", {0x48, 0x89, 0x07}, kStore}, Case{"mov_load", {0x48, 0x8b, 0x07}, kLoad},
        Case{"movb_imm", {0xc6, 0x07, 0x01}, kStore}, Case{"movq_imm", {0x48, 0xc7, 0x07, 1, 0, 0, 0}, kStore},
        Case{"mov_fs", {0x64, 0x48, 0x89, 0x07}, kStore}, Case{"mov_disp8_sib", {0x89, 0x44, 0x27, 0x08}, kStore},
        Case{"add_store", {0x01, 0x07}, kStore}, Case{"add_load", {0x03, 0x07}, kLoad},
        Case{"cmp_mr", {0x39, 0x07}, kLoad}, Case{"cmp_imm", {0x83, 0x3f, 0x01}, kLoad},
        Case{"add_imm", {0x83, 0x07, 0x01}, kStore}, Case{"test", {0x85, 0x07}, kLoad},
        Case{"test_imm", {0xf7, 0x07, 1, 0, 0, 0}, kLoad}, Case{"neg", {0xf7, 0x1f}, kStore},
        Case{"mul", {0xf7, 0x27}, kLoad}, Case{"xchg", {0x87, 0x07}, kStore}, Case{"inc", {0xff, 0x07}, kStore},
        Case{"jmp_m", {0xff, 0x27}, kLoad}, Case{"push_m_load", {0xff, 0x37}, kLoad},
        Case{"call_m_load", {0xff, 0x17}, kLoad}, Case{"shl", {0xd3, 0x27}, kStore},
        Case{"setz", {0x0f, 0x94, 0x07}, kStore}, Case{"cmpxchg", {0xf0, 0x0f, 0xb1, 0x0f}, kStore},
        Case{"cmpxchg16b", {0xf0, 0x48, 0x0f, 0xc7, 0x0f}, kStore}, Case{"xadd", {0x0f, 0xc1, 0x07}, kStore},
        Case{"bt", {0x0f, 0xba, 0x27, 1}, kLoad}, Case{"bts", {0x0f, 0xba, 0x2f, 1}, kStore},
        Case{"movzx", {0x0f, 0xb6, 0x07}, kLoad}, Case{"imul", {0x0f, 0xaf, 0x07}, kLoad},
        Case{"movnti", {0x0f, 0xc3, 0x07}, kStore}, Case{"stos", {0xf3, 0xaa}, kStore},
        Case{"stosq", {0xf3, 0x48, 0xab}, kStore}, Case{"movs", {0xf3, 0x48, 0xa5}, kStore},
        Case{"scas", {0xf2, 0xae}, kLoad}, Case{"movups_store", {0x0f, 0x11, 0x07}, kStore},
        Case{"movups_load", {0x0f, 0x10, 0x07}, kLoad}, Case{"movaps_store", {0x0f, 0x29, 0x07}, kStore},
        Case{"movdqa_load", {0x66, 0x0f, 0x6f, 0x07}, kLoad}, Case{"movdqa_store", {0x66, 0x0f, 0x7f, 0x07}, kStore},
        Case{"movq_store", {0x66, 0x0f, 0xd6, 0x07}, kStore}, Case{"movq_load", {0xf3, 0x0f, 0x7e, 0x07}, kLoad},
        Case{"movntdq", {0x66, 0x0f, 0xe7, 0x07}, kStore},
        Case{"pextrq", {0x66, 0x48, 0x0f, 0x3a, 0x16, 0x07, 0x01}, kStore},
        Case{"vmovdqu_store", {0xc5, 0xfe, 0x7f, 0x07}, kStore}, Case{"vmovdqu_load", {0xc5, 0xfe, 0x6f, 0x07}, kLoad},
        Case{"vextracti128", {0xc4, 0xe3, 0x7d, 0x39, 0x07, 0x01}, kStore},
        Case{"vpmaskmovd_store", {0xc4, 0xe2, 0x75, 0x8e, 0x07}, kStore},
        Case{"vmovdqu64_store", {0x62, 0xf1, 0xfe, 0x48, 0x7f, 0x07}, kStore},
        Case{"vmovdqu64_load", {0x62, 0xf1, 0xfe, 0x48, 0x6f, 0x07}, kLoad},
        Case{"vpmovdb_store", {0x62, 0xf2, 0x7e, 0x48, 0x31, 0x07}, kStore},
        Case{"vpscatterdd", {0x62, 0xf2, 0x7d, 0x49, 0xa0, 0x04, 0x07}, kStore},
        Case{"kmovq_store", {0xc4, 0xe1, 0xf8, 0x91, 0x0f}, kStore},
        Case{"kmovq_load", {0xc4, 0xe1, 0xf8, 0x90, 0x0f}, kLoad}, Case{"fxsave", {0x0f, 0xae, 0x07}, kStore},
        Case{"fxrstor", {0x0f, 0xae, 0x0f}, kLoad}, Case{"ldmxcsr", {0x0f, 0xae, 0x17}, kLoad},
        Case{"stmxcsr", {0x0f, 0xae, 0x1f}, kStore}, Case{"xsavec", {0x0f, 0xc7, 0x27}, kStore},
        Case{"fstp_m80", {0xdb, 0x3f}, kStore}, Case{"fld_m64", {0xdd, 0x07}, kLoad},
        Case{"fnstcw", {0xd9, 0x3f}, kStore}, Case{"fldcw", {0xd9, 0x2f}, kLoad},
        Case{"movbe_store", {0x0f, 0x38, 0xf1, 0x07}, kStore}, Case{"crc32", {0xf2, 0x0f, 0x38, 0xf1, 0x07}, kLoad},
        Case{"pop_m", {0x8f, 0x07}, kStore}, Case{"mov_moffs", {0xa3, 0, 0, 0, 0x20, 0, 0, 0, 0}, kStore},
        Case{"prefetchw", {0x0f, 0x0d, 0x0f}, kLoad}, Case{"empty", {}, kLoad}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(DecodeAccess, StoresToTheStackAreBelowItsPointer) {
  Registers r = Regs();
  EXPECT_EQ(DecodeAccess(std::vector<uint8_t>{0x50}, r, r.rsp - 8), kStore);              // push
  EXPECT_EQ(DecodeAccess(std::vector<uint8_t>{0xff, 0x37}, r, r.rsp - 8), kStore);        // push (%rdi)
  EXPECT_EQ(DecodeAccess(std::vector<uint8_t>{0xe8, 0, 0, 0, 0}, r, r.rsp - 8), kStore);  // call
  EXPECT_EQ(DecodeAccess(std::vector<uint8_t>{0x58}, r, r.rsp), kLoad);                   // pop
  EXPECT_EQ(DecodeAccess(std::vector<uint8_t>{0xc3}, r, r.rsp), kLoad);                   // ret
}

TEST(DecodeAccess, StringMovesLoadFromTheSource) {
  Registers r = Regs();
  EXPECT_EQ(DecodeAccess(std::vector<uint8_t>{0xf3, 0xa4}, r, r.rsi), kLoad);
  EXPECT_EQ(DecodeAccess(std::vector<uint8_t>{0xf3, 0xa4}, r, r.rdi), kStore);
}

TEST(DecodeAccess, AnInstructionThatContinuesOnThePageIsAFetch) {
  Registers r = Regs();
  r.rip = 0x400ffe;
  EXPECT_EQ(DecodeAccess(std::vector<uint8_t>{0x48, 0x89}, r, 0x401000), kFetch);
  EXPECT_EQ(DecodeAccess({}, r, r.rip), kFetch);
  r.rdi = 0x401000;  // the whole instruction is there: it is the store
  r.rip = 0x400ffd;
  EXPECT_EQ(DecodeAccess(std::vector<uint8_t>{0x48, 0x89, 0x07}, r, 0x401000), kStore);
}

}  // namespace
}  // namespace platform::ptrace

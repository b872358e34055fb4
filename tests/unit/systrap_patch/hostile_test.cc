// Tables and code made up to do harm. tests/fuzz/systrap_patch_fuzz.cc looks for what nobody thought of.
#include <elf.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

#include "platform/systrap/patch/function_proof.h"
#include "platform/systrap/patch/patch_file.h"
#include "platform/systrap/patch/unwind_table.h"

namespace platform::patch {
namespace {

// An ELF file with one text page at 0x1000 and tables at 0x2000, built by hand.
class File {
 public:
  static constexpr uint64_t kText = 0x1000, kTables = 0x2000, kSize = 0x4000;
  static constexpr uint64_t kHeader = kTables, kFrames = kTables + 0x800;

  File() : bytes_(kSize) {
    Elf64_Ehdr e{};
    std::memcpy(e.e_ident, ELFMAG, SELFMAG);
    e.e_ident[EI_CLASS] = ELFCLASS64;
    e.e_ident[EI_DATA] = ELFDATA2LSB;
    e.e_machine = EM_X86_64;
    e.e_phoff = sizeof e;
    e.e_phentsize = sizeof(Elf64_Phdr);
    e.e_phnum = 3;
    Put(0, e);
    Elf64_Phdr p[3] = {};
    p[0] = {PT_LOAD, PF_R | PF_X, kText, kText, kText, 0x1000, 0x1000, 0x1000};
    p[1] = {PT_LOAD, PF_R, kTables, kTables, kTables, 0x2000, 0x2000, 0x1000};
    p[2] = {PT_GNU_EH_FRAME, PF_R, kHeader, kHeader, kHeader, 0x800, 0x800, 4};
    Put(sizeof e, p);
    // A CIE "zR" with pc-relative sdata4.
    const uint8_t cie[] = {0x14, 0, 0, 0, 0, 0, 0, 0, 1, 'z', 'R', 0, 1, 0x78, 0x10, 1, 0x1b, 0, 0, 0, 0, 0, 0, 0};
    std::memcpy(&bytes_[kFrames], cie, sizeof cie);
    frames_ = kFrames + sizeof cie;
    const uint8_t header[] = {1, 0x1b, 0x03, 0x3b};
    std::memcpy(&bytes_[kHeader], header, sizeof header);
    Put(kHeader + 4, static_cast<int32_t>(kFrames - kHeader - 4));
  }

  template <typename T>
  void Put(uint64_t at, const T& value) {
    std::memcpy(&bytes_[at], &value, sizeof value);
  }
  // Adds an entry to both tables.
  void AddFunction(uint64_t start, uint32_t size) {
    const uint64_t fde = frames_;
    Put(fde, uint32_t{16});
    Put(fde + 4, static_cast<uint32_t>(fde + 4 - kFrames));
    Put(fde + 8, static_cast<int32_t>(start - (fde + 8)));
    Put(fde + 12, size);
    frames_ += 20;
    Put(kHeader + 12 + 8 * count_, static_cast<int32_t>(start - kHeader));
    Put(kHeader + 16 + 8 * count_, static_cast<int32_t>(fde - kHeader));
    Put(kHeader + 8, ++count_);
  }
  // Gives the file section headers, and a .gopclntab with functions at these addresses.
  void AddGoTable(std::vector<uint64_t> addresses) {
    constexpr uint64_t kSections = 0x3800, kTable = 0x3a00, kNames = 0x3f00;
    Elf64_Ehdr e;
    std::memcpy(&e, bytes_.data(), sizeof e);
    e.e_shoff = kSections;
    e.e_shentsize = sizeof(Elf64_Shdr);
    e.e_shnum = 2;
    Put(0, e);
    Elf64_Shdr s[2] = {};
    s[0].sh_offset = kNames;
    s[1].sh_name = 1;
    s[1].sh_flags = SHF_ALLOC;
    s[1].sh_offset = kTable;
    s[1].sh_size = 72 + addresses.size() * 8;
    Put(kSections, s);
    std::memcpy(&bytes_[kNames + 1], ".gopclntab", 11);
    Put(kTable, uint32_t{0xfffffff1});
    bytes_[kTable + 6] = 1;
    bytes_[kTable + 7] = 8;
    Put(kTable + 8, uint64_t{addresses.size() - 1});
    Put(kTable + 24, kText);
    Put(kTable + 64, uint64_t{72});
    for (size_t i = 0; i < addresses.size(); ++i) Put(kTable + 72 + i * 8, static_cast<uint32_t>(addresses[i] - kText));
  }
  // Gives the file section headers: .text, and symbols for functions at these addresses.
  void AddSymbols(std::vector<uint64_t> addresses) {
    constexpr uint64_t kSections = 0x3800, kSymbols = 0x3a00;
    Elf64_Ehdr e;
    std::memcpy(&e, bytes_.data(), sizeof e);
    e.e_shoff = kSections;
    e.e_shentsize = sizeof(Elf64_Shdr);
    e.e_shnum = 3;
    Put(0, e);
    Elf64_Shdr s[3] = {};
    s[1].sh_type = SHT_PROGBITS;
    s[1].sh_flags = SHF_ALLOC | SHF_EXECINSTR;
    s[1].sh_addr = kText;
    s[1].sh_size = 0x800;
    s[2].sh_type = SHT_SYMTAB;
    s[2].sh_offset = kSymbols;
    s[2].sh_size = addresses.size() * sizeof(Elf64_Sym);
    Put(kSections, s);
    for (size_t i = 0; i < addresses.size(); ++i) {
      Elf64_Sym symbol{};
      symbol.st_info = STT_FUNC;
      symbol.st_shndx = 1;
      symbol.st_value = addresses[i];
      Put(kSymbols + i * sizeof symbol, symbol);
    }
  }
  void Code(uint64_t at, std::vector<uint8_t> code) { std::copy(code.begin(), code.end(), &bytes_[at]); }
  std::vector<uint8_t>& bytes() { return bytes_; }

  base::Result<std::vector<CodeRange>> Functions(uint64_t first, uint64_t last) {
    MemorySource source(bytes_);
    auto elf = ElfText::Parse(source);
    if (!elf.ok()) return elf.error();
    return FunctionsAround(source, *elf, first, last);
  }
  PatchedPage Patch(std::vector<Trap> traps = {}, Scope scope = Scope::kWholePage, uint64_t space = 65536) {
    MemorySource source(bytes_);
    auto elf = ElfText::Parse(source);
    CHECK(elf.ok());
    FilePatchRequest request;
    request.page = kText;
    request.trampolines = 0x10000;
    request.trampoline_space = space;
    request.traps = traps;
    request.scope = scope;
    auto page = PatchFilePage(source, *elf, request);
    return page.ok() ? std::move(*page) : PatchedPage{};
  }

 private:
  std::vector<uint8_t> bytes_;
  uint64_t frames_;
  uint32_t count_ = 0;
};

const std::vector<uint8_t> kGetpid = {0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3};

TEST(FunctionsAround, FindsNeighboursToo) {
  File file;
  for (uint64_t at = 0; at < 40; ++at) file.AddFunction(File::kText + at * 64, 60);
  auto found = file.Functions(File::kText + 640, File::kText + 768);
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->front(), (CodeRange{File::kText + 512, File::kText + 572}));
  EXPECT_EQ(found->back(), (CodeRange{File::kText + 768, File::kText + 828}));
  found = file.Functions(File::kText + 650, File::kText + 651);
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->size(), 4u);
  found = file.Functions(0, 1);
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->size(), 1u);
  found = file.Functions(0x100000, 0x100001);
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->size(), 3u);
}

TEST(FunctionsAround, WalksTheTableWhenThereIsNoIndex) {
  File file;
  file.AddFunction(File::kText + 128, 60);
  file.AddFunction(File::kText, 60);
  file.AddFunction(File::kText + 64, 60);
  Elf64_Ehdr e;
  std::memcpy(&e, file.bytes().data(), sizeof e);
  e.e_phnum = 2;
  e.e_shoff = 0x3800;
  e.e_shentsize = sizeof(Elf64_Shdr);
  e.e_shnum = 2;
  e.e_shstrndx = 0;
  file.Put(0, e);
  Elf64_Shdr s[2] = {};
  s[0].sh_offset = 0x3f00;
  s[1].sh_name = 1;
  s[1].sh_flags = SHF_ALLOC;
  s[1].sh_addr = File::kFrames;
  s[1].sh_size = 0x800;
  file.Put(0x3800, s);
  std::memcpy(&file.bytes()[0x3f01], ".eh_frame", 10);
  auto found = file.Functions(File::kText + 64, File::kText + 65);
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(*found, (std::vector<CodeRange>{{File::kText, File::kText + 60},
                                            {File::kText + 64, File::kText + 124},
                                            {File::kText + 128, File::kText + 188}}));
}

// One symbol at a time, and the functions between them have none.
TEST(PatchPage, TakesSymbolsWhereThereIsNoUnwindTable) {
  File file;
  std::fill_n(&file.bytes()[File::kText], 0x800, 0x90);
  for (uint64_t at : {0x0, 0x10, 0x20, 0x30, 0x100}) file.Code(File::kText + at, kGetpid);
  EXPECT_TRUE(file.Patch().sites.empty());
  file.AddSymbols({File::kText + 0x10, File::kText + 0x30, File::kText + 0x30});
  EXPECT_EQ(file.Patch().sites.size(), 5u);
  // Data between two symbols: what comes before and after has its own start and end.
  file.Code(File::kText + 0x28, {0x06, 0x06});
  EXPECT_EQ(file.Patch().sites.size(), 3u);
  // Data that swallows the start of the next function.
  file.Code(File::kText + 0x28, {0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xb8});
  EXPECT_EQ(file.Patch().sites.size(), 3u);
}

TEST(PatchPage, TakesGosTable) {
  File file;
  std::fill_n(&file.bytes()[File::kText], 0x1000, 0xcc);
  // mov %rbx,%rdi; syscall; ret, as in internal/runtime/syscall.Syscall6, and int3 up to the next function.
  for (uint64_t at : {0x20, 0x40}) file.Code(File::kText + at, {0x48, 0x89, 0xdf, 0x0f, 0x05, 0xc3});
  EXPECT_TRUE(file.Patch().sites.empty());
  file.AddGoTable({File::kText + 0x20, File::kText + 0x40, File::kText + 0x60});
  const PatchedPage page = file.Patch();
  ASSERT_EQ(page.sites.size(), 2u);
  EXPECT_EQ(page.sites[0].kind, SiteKind::kViaPadding);
  EXPECT_EQ(page.sites[0].padding, File::kText + 0x26);
  // Out of order.
  file.AddGoTable({File::kText + 0x20, File::kText + 0x40, File::kText + 0x30});
  EXPECT_TRUE(file.Patch().sites.empty());
  file.AddGoTable({File::kText + 0x20, File::kText + 0x40, File::kText + 0x60});
  file.Put(0x3a00 + 8, ~uint64_t{0});
  EXPECT_TRUE(file.Patch().sites.empty());
}

TEST(PatchPage, BelievesTheUnwindTableBeforeTheSymbols) {
  File file;
  std::fill_n(&file.bytes()[File::kText], 0x800, 0x90);
  file.Code(File::kText + 0x10, {0xb9, 0x00, 0x00, 0x0f, 0x05, 0xc3});
  file.AddFunction(File::kText + 0x10, 6);
  // A symbol in the middle of an instruction.
  file.AddSymbols({File::kText + 0x12, File::kText + 0x13});
  EXPECT_TRUE(file.Patch().sites.empty());
}

TEST(PatchPage, LeavesSignalReturnsThatUnwindersKnowByTheirBytes) {
  const std::vector<uint8_t> code = {0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05};
  File file;
  std::fill_n(&file.bytes()[File::kText], 0x800, 0x90);
  file.Code(File::kText, code);
  file.AddSymbols({File::kText});
  const PatchedPage page = file.Patch();
  EXPECT_TRUE(page.sites.empty());
  ASSERT_EQ(page.refused.size(), 1u);
  EXPECT_EQ(page.refused[0].reason, Refusal::kSignalReturn);
}

TEST(FunctionsAround, RefusesTablesThatContradictThemselves) {
  {
    File overlap;
    overlap.AddFunction(File::kText, 65);
    overlap.AddFunction(File::kText + 64, 60);
    EXPECT_FALSE(overlap.Functions(File::kText, File::kText + 100).ok());
  }
  {
    File other_start;
    other_start.AddFunction(File::kText, 60);
    other_start.Put(File::kHeader + 12, static_cast<int32_t>(File::kText + 1 - File::kHeader));
    EXPECT_FALSE(other_start.Functions(File::kText, File::kText + 100).ok());
  }
  {
    File empty_function;
    empty_function.AddFunction(File::kText, 0);
    EXPECT_FALSE(empty_function.Functions(File::kText, File::kText + 100).ok());
  }
  {
    File count;
    count.AddFunction(File::kText, 60);
    count.Put(File::kHeader + 8, uint32_t{0xffffffff});
    EXPECT_FALSE(count.Functions(File::kText, File::kText + 100).ok());
  }
  {
    File wrong_cie;
    wrong_cie.AddFunction(File::kText, 60);
    wrong_cie.Put(File::kFrames + 24 + 4, uint32_t{0x80000000});
    EXPECT_FALSE(wrong_cie.Functions(File::kText, File::kText + 100).ok());
  }
}

TEST(ElfText, RefusesWhatIsNoProgram) {
  auto parse = [](std::vector<uint8_t> bytes) {
    MemorySource source(bytes);
    return ElfText::Parse(source).ok();
  };
  File good;
  EXPECT_TRUE(parse(good.bytes()));
  EXPECT_FALSE(parse({}));
  for (size_t n = 0; n < 64 + 3 * 56; ++n) {
    EXPECT_FALSE(parse({good.bytes().begin(), good.bytes().begin() + static_cast<ptrdiff_t>(n)})) << n;
  }
  File many;
  many.Put(56, uint16_t{65});
  EXPECT_FALSE(parse(many.bytes()));
  File far;
  far.Put(64 + 16, ~uint64_t{0xfff});
  EXPECT_FALSE(parse(far.bytes()));
  File odd;
  odd.Put(64 + 16, uint64_t{0x1001});
  EXPECT_FALSE(parse(odd.bytes()));
}

// nopl 0x0(%rax); mov $15,%rax; syscall; and the range of the function begins with the last byte of the no-op, which,
// taken for an instruction, ends in the middle of the mov: add %cl,-0x39(%rax); rorb $0,(%rdi); add %al,(%rax);
// syscall.
TEST(PatchPage, KnowsSignalTrampolinesThatBeginOneByteEarly) {
  const std::vector<uint8_t> code = {0xc3, 0x0f, 0x1f, 0x40, 0x00, 0x48, 0xc7, 0xc0, 15,   0,    0,    0,   0x0f,
                                     0x05, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xc3};
  std::vector<uint8_t> text(kPageSize);
  std::copy(code.begin(), code.end(), text.begin() + 64);
  constexpr uint64_t kAt = File::kText + 64;
  PatchRequest request;
  request.text = text;
  request.text_address = File::kText;
  request.page = File::kText;
  request.trampolines = 0x10000;
  request.trampoline_space = 4096;
  for (bool signal_frame : {false, true}) {
    const CodeRange functions[] = {{kAt, kAt + 1}, {kAt + 4, kAt + 14, signal_frame}, {kAt + 24, kAt + 25}};
    request.functions = functions;
    const PatchedPage page = PatchPage(request);
    ASSERT_EQ(page.sites.size(), signal_frame ? 1u : 0u);
    if (!signal_frame) continue;
    EXPECT_EQ(page.sites[0].address, kAt + 5);
    EXPECT_EQ(page.sites[0].number, 15u);
  }
  // Nothing before it to go by.
  const CodeRange alone[] = {{kAt + 4, kAt + 14, true}, {kAt + 24, kAt + 25}};
  request.functions = alone;
  EXPECT_TRUE(PatchPage(request).sites.empty());
}

TEST(PatchPage, DoesNotTrustATrap) {
  File file;
  // mov $0x050f0000,%ecx: the `0f 05` at the end of the immediate is none.
  file.Code(File::kText, {0xb9, 0x00, 0x00, 0x0f, 0x05, 0xc3});
  file.AddFunction(File::kText, 6);
  // No function.
  file.Code(File::kText + 64, kGetpid);
  const PatchedPage page = file.Patch({{File::kText + 5, 0xb9}, {File::kText + 64 + 7, 39}});
  EXPECT_TRUE(page.sites.empty());
  ASSERT_EQ(page.refused.size(), 1u);
  EXPECT_EQ(page.refused[0].syscall, File::kText + 64 + 5);
  EXPECT_EQ(page.refused[0].reason, Refusal::kNotProven);
}

TEST(PatchPage, LeavesASiteWhoseNumberWasAnother) {
  File file;
  file.Code(File::kText, kGetpid);
  file.Code(File::kText + 16, kGetpid);
  file.AddFunction(File::kText, 8);
  file.AddFunction(File::kText + 16, 8);
  const PatchedPage page = file.Patch({{File::kText + 7, 40}, {File::kText + 16 + 7, 39}});
  ASSERT_EQ(page.sites.size(), 1u);
  EXPECT_EQ(page.sites[0].address, File::kText + 16);
  EXPECT_EQ(page.sites[0].number, 39u);
  ASSERT_EQ(page.refused.size(), 1u);
  EXPECT_EQ(page.refused[0].reason, Refusal::kNumberDiffers);
}

TEST(PatchPage, CanBeKeptToWhatTrapped) {
  File file;
  file.Code(File::kText, kGetpid);
  file.Code(File::kText + 16, kGetpid);
  file.AddFunction(File::kText, 8);
  file.AddFunction(File::kText + 16, 8);
  const PatchedPage page = file.Patch({{File::kText + 16 + 7, 39}}, Scope::kTraps);
  ASSERT_EQ(page.sites.size(), 1u);
  EXPECT_EQ(page.sites[0].address, File::kText + 16);
}

TEST(PatchPage, StaysWithinItsSpace) {
  File file;
  for (uint64_t i = 0; i < 100; ++i) {
    file.Code(File::kText + i * 16, kGetpid);
    file.AddFunction(File::kText + i * 16, 8);
  }
  for (uint64_t space = 0; space < 512; ++space) {
    const PatchedPage page = file.Patch({}, Scope::kWholePage, space);
    EXPECT_LE(page.trampolines.size(), space);
    EXPECT_EQ(page.sites.size() + page.refused.size(), 100u);
  }
  EXPECT_EQ(file.Patch().sites.size(), 100u);
}

TEST(PatchPage, PatchesNoInstructionThatCrossesThePage) {
  for (uint64_t behind = 0; behind < 10; ++behind) {
    File file;
    file.Put(64 + 32, uint64_t{0x2000});  // p_filesz: the text has a second page
    file.Put(64 + 56 + 8, uint64_t{0x3000});
    const uint64_t at = File::kText + kPageSize - 5 + behind;
    MemorySource source(file.bytes());
    std::vector<uint8_t> text(2 * kPageSize, 0x90);
    std::copy(kGetpid.begin(), kGetpid.end(), &text[at - File::kText]);
    const CodeRange functions[] = {{at, at + 8}};
    PatchRequest request;
    request.text = text;
    request.text_address = File::kText;
    request.functions = functions;
    request.page = File::kText;
    request.trampolines = 0x10000;
    request.trampoline_space = 4096;
    const PatchedPage page = PatchPage(request);
    EXPECT_EQ(page.sites.size(), behind == 0 ? 1u : 0u) << behind;
    request.page += kPageSize;
    EXPECT_EQ(PatchPage(request).sites.size(), behind >= 5 ? 1u : 0u) << behind;
  }
}

// Every byte is the start of something, and half of the page are system calls.
TEST(PatchPage, TakesBoundedTimeForAPageOfSystemCalls) {
  File file;
  for (uint64_t i = 0; i + 4 <= kPageSize; i += 4) file.Code(File::kText + i, {0x31, 0xc0, 0x0f, 0x05});
  std::vector<CodeRange> functions;
  for (uint64_t i = 0; i < kPageSize; i += 4) functions.push_back({File::kText + i, File::kText + i + 4});
  PatchRequest request;
  request.text = std::span(file.bytes()).subspan(File::kText, kPageSize);
  request.text_address = File::kText;
  request.functions = functions;
  request.page = File::kText;
  request.trampolines = 0x10000;
  request.trampoline_space = 65536;
  const PatchedPage page = PatchPage(request);
  EXPECT_TRUE(page.sites.empty());
  EXPECT_EQ(page.refused.size(), 1024u);
}

TEST(FunctionProof, FailsForDataInCode) {
  // jmp over a constant to code that the constant has swallowed the start of.
  const std::vector<uint8_t> code = {0xeb, 0x01, 0x48, 0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3, 0x90, 0x90};
  EXPECT_FALSE(FunctionProof::Prove({0x1000, 0x1000 + code.size()}, code));
  const std::vector<uint8_t> cut = {0x90, 0xb8, 1, 2};
  EXPECT_FALSE(FunctionProof::Prove({0x1000, 0x1004}, cut));
  EXPECT_FALSE(FunctionProof::Prove({0x1000, 0x1000}, {}));
  EXPECT_FALSE(FunctionProof::Prove({0x1000, 0x0fff}, {}));
  const std::vector<uint8_t> big(kMaxFunctionSize + 1, 0x90);
  EXPECT_FALSE(FunctionProof::Prove({0x1000, 0x1000 + big.size()}, big));
}

TEST(FunctionProof, AllowsAJumpOverALockPrefix) {
  const std::vector<uint8_t> code = {0x74, 0x01, 0xf0, 0x0f, 0xb1, 0x0f, 0xc3};
  EXPECT_TRUE(FunctionProof::Prove({0x1000, 0x1000 + code.size()}, code));
}

// Damaged copies of a real library: nothing is expected of the answers but that they come, and are consistent.
TEST(Hostile, DamagedLibraries) {
  std::ifstream in("/lib64/ld-linux-x86-64.so.2", std::ios::binary);
  const std::vector<uint8_t> good{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  if (good.empty()) GTEST_SKIP() << "no library here";
  std::mt19937 random(1);
  for (int round = 0; round < 60; ++round) {
    std::vector<uint8_t> bytes = good;
    if (round % 3 == 0) bytes.resize(random() % bytes.size());
    const size_t changes = round % 3 == 1 ? 20 : 2000;
    for (size_t i = 0; i < changes && !bytes.empty(); ++i) {
      const size_t limit = round % 2 == 0 ? bytes.size() : std::min<size_t>(bytes.size(), 4096);
      bytes[random() % limit] = static_cast<uint8_t>(random());
    }
    std::copy_n(good.begin(), std::min<size_t>(bytes.size(), 64), bytes.begin());  // or it is no ELF file at all
    MemorySource file(bytes);
    auto elf = ElfText::Parse(file);
    if (!elf.ok()) continue;
    for (uint64_t page = 0; page < 0x40000; page += kPageSize) {
      FilePatchRequest request;
      request.page = page;
      request.trampolines = 0x1000000;
      request.trampoline_space = 4096;
      auto patched = PatchFilePage(file, *elf, request);
      if (!patched.ok() || patched->sites.empty()) continue;
      ASSERT_EQ(patched->bytes.size(), kPageSize);
      ASSERT_LE(patched->trampolines.size(), 4096u);
      for (const Site& site : patched->sites) {
        EXPECT_EQ(FindOriginal(*patched, site.trampoline)->rip, site.address);
        EXPECT_EQ(FindOriginal(*patched, site.resume())->rip, site.syscall());
      }
    }
  }
}

}  // namespace
}  // namespace platform::patch

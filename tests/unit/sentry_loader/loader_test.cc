#include "sentry/loader/loader.h"

#include <elf.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cstring>
#include <map>

#include "base/safe_copy_unsafe.h"
#include "sentry/loader/elf.h"
#include "sentry/loader/initial_stack.h"
#include "sentry/loader/script.h"
#include "tests/unit/sentry_mm/fake_host.h"

namespace sentry::loader {
namespace {

using sentry::testing::DonatedFile;
using sentry::testing::FakePlatform;
using sentry::testing::GuestRead;
using sentry::testing::HostOf;

class TestFile final : public FileDescription {
 public:
  explicit TestFile(std::string contents)
      : FileDescription(NewAnonymousPath("test", S_IFREG | 0755), O_RDONLY), contents_(std::move(contents)) {}
  Result<size_t> PRead(IoBuffer& to, int64_t offset, const IoFlags&) override {
    if (offset >= static_cast<int64_t>(contents_.size())) return size_t{0};
    return to.CopyOut(std::as_bytes(std::span(contents_)).subspan(offset));
  }
  Result<RefPtr<Mappable>> GetMappable(uint8_t, bool) override {
    if (!mappable_) mappable_ = base::MakeRef<DonatedFile>(contents_);
    return RefPtr<Mappable>(mappable_);
  }

 private:
  std::string contents_;
  RefPtr<DonatedFile> mappable_;
};

std::string HostFile(const char* path) {
  std::string s;
  int fd = open(path, O_RDONLY);
  if (fd < 0) return s;
  char buffer[65536];
  ssize_t n;
  while ((n = read(fd, buffer, sizeof buffer)) > 0) s.append(buffer, n);
  close(fd);
  return s;
}

struct Segment {
  uint32_t flags;
  uint64_t offset, vaddr, file_bytes, memory_bytes;
};
// A program with a page of bytes i·7 per file page.
std::string MakeElf(uint16_t type, std::vector<Segment> segments, const std::string& interpreter = "",
                    uint64_t entry = 0x401000) {
  std::string s(64 << 10, '\0');
  for (size_t i = 4096; i < s.size(); ++i) s[i] = static_cast<char>(i / 4096 * 7);
  Elf64_Ehdr h{};
  memcpy(h.e_ident, ELFMAG, SELFMAG);
  h.e_ident[EI_CLASS] = ELFCLASS64;
  h.e_ident[EI_DATA] = ELFDATA2LSB;
  h.e_type = type;
  h.e_machine = EM_X86_64;
  h.e_entry = entry;
  h.e_phoff = sizeof h;
  h.e_phentsize = sizeof(Elf64_Phdr);
  std::vector<Elf64_Phdr> table;
  if (!interpreter.empty()) {
    Elf64_Phdr p{};
    p.p_type = PT_INTERP;
    p.p_offset = 2048;
    p.p_filesz = p.p_memsz = interpreter.size() + 1;
    memcpy(s.data() + 2048, interpreter.c_str(), interpreter.size() + 1);
    table.push_back(p);
  }
  for (const Segment& seg : segments) {
    Elf64_Phdr p{};
    p.p_type = PT_LOAD;
    p.p_flags = seg.flags;
    p.p_offset = seg.offset;
    p.p_vaddr = seg.vaddr;
    p.p_filesz = seg.file_bytes;
    p.p_memsz = seg.memory_bytes;
    p.p_align = 4096;
    table.push_back(p);
  }
  h.e_phnum = table.size();
  memcpy(s.data(), &h, sizeof h);
  memcpy(s.data() + sizeof h, table.data(), table.size() * sizeof(Elf64_Phdr));
  return s;
}

class LoaderTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { base::InstallSafeCopyHandlers(); }
  void SetUp() override {
    memory_file_ = *platform::MemoryFile::Create({});
    env_ = {&platform_, memory_file_.get()};
    time_ = std::make_unique<TimeKeeper>(2);
    vdso_ = *Vdso::Create(*memory_file_, *time_);
  }
  void TearDown() override {
    if (image_.mm) image_.mm->DropUser();
    image_ = {};
    vdso_.reset();
    time_.reset();
  }
  Result<void> Run(const std::string& name, std::vector<std::string> argv, std::vector<std::string> envp = {}) {
    if (image_.mm) image_.mm->DropUser();
    image_ = {};
    LoadArgs args;
    args.env = &env_;
    args.vdso = vdso_.get();
    args.open = [this](const std::string& path) -> Result<RefPtr<FileDescription>> {
      auto it = files_.find(path);
      if (it == files_.end()) return Errno(ENOENT);
      return RefPtr<FileDescription>(base::MakeRef<TestFile>(it->second));
    };
    args.identify = [](FileDescription&) -> Result<ExecIdentity> { return ExecIdentity{1, 2, 3, 4, true}; };
    args.file = TRY(args.open(name));
    args.filename = name;
    args.argv = std::move(argv);
    args.envp = std::move(envp);
    args.limits = limits_;
    args.randomize = randomize_;
    image_ = TRY(Load(std::move(args)));
    return {};
  }
  uint64_t Word(Addr at) { return image_.mm->Read(UserPtr<uint64_t>{at}).value_or(0xdeadbeef); }
  std::string Str(Addr at) { return image_.mm->ReadString(at, 1 << 20).value_or("<fault>"); }
  struct Stack {
    std::vector<std::string> argv, envp;
    std::map<uint64_t, uint64_t> auxv;
  };
  Stack ReadStack() {
    Stack s;
    Addr at = image_.stack;
    EXPECT_EQ(at % 16, 0u);
    uint64_t argc = Word(at);
    at += 8;
    for (uint64_t i = 0; i < argc; ++i, at += 8) s.argv.push_back(Str(Word(at)));
    EXPECT_EQ(Word(at), 0u);
    for (at += 8; Word(at) != 0; at += 8) s.envp.push_back(Str(Word(at)));
    for (at += 8; Word(at) != AT_NULL; at += 16) s.auxv[Word(at)] = Word(at + 8);
    return s;
  }

  FakePlatform platform_;
  std::unique_ptr<platform::MemoryFile> memory_file_;
  MmEnvironment env_;
  std::unique_ptr<TimeKeeper> time_;
  RefPtr<Vdso> vdso_;
  std::map<std::string, std::string> files_;
  MmLimits limits_;
  bool randomize_ = true;
  LoadedImage image_;
};

TEST_F(LoaderTest, StaticProgram) {
  files_["/bin/a"] =
      MakeElf(ET_EXEC, {{PF_R | PF_X, 0, 0x400000, 0x3000, 0x3000}, {PF_R | PF_W, 0x3010, 0x404010, 0x100, 0x5000}});
  ASSERT_TRUE(Run("/bin/a", {"a", "b c"}, {"X=1"}).ok());
  EXPECT_EQ(image_.entry, 0x401000u);
  EXPECT_EQ(image_.comm, "a");
  EXPECT_EQ(GuestRead(*image_.mm, 0x401000), 7);
  EXPECT_EQ(GuestRead(*image_.mm, 0x404010), 21);
  EXPECT_EQ(GuestRead(*image_.mm, 0x40410f), 21);
  EXPECT_EQ(GuestRead(*image_.mm, 0x404110), 0);  // .bss within the page
  EXPECT_EQ(GuestRead(*image_.mm, 0x408fff), 0);
  EXPECT_EQ(GuestRead(*image_.mm, 0x40a000), -SIGSEGV);
  Stack s = ReadStack();
  EXPECT_EQ(s.argv, (std::vector<std::string>{"a", "b c"}));
  EXPECT_EQ(s.envp, (std::vector<std::string>{"X=1"}));
  EXPECT_EQ(s.auxv[AT_ENTRY], 0x401000u);
  EXPECT_EQ(s.auxv[AT_PHDR], 0x400040u);
  EXPECT_EQ(s.auxv[AT_PHNUM], 2u);
  EXPECT_EQ(s.auxv[AT_BASE], 0u);
  EXPECT_EQ(s.auxv[AT_EUID], 2u);
  EXPECT_EQ(s.auxv[AT_SECURE], 1u);
  EXPECT_EQ(Str(s.auxv[AT_EXECFN]), "/bin/a");
  EXPECT_EQ(Str(s.auxv[AT_PLATFORM]), "x86_64");
  EXPECT_EQ(Word(s.auxv[AT_SYSINFO_EHDR]) & 0xffffffff, 0x464c457fu);
  // Everything went over as one.
  EXPECT_EQ(HostOf(*image_.mm).applies, 1);
  auto layout = image_.mm->layout();
  EXPECT_GE(layout.brk, 0x40a000u);
  EXPECT_EQ(Str(layout.arg_start), "a");
  EXPECT_EQ(Str(layout.env_start), "X=1");
  EXPECT_EQ(layout.auxv.back(), 0u);
  EXPECT_GT(*image_.mm->Brk(layout.brk + 10000, {}), layout.brk);
}

TEST_F(LoaderTest, WithAnInterpreter) {
  files_["/bin/dyn"] =
      MakeElf(ET_DYN, {{PF_R | PF_X, 0, 0, 0x3000, 0x3000}, {PF_R | PF_W, 0x3000, 0x4000, 0x1000, 0x1000}},
              "/lib/ld.so", 0x1000);
  files_["/lib/ld.so"] = MakeElf(ET_DYN, {{PF_R | PF_X, 0, 0, 0x3000, 0x3000}}, "", 0x2000);
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(Run("/bin/dyn", {"dyn"}).ok());
    Stack s = ReadStack();
    EXPECT_EQ(image_.entry, s.auxv[AT_BASE] + 0x2000);
    uint64_t bias = s.auxv[AT_ENTRY] - 0x1000;
    EXPECT_EQ(bias % 4096, 0u);
    EXPECT_EQ(s.auxv[AT_PHDR], bias + 64);
    EXPECT_EQ(GuestRead(*image_.mm, bias + 0x4000), 21);
    EXPECT_EQ(GuestRead(*image_.mm, bias + 0x3000), -SIGSEGV);
    EXPECT_EQ(GuestRead(*image_.mm, s.auxv[AT_BASE] + 0x1000), 7);
  }
  files_.erase("/lib/ld.so");
  EXPECT_TRUE(Run("/bin/dyn", {"dyn"}).failed_with(ENOENT));
  files_["/lib/ld.so"] = "not a program";
  EXPECT_TRUE(Run("/bin/dyn", {"dyn"}).failed_with(ELIBBAD));
}

TEST_F(LoaderTest, StaticPieAndBigAlignment) {
  std::string elf = MakeElf(ET_DYN, {{PF_R | PF_X, 0, 0, 0x3000, 0x3000}}, "", 0x1000);
  auto* p = reinterpret_cast<Elf64_Phdr*>(elf.data() + 64);
  p->p_align = 2 << 20;
  files_["/pie"] = elf;
  ASSERT_TRUE(Run("/pie", {"pie"}).ok());
  EXPECT_EQ((image_.entry - 0x1000) % (2 << 20), 0u);
  EXPECT_EQ(GuestRead(*image_.mm, image_.entry), 7);
}

TEST_F(LoaderTest, Scripts) {
  files_["/bin/sh"] = MakeElf(ET_EXEC, {{PF_R | PF_X, 0, 0x400000, 0x3000, 0x3000}});
  files_["/s"] = "#! /bin/sh -e  x \necho\n";
  ASSERT_TRUE(Run("/s", {"ignored", "one"}).ok());
  EXPECT_EQ(ReadStack().argv, (std::vector<std::string>{"/bin/sh", "-e  x", "/s", "one"}));
  EXPECT_EQ(image_.comm, "s");
  EXPECT_EQ(Str(ReadStack().auxv[AT_EXECFN]), "/s");
  files_["/s1"] = "#!/s\n";
  ASSERT_TRUE(Run("/s1", {"x"}).ok());
  EXPECT_EQ(ReadStack().argv, (std::vector<std::string>{"/bin/sh", "-e  x", "/s", "/s1"}));
  files_["/loop"] = "#!/loop\n";
  EXPECT_TRUE(Run("/loop", {"x"}).failed_with(ELOOP));
  files_["/none"] = "#!/missing\n";
  EXPECT_TRUE(Run("/none", {"x"}).failed_with(ENOENT));
  files_["/text"] = "echo hello\n";
  EXPECT_TRUE(Run("/text", {"x"}).failed_with(ENOEXEC));
  files_["/empty"] = "";
  EXPECT_TRUE(Run("/empty", {"x"}).failed_with(ENOEXEC));
}

TEST(ScriptLine, ParsesAsTheKernelDoes) {
  auto parse = [](std::string s) {
    s.resize(kHeadBytes);
    return ParseScript(std::as_bytes(std::span(s)));
  };
  EXPECT_EQ(parse("#!/bin/sh\n")->interpreter, "/bin/sh");
  EXPECT_FALSE(parse("#!/bin/sh\n")->argument);
  EXPECT_EQ(parse("#!/bin/sh")->interpreter, "/bin/sh");
  EXPECT_EQ(*parse("#!\t/a  b c \t\n")->argument, "b c");
  EXPECT_TRUE(parse("#!\n").failed_with(ENOEXEC));
  EXPECT_TRUE(parse("#!   \n").failed_with(ENOEXEC));
  EXPECT_TRUE(parse("#!").failed_with(ENOEXEC));
  EXPECT_TRUE(parse("#!" + std::string(254, ' ')).failed_with(ENOEXEC));
  EXPECT_TRUE(parse("#!/" + std::string(253, 'x')).failed_with(ENOEXEC));
  EXPECT_EQ(parse("#!/x " + std::string(300, 'y'))->argument->size(), 250u);
  EXPECT_EQ(parse("#!/" + std::string(252, 'x') + "\n")->interpreter.size(), 253u);
}

TEST_F(LoaderTest, BadFiles) {
  auto with = [&](auto&& change) {
    std::string elf = MakeElf(ET_EXEC, {{PF_R | PF_X, 0, 0x400000, 0x3000, 0x3000}});
    change(*reinterpret_cast<Elf64_Ehdr*>(elf.data()), *reinterpret_cast<Elf64_Phdr*>(elf.data() + 64));
    files_["/x"] = elf;
    auto r = Run("/x", {"x"});
    return r.ok() ? 0 : r.error().value();
  };
  using H = Elf64_Ehdr&;
  using P = Elf64_Phdr&;
  EXPECT_EQ(with([](H, P) {}), 0);
  EXPECT_EQ(with([](H h, P) { h.e_machine = EM_AARCH64; }), ENOEXEC);
  EXPECT_EQ(with([](H h, P) { h.e_ident[EI_CLASS] = ELFCLASS32; }), ENOEXEC);
  EXPECT_EQ(with([](H h, P) { h.e_type = ET_REL; }), ENOEXEC);
  EXPECT_EQ(with([](H h, P) { h.e_phentsize = 32; }), ENOEXEC);
  EXPECT_EQ(with([](H h, P) { h.e_phnum = 0; }), ENOEXEC);
  EXPECT_EQ(with([](H h, P) { h.e_phnum = 65535; }), ENOEXEC);
  EXPECT_EQ(with([](H h, P) { h.e_phoff = UINT64_MAX - 8; }), EIO);
  EXPECT_EQ(with([](H h, P) { h.e_phoff = 1 << 30; }), EIO);
  EXPECT_EQ(with([](H, P p) { p.p_type = PT_NOTE; }), ENOEXEC);
  EXPECT_EQ(with([](H, P p) { p.p_filesz = p.p_memsz + 1; }), EINVAL);
  EXPECT_EQ(with([](H, P p) { p.p_vaddr = UINT64_MAX - 4095; }), EINVAL);
  EXPECT_EQ(with([](H, P p) { p.p_memsz = uint64_t{1} << 62; }), EINVAL);
  EXPECT_EQ(with([](H, P p) { p.p_offset = 1; }), EINVAL);
  EXPECT_EQ(with([](H, P p) { p.p_offset = UINT64_MAX - 4095; }), EINVAL);
  EXPECT_EQ(with([](H, P p) { p.p_vaddr = 0; }), EPERM);
  EXPECT_EQ(with([](H, P p) {
              p.p_type = PT_INTERP;
              p.p_filesz = 1;
            }),
            ENOEXEC);
  EXPECT_EQ(with([](H, P p) {
              p.p_type = PT_INTERP;
              p.p_filesz = 5000;
            }),
            ENOEXEC);
}

TEST_F(LoaderTest, ArgumentLimits) {
  files_["/a"] = MakeElf(ET_EXEC, {{PF_R | PF_X, 0, 0x400000, 0x3000, 0x3000}});
  EXPECT_TRUE(Run("/a", {"a", std::string(131072, 'x')}).failed_with(E2BIG));
  ASSERT_TRUE(Run("/a", {"a", std::string(131071, 'x')}).ok());
  EXPECT_EQ(ReadStack().argv[1].size(), 131071u);
  std::vector<std::string> many(17, std::string(131000, 'y'));
  EXPECT_TRUE(Run("/a", many).failed_with(E2BIG));  // beyond a quarter of 8 MiB
  many.resize(15);
  ASSERT_TRUE(Run("/a", many).ok());
  EXPECT_EQ(ReadStack().argv.size(), 15u);
  limits_.stack = 256 << 10;
  EXPECT_TRUE(Run("/a", {"a", std::string(131071, 'x'), "more"}).failed_with(E2BIG));
  limits_.stack = UINT64_MAX;
  ASSERT_TRUE(Run("/a", {}).ok());
  EXPECT_EQ(ReadStack().argv, (std::vector<std::string>{""}));
}

TEST_F(LoaderTest, RealProgramsOfTheHost) {
  for (const char* name : {"/bin/true", "/bin/bash", "/bin/busybox", "/usr/bin/python3"}) {
    std::string contents = HostFile(name);
    if (contents.empty()) continue;
    files_[name] = contents;
    files_["/lib64/ld-linux-x86-64.so.2"] = HostFile("/lib64/ld-linux-x86-64.so.2");
    ASSERT_TRUE(Run(name, {name}).ok()) << name;
    auto* header = reinterpret_cast<const Elf64_Ehdr*>(contents.data());
    Stack s = ReadStack();
    // The first instructions are where they belong.
    uint64_t in_file = 0;
    auto* ph = reinterpret_cast<const Elf64_Phdr*>(contents.data() + header->e_phoff);
    for (int i = 0; i < header->e_phnum; ++i) {
      if (ph[i].p_type == PT_LOAD && header->e_entry >= ph[i].p_vaddr &&
          header->e_entry < ph[i].p_vaddr + ph[i].p_filesz) {
        in_file = header->e_entry - ph[i].p_vaddr + ph[i].p_offset;
      }
    }
    EXPECT_EQ(GuestRead(*image_.mm, s.auxv[AT_ENTRY]), static_cast<uint8_t>(contents[in_file]));
    EXPECT_EQ(HostOf(*image_.mm).applies, 1);
  }
}

TEST(ElfParser, TakesAnyBytes) {
  uint64_t seed = 1;
  std::string elf = MakeElf(ET_EXEC, {{PF_R | PF_X, 0, 0x400000, 0x3000, 0x3000}});
  for (int i = 0; i < 20000; ++i) {
    std::string s = elf.substr(0, 200);
    for (int j = 0; j < 4; ++j) {
      seed = seed * 6364136223846793005u + 1442695040888963407u;
      s[(seed >> 33) % s.size()] = static_cast<char>(seed >> 56);
    }
    (void)ParseElfHeader(std::as_bytes(std::span(s))).ok();
    (void)ParseProgramHeaders(std::as_bytes(std::span(s)));
    s[0] = '#';
    s[1] = '!';
    s.resize(kHeadBytes);
    (void)ParseScript(std::as_bytes(std::span(s))).ok();
  }
}

}  // namespace
}  // namespace sentry::loader

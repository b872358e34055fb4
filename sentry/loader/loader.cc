#include "sentry/loader/loader.h"

#include <elf.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "sentry/arch/cpu_features.h"
#include "sentry/arch/signal_frame.h"
#include "sentry/loader/elf.h"
#include "sentry/loader/initial_stack.h"
#include "sentry/loader/script.h"

namespace sentry::loader {

using base::Errno;
using base::RefPtr;
using base::Result;

namespace {

constexpr int kMaxRewrites = 5;                   // fs/exec.c, exec_binprm
constexpr uint64_t kStackSlack = 128 << 10;       // setup_arg_pages, stack_expand
constexpr uint64_t kStackRandomPages = 0x3fffff;  // STACK_RND_MASK
constexpr uint64_t kMmapRandomBits = 28;          // mmap_rnd_bits
constexpr uint64_t kBrkRandomBytes = 32 << 20;    // arch_randomize_brk
constexpr uint64_t kStackAlignRandom = 8192;      // arch_align_stack

uint64_t Random() {
  uint64_t bits = 0;
  (void)base::HostRetry(SYS_getrandom, &bits, sizeof bits, 0).ok();
  return bits;
}

// Drops the address space of a load that failed.
class MmGuard {
 public:
  explicit MmGuard(RefPtr<MemoryManager> mm) : mm_(std::move(mm)) {}
  ~MmGuard() {
    if (mm_) mm_->DropUser();
  }
  MmGuard(const MmGuard&) = delete;
  MemoryManager& operator*() { return *mm_; }
  RefPtr<MemoryManager> release() { return std::move(mm_); }

 private:
  RefPtr<MemoryManager> mm_;
};

struct Program {
  RefPtr<FileDescription> file;
  std::vector<std::byte> head;
};

Result<std::vector<std::byte>> ReadHead(FileDescription& file) {
  // A page at once: the program headers are in it, too.
  std::vector<std::byte> head(kPageSize);
  size_t n = TRY(ReadFile(file, 0, head));
  head.resize(std::max(n, kHeadBytes));
  return head;
}

// Follows #! lines to the file that is a program.
Result<Program> ResolveScripts(LoadArgs& args) {
  Program program{args.file, TRY(ReadHead(*args.file))};
  std::string name = args.filename;
  for (int depth = 0;; ++depth) {
    if (depth > kMaxRewrites) return Errno(ELOOP);
    if (program.head[0] != std::byte{'#'} || program.head[1] != std::byte{'!'}) return program;
    ScriptLine line = TRY(ParseScript(std::span(program.head).first(kHeadBytes)));
    // The interpreter would have to open a descriptor that exec closes.
    if (args.path_inaccessible) return Errno(ENOENT);
    // argv[0] gives way to the interpreter, its argument, and the script's name.
    std::vector<std::string> argv{line.interpreter};
    if (line.argument) argv.push_back(*line.argument);
    argv.push_back(name);
    argv.insert(argv.end(), std::make_move_iterator(args.argv.begin() + 1), std::make_move_iterator(args.argv.end()));
    args.argv = std::move(argv);
    name = line.interpreter;
    program.file = TRY(args.open(line.interpreter));
    program.head = TRY(ReadHead(*program.file));
    if (auto fits = CheckArguments(args.argv, args.envp, args.filename, args.limits.stack); !fits.ok())
      return fits.error();
  }
}

std::string CommOf(const std::string& filename) {
  constexpr size_t kMax = 15;
  size_t slash = filename.rfind('/');
  return filename.substr(slash == std::string::npos ? 0 : slash + 1).substr(0, kMax);
}

}  // namespace

Result<LoadedImage> Load(LoadArgs args) {
  // An empty argv gets an empty first argument (fs/exec.c, since 5.18: CVE-2021-4034).
  if (args.argv.empty()) args.argv.emplace_back();
  if (auto fits = CheckArguments(args.argv, args.envp, args.filename, args.limits.stack); !fits.ok())
    return fits.error();
  Program program = TRY(ResolveScripts(args));
  ElfFile elf = TRY(ReadElf(*program.file, program.head));
  std::string interpreter_path = TRY(ReadInterpreter(*program.file, elf));
  RefPtr<FileDescription> interpreter_file;
  ElfFile interpreter;
  if (!interpreter_path.empty()) {
    interpreter_file = TRY(args.open(interpreter_path));
    std::vector<std::byte> head = TRY(ReadHead(*interpreter_file));
    auto parsed = ReadElf(*interpreter_file, head);
    if (parsed.failed_with(ENOEXEC)) return Errno(ELIBBAD);
    interpreter = TRY(std::move(parsed));
  }
  ExecIdentity who = args.identify ? TRY(args.identify(*program.file)) : ExecIdentity{};

  bool executable_stack = false;  // missing PT_GNU_STACK: not executable on x86-64 (arch/x86/include/asm/elf.h)
  for (const ElfSegment& s : elf.segments) {
    if (s.type == PT_GNU_STACK) executable_stack = s.flags & PF_X;
  }

  MmGuard guard(TRY(MemoryManager::CreateDetached(*args.env)));
  MemoryManager& mm = *guard;
  mm.SetMmapBase(args.limits.stack, args.randomize);
  const Addr task_size = PageRoundDown(args.env->platform->GuestRange().end);
  const Addr stack_top = task_size - (args.randomize ? (Random() & kStackRandomPages) * kPageSize : 0);

  // ELF_ET_DYN_BASE and its randomization. A program without an interpreter may be an interpreter that was called by
  // hand: it goes where mmap puts it, out of the way of what it loads.
  const Addr dyn_base =
      task_size / 3 * 2 + (args.randomize ? (Random() & ((uint64_t{1} << kMmapRandomBits) - 1)) * kPageSize : 0);
  MapElfOptions options{.placement = interpreter_file ? Placement::kProgram : Placement::kInterpreter,
                        .dyn_base = dyn_base,
                        .limits = args.limits};
  MappedElf main = TRY(MapElf(mm, *program.file, elf, options));
  Addr entry = main.entry;
  uint64_t interpreter_base = 0;
  if (interpreter_file) {
    options.placement = Placement::kInterpreter;
    options.interpreter = true;
    MappedElf loaded = TRY(MapElf(mm, *interpreter_file, interpreter, options));
    entry = loaded.entry;
    interpreter_base = loaded.bias;
  }
  Addr vdso = args.vdso ? TRY(args.vdso->MapInto(mm, args.limits)) : 0;

  Addr brk = PageRoundUp(main.end);
  if (elf.header.position_independent && !interpreter_file) brk = PageRoundUp(task_size / 3 * 2);
  if (args.randomize) brk += Random() % (kBrkRandomBytes / kPageSize) * kPageSize;

  StackContents contents;
  contents.argv = &args.argv;
  contents.envp = &args.envp;
  contents.filename = args.filename;
  contents.random = args.random;
  contents.shift = args.randomize ? Random() % kStackAlignRandom & ~uint64_t{15} : 0;
  // The order of fs/binfmt_elf.c, with what the architecture adds first.
  if (vdso != 0) contents.auxv.emplace_back(AT_SYSINFO_EHDR, vdso);
  contents.auxv.insert(contents.auxv.end(), {{AT_MINSIGSTKSZ, arch::MinSignalStackSize()},
                                             {AT_HWCAP, arch::HwCap()},
                                             {AT_PAGESZ, kPageSize},
                                             {AT_CLKTCK, 100},
                                             {AT_PHDR, main.program_headers},
                                             {AT_PHENT, kProgramHeaderBytes},
                                             {AT_PHNUM, elf.header.program_headers},
                                             {AT_BASE, interpreter_base},
                                             {AT_FLAGS, 0},
                                             {AT_ENTRY, main.entry},
                                             {AT_UID, who.uid},
                                             {AT_EUID, who.euid},
                                             {AT_GID, who.gid},
                                             {AT_EGID, who.egid},
                                             {AT_SECURE, who.secure ? 1u : 0u},
                                             {AT_HWCAP2, arch::HwCap2()}});
  InitialStack stack = BuildStack(stack_top, contents);

  MMapOptions o;
  o.length = PageRoundUp(stack.bytes.size());
  // Room to grow without a fault, as far as the limit allows.
  o.length += std::min(kStackSlack, args.limits.stack > o.length ? PageRoundDown(args.limits.stack - o.length) : 0);
  o.addr = stack_top - o.length;
  o.fixed_noreplace = true;
  o.prot = PROT_READ | PROT_WRITE | (executable_stack ? PROT_EXEC : 0);
  o.grows_down = true;
  o.stack = true;
  o.name = "[stack]";
  auto mapped = mm.MMap(o, args.limits);
  if (!mapped.ok()) return Errno(mapped.failed_with(EEXIST) ? ENOMEM : mapped.error().value());
  if (TRY(mm.CopyOut(stack.rsp, stack.bytes)) != stack.bytes.size()) return Errno(EFAULT);
  if (!args.detached) {
    if (auto attached = mm.Attach(); !attached.ok()) return attached.error();
  }

  MemoryManager::Layout layout;
  layout.start_code = main.start_code;
  layout.end_code = main.end_code;
  layout.start_data = main.start_data;
  layout.end_data = main.end_data;
  layout.start_brk = layout.brk = brk;
  layout.start_stack = stack.rsp;
  layout.arg_start = stack.arg_start;
  layout.arg_end = stack.arg_end;
  layout.env_start = stack.env_start;
  layout.env_end = stack.env_end;
  layout.vdso = vdso;
  layout.auxv = std::move(stack.auxv);
  layout.exe = program.file;
  mm.SetLayout(std::move(layout));

  return LoadedImage{.mm = guard.release(),
                     .entry = entry,
                     .stack = stack.rsp,
                     .comm = CommOf(args.filename),
                     .executable = program.file};
}

}  // namespace sentry::loader

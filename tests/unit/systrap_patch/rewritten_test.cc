// Whole programs, every page of them patched: files are rewritten so that the host runs them with their trampolines and
// a stub that makes the call itself. What they print has to be what they print otherwise.
#include <elf.h>
#include <gtest/gtest.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "platform/systrap/patch/patch_file.h"
#include "platform/systrap/patch/trampoline.h"

namespace platform::patch {
namespace {

namespace fs = std::filesystem;

// The call has to be made with rcx kept somewhere that is a thread's own, survives the call, and is used by nobody
// around a system call: a mask register of AVX-512.
constexpr uint8_t kStub[] = {
    0xc4, 0xe1, 0xfb, 0x92, 0xf9,  // kmovq %rcx, %k7
    0x0f, 0x05,                    // syscall
    0xc4, 0xe1, 0xfb, 0x93, 0xcf,  // kmovq %k7, %rcx
    0xff, 0xe1,                    // jmp *%rcx
};
constexpr uint8_t kDeadlyStub[] = {0x0f, 0x0b};  // ud2
constexpr uint64_t kStubSpace = 64, kTrampolineSpace = 65536 - kStubSpace;

std::vector<uint8_t> ReadFile(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// The file with every site patched, its trampolines in a segment of their own that takes the place of a note.
// Empty if that is not possible.
std::vector<uint8_t> Rewrite(std::vector<uint8_t> bytes, std::span<const uint8_t> stub, size_t* sites) {
  MemorySource file(bytes);
  auto elf = ElfText::Parse(file);
  if (!elf.ok()) return {};
  Elf64_Ehdr header;
  std::memcpy(&header, bytes.data(), sizeof header);
  uint64_t note = 0, end = 0;
  for (size_t i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr p;
    std::memcpy(&p, &bytes[header.e_phoff + i * sizeof p], sizeof p);
    if (p.p_type == PT_NOTE) note = header.e_phoff + i * sizeof p;
    if (p.p_type == PT_LOAD) end = std::max(end, p.p_vaddr + p.p_memsz);
  }
  if (note == 0) return {};
  Elf64_Phdr added{};
  added.p_type = PT_LOAD;
  added.p_flags = PF_R | PF_X;
  added.p_offset = (bytes.size() + kPageSize - 1) / kPageSize * kPageSize;
  added.p_vaddr = added.p_paddr = (end + 16 * kPageSize) / kPageSize * kPageSize;
  added.p_align = kPageSize;

  std::vector<uint8_t> segment(kStubSpace, 0xcc);
  std::copy(stub.begin(), stub.end(), segment.begin());
  std::vector<uint8_t> patched = bytes;
  *sites = 0;
  for (const auto& s : elf->segments()) {
    if (!s.executable) continue;
    for (uint64_t page = s.address / kPageSize * kPageSize; page < s.address + s.size; page += kPageSize) {
      FilePatchRequest request;
      request.page = page;
      request.trampolines = added.p_vaddr + segment.size();
      request.trampoline_space = kStubSpace + kTrampolineSpace - segment.size();
      auto result = PatchFilePage(file, *elf, request);
      if (!result.ok() || result->sites.empty()) continue;
      *sites += result->sites.size();
      for (const Site& site : result->sites) {
        // The stub is as far away wherever the file is loaded, its address is not known: jump there directly.
        const uint64_t at = site.resume() + kLoadReturnSize;
        EXPECT_TRUE(
            WriteLongJump(std::span(result->trampolines).subspan(at - result->trampoline_address), at, added.p_vaddr));
      }
      segment.insert(segment.end(), result->trampolines.begin(), result->trampolines.end());
      for (const Edit& edit : result->edits) {
        for (uint64_t i = edit.offset; i < uint64_t{edit.offset} + edit.length; ++i) {
          patched[s.offset + (page - s.address) + i] = result->bytes[i];
        }
      }
    }
  }
  added.p_filesz = added.p_memsz = segment.size();
  std::memcpy(&patched[note], &added, sizeof added);
  patched.resize(added.p_offset);
  patched.insert(patched.end(), segment.begin(), segment.end());
  return patched;
}

struct Output {
  std::string text;
  int status;
  friend bool operator==(const Output&, const Output&) = default;
};

Output Execute(const std::string& command) {
  FILE* pipe = popen(("ulimit -c 0; timeout -s KILL 60 " + command + " 2>&1").c_str(), "re");
  EXPECT_NE(pipe, nullptr);
  Output output;
  char buffer[4096];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) output.text.append(buffer, n);
  output.status = pclose(pipe);
  return output;
}

class Rewritten : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!__builtin_cpu_supports("avx512bw")) GTEST_SKIP() << "no AVX-512: nowhere to keep the return address";
    char name[] = "/tmp/systrap_patch_XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    directory_ = name;
  }
  void TearDown() override {
    if (!directory_.empty()) fs::remove_all(directory_);
  }
  // Writes the rewritten `from` to the directory. False if it is not there.
  bool Place(const fs::path& from, std::span<const uint8_t> stub, size_t* sites) {
    const auto contents = ReadFile(from);
    if (contents.empty()) return false;
    const auto rewritten = Rewrite(contents, stub, sites);
    EXPECT_FALSE(rewritten.empty());
    const fs::path to = directory_ / from.filename();
    std::ofstream(to, std::ios::binary)
        .write(reinterpret_cast<const char*>(rewritten.data()), static_cast<std::streamsize>(rewritten.size()));
    return chmod(to.c_str(), 0755) == 0;
  }
  fs::path directory_;
};

TEST_F(Rewritten, AStaticShellRunsAsBefore) {
  size_t sites;
  if (!Place("/bin/busybox", kStub, &sites)) GTEST_SKIP() << "no busybox";
  EXPECT_GT(sites, 200u);
  const std::string script = R"( sh -c '
    cd "$0" && mkdir -p d/e && echo one >d/a && echo two >d/e/b && ln -s a d/link && ls -R d && cat d/a d/link
    tar cf t.tar d && gzip -k t.tar && gunzip -c t.tar.gz | tar tf - && find d -type f | sort | xargs md5sum
    i=0; while [ $i -lt 50 ]; do i=$((i+1)); echo $i; done | awk "{s+=\$1} END {print s}"
    sleep 0.01 & wait $!; kill -0 $$ && echo alive; trap "echo trapped" USR1; kill -USR1 $$; echo behind
    (exit 3); echo $?; cat /nowhere; echo $?; dd if=/dev/zero of=z bs=1000 count=3 2>/dev/null; wc -c z; stat -c %s z
    rm -r d t.tar t.tar.gz z' )";
  const std::string where = "'" + directory_.string() + "'";
  const Output native = Execute("/bin/busybox" + script + where);
  EXPECT_NE(native.text.find("1275\n"), std::string::npos) << native.text;
  EXPECT_EQ(Execute("'" + (directory_ / "busybox").string() + "'" + script + where), native);
}

TEST_F(Rewritten, TheStubIsReallyUsed) {
  size_t sites;
  if (!Place("/bin/busybox", kDeadlyStub, &sites)) GTEST_SKIP() << "no busybox";
  EXPECT_NE(Execute("'" + (directory_ / "busybox").string() + "' true").status, 0);
}

// The C library and the dynamic loader, under a program with threads, children, signals, pipes and sockets.
TEST_F(Rewritten, PythonRunsAsBeforeOnAPatchedLibrary) {
  size_t sites;
  if (!fs::exists("/usr/bin/python3")) GTEST_SKIP() << "no python3";
  if (!Place("/lib64/ld-linux-x86-64.so.2", kStub, &sites)) GTEST_SKIP() << "no dynamic loader";
  EXPECT_GT(sites, 40u);
  ASSERT_TRUE(Place("/lib/x86_64-linux-gnu/libc.so.6", kStub, &sites));
  EXPECT_GT(sites, 450u);
  std::ofstream(directory_ / "program.py") << R"(
import os, signal, socket, subprocess, sys, tempfile, threading, time, queue
def work(n, q):
    for i in range(200): q.put(n * 1000 + i)
q = queue.Queue()
threads = [threading.Thread(target=work, args=(n, q)) for n in range(8)]
for t in threads: t.start()
for t in threads: t.join()
print(sum(q.get() for _ in range(1600)))
lock = threading.Condition(); turns = []
def turn(n):
    for i in range(100):
        with lock:
            lock.wait_for(lambda: len(turns) % 2 == n, 10); turns.append(n); lock.notify_all()
pair = [threading.Thread(target=turn, args=(n,)) for n in range(2)]
for t in pair: t.start()
for t in pair: t.join()
print(len(turns), turns[:6])
got = []
signal.signal(signal.SIGUSR1, lambda s, f: got.append(s))
for _ in range(20): os.kill(os.getpid(), signal.SIGUSR1)
print(len(got))
signal.signal(signal.SIGALRM, lambda s, f: got.append(s))
signal.setitimer(signal.ITIMER_REAL, 0.02); time.sleep(0.1); print(got[-1])
r, w = os.pipe()
pid = os.fork()
if pid == 0:
    os.write(w, b'from the child'); os._exit(7)
print(os.read(r, 100), os.waitpid(pid, 0)[1])
print(subprocess.run(['/bin/echo', 'hello'], capture_output=True).stdout)
a, b = socket.socketpair(); a.sendall(b'x' * 1000); print(len(b.recv(2000)))
s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); c = socket.create_connection(s.getsockname())
d, _ = s.accept(); c.sendall(b'tcp'); print(d.recv(10))
with tempfile.TemporaryDirectory() as t:
    p = os.path.join(t, 'f')
    with open(p, 'wb') as f: f.write(bytes(range(256)) * 100)
    print(os.stat(p).st_size, os.listdir(t))
    f = os.open(p, os.O_RDONLY); print(os.pread(f, 4, 10), os.lseek(f, 0, os.SEEK_END)); os.close(f)
try: os.open('/nowhere', os.O_RDONLY)
except OSError as e: print(e.errno)
)";
  const std::string program = " /usr/bin/python3 '" + (directory_ / "program.py").string() + "'";
  const Output native = Execute("env" + program);
  EXPECT_NE(native.text.find("5759200\n"), std::string::npos) << native.text;
  EXPECT_EQ(Execute("'" + (directory_ / "ld-linux-x86-64.so.2").string() + "' --library-path '" + directory_.string() +
                    "'" + program),
            native);
}

}  // namespace
}  // namespace platform::patch

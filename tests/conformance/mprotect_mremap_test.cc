// mprotect, mremap, and what they do to faults, forks and files.
#include <setjmp.h>

#include "support/support.h"

namespace conformance {
namespace {

sigjmp_buf g_jump;
int g_signal;
void Jump(int signo) {
  g_signal = signo;
  siglongjmp(g_jump, 1);
}

int Touch(volatile char* p, bool write) {
  ScopedHandler segv(SIGSEGV, Jump), bus(SIGBUS, Jump);
  if (sigsetjmp(g_jump, 1) != 0) return g_signal;
  if (write) {
    *p = *p;
  } else {
    (void)*p;
  }
  return 0;
}

long Remap(void* old, size_t old_size, size_t new_size, int flags, void* where = nullptr) {
  return syscall(SYS_mremap, old, old_size, new_size, flags, where);
}

TEST(Mprotect, TakesAndGivesRights) {
  Mapping map(3 * kPage, PROT_READ | PROT_WRITE);
  memset(map.get(), 'm', 3 * kPage);
  ASSERT_OK(mprotect(map.get() + kPage, kPage, PROT_READ));
  EXPECT_EQ(Touch(map.get() + kPage, false), 0);
  EXPECT_EQ(Touch(map.get() + kPage, true), SIGSEGV);
  EXPECT_EQ(Touch(map.get(), true), 0);
  EXPECT_EQ(Touch(map.get() + 2 * kPage, true), 0);
  ASSERT_OK(mprotect(map.get(), 3 * kPage, PROT_NONE));
  EXPECT_EQ(Touch(map.get(), false), SIGSEGV);
  ASSERT_OK(mprotect(map.get(), 3 * kPage, PROT_READ | PROT_WRITE));
  EXPECT_EQ(Touch(map.get() + kPage, true), 0);
  EXPECT_EQ(map.get()[kPage], 'm');
}

TEST(Mprotect, FailsAsDocumented) {
  Mapping map(3 * kPage, PROT_READ | PROT_WRITE);
  EXPECT_ERRNO(mprotect(map.get() + 1, kPage, PROT_READ), EINVAL);
  EXPECT_ERRNO(mprotect(map.get(), kPage, 0x1000), EINVAL);
  EXPECT_OK(mprotect(map.get(), 0, PROT_READ));
  ASSERT_OK(munmap(map.get() + kPage, kPage));
  EXPECT_ERRNO(mprotect(map.get(), 3 * kPage, PROT_READ), ENOMEM);
  EXPECT_EQ(Touch(map.get(), true), SIGSEGV) << "what came before the hole was changed";
  EXPECT_EQ(Touch(map.get() + 2 * kPage, true), 0);
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", "x"));
  Fd fd(open((dir / "f").c_str(), O_RDONLY));
  Mapping file(kPage, PROT_READ, MAP_SHARED, fd.get());
  EXPECT_ERRNO(mprotect(file.get(), kPage, PROT_READ | PROT_WRITE), EACCES);
  Mapping copied(kPage, PROT_READ, MAP_PRIVATE, fd.get());
  EXPECT_OK(mprotect(copied.get(), kPage, PROT_READ | PROT_WRITE));
}

TEST(Mprotect, SystemCallsRespectIt) {
  Mapping map(2 * kPage, PROT_READ | PROT_WRITE);
  ASSERT_OK(mprotect(map.get(), kPage, PROT_READ));
  ASSERT_OK(mprotect(map.get() + kPage, kPage, PROT_NONE));
  Pipe p = MakePipe();
  EXPECT_EQ(write(p.write_end.get(), map.get(), 10), 10);
  EXPECT_ERRNO(read(p.read_end.get(), map.get(), 10), EFAULT);
  EXPECT_ERRNO(write(p.write_end.get(), map.get() + kPage, 10), EFAULT);
  EXPECT_ERRNO(write(p.write_end.get(), map.get() + kPage - 3, 10), EFAULT) << "a pipe takes a page whole";
}

TEST(Mprotect, ExecCanBeTakenAndGiven) {
  Mapping code(kPage, PROT_READ | PROT_WRITE);
  memcpy(code.get(), "\xb8\x2a\0\0\0\xc3", 6);
  auto function = reinterpret_cast<int (*)()>(code.get());
  ASSERT_OK(mprotect(code.get(), kPage, PROT_READ | PROT_EXEC));
  EXPECT_EQ(function(), 42);
  ASSERT_OK(mprotect(code.get(), kPage, PROT_READ));
  int status = RunInChild([&] {
    signal(SIGSEGV, [](int) { _exit(3); });
    function();
  });
  EXPECT_EXITED(status, 3);
}

TEST(Mprotect, OfAForkedCopyConcernsOneSide) {
  Mapping map(4 * kPage, PROT_READ | PROT_WRITE);
  memset(map.get(), 1, 4 * kPage);
  int status = RunInChild([&] {
    CHILD_CHECK(mprotect(map.get(), 4 * kPage, PROT_READ) == 0);
    CHILD_CHECK(Touch(map.get(), true) == SIGSEGV);
    CHILD_CHECK(mprotect(map.get(), 4 * kPage, PROT_READ | PROT_WRITE) == 0);
    map.get()[0] = 2;
  });
  EXPECT_EXITED(status, 0);
  EXPECT_EQ(Touch(map.get(), true), 0);
  EXPECT_EQ(map.get()[0], 1);
}

TEST(Mremap, GrowsInPlaceWhenThereIsRoom) {
  Mapping arena(8 * kPage, PROT_READ | PROT_WRITE);
  memset(arena.get(), 'a', 2 * kPage);
  ASSERT_OK(munmap(arena.get() + 2 * kPage, 6 * kPage));
  EXPECT_EQ(Remap(arena.get(), 2 * kPage, 4 * kPage, 0), reinterpret_cast<long>(arena.get()));
  EXPECT_EQ(arena.get()[0], 'a');
  EXPECT_EQ(arena.get()[3 * kPage], 0);
  EXPECT_EQ(Remap(arena.get(), 4 * kPage, kPage, 0), reinterpret_cast<long>(arena.get()));
  EXPECT_EQ(Touch(arena.get() + kPage, false), SIGSEGV);
}

TEST(Mremap, MovesWhenItMayAndFailsWhenItMayNot) {
  Mapping arena(4 * kPage, PROT_READ | PROT_WRITE);
  memset(arena.get(), 'b', kPage);
  EXPECT_ERRNO(Remap(arena.get(), kPage, 2 * kPage, 0), ENOMEM);
  long moved = Remap(arena.get(), kPage, 16 * kPage, MREMAP_MAYMOVE);
  ASSERT_NE(moved, -1);
  EXPECT_NE(moved, reinterpret_cast<long>(arena.get()));
  char* p = reinterpret_cast<char*>(moved);
  EXPECT_EQ(p[kPage - 1], 'b');
  EXPECT_EQ(p[15 * kPage], 0);
  EXPECT_EQ(Touch(arena.get(), false), SIGSEGV);
  munmap(p, 16 * kPage);
}

TEST(Mremap, FixedMovesOverWhatIsThere) {
  Mapping a(2 * kPage, PROT_READ | PROT_WRITE), b(4 * kPage, PROT_READ | PROT_WRITE);
  memset(a.get(), 'a', 2 * kPage);
  memset(b.get(), 'b', 4 * kPage);
  EXPECT_EQ(Remap(a.get(), 2 * kPage, 2 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, b.get() + kPage),
            reinterpret_cast<long>(b.get() + kPage));
  EXPECT_EQ(b.get()[0], 'b');
  EXPECT_EQ(b.get()[kPage], 'a');
  EXPECT_EQ(b.get()[3 * kPage], 'b');
  EXPECT_EQ(Touch(a.get(), false), SIGSEGV);
}

TEST(Mremap, FileMappingsKeepTheirPlaceInTheFile) {
  TempDir dir;
  std::string content;
  for (char c = 'a'; c < 'i'; ++c) content += std::string(kPage, c);
  ASSERT_TRUE(WriteFile(dir / "f", content));
  Fd fd(open((dir / "f").c_str(), O_RDWR));
  Mapping map(2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 2 * kPage);
  long moved = Remap(map.Release(), 2 * kPage, 4 * kPage, MREMAP_MAYMOVE);
  ASSERT_NE(moved, -1);
  char* p = reinterpret_cast<char*>(moved);
  EXPECT_EQ(p[0], 'c');
  EXPECT_EQ(p[3 * kPage], 'f');
  p[3 * kPage] = 'F';
  char c;
  ASSERT_EQ(pread(fd.get(), &c, 1, 5 * kPage), 1);
  EXPECT_EQ(c, 'F');
  munmap(p, 4 * kPage);
}

TEST(Mremap, OldSizeZeroCopiesASharedMapping) {
  Mapping map(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  map.get()[0] = 's';
  long other = Remap(map.get(), 0, kPage, MREMAP_MAYMOVE);
  ASSERT_NE(other, -1);
  char* p = reinterpret_cast<char*>(other);
  EXPECT_EQ(p[0], 's');
  p[0] = 't';
  EXPECT_EQ(map.get()[0], 't');
  munmap(p, kPage);
}

TEST(Mremap, DontunmapLeavesAnEmptyMapping) {
  Mapping map(2 * kPage, PROT_READ | PROT_WRITE);
  memset(map.get(), 'd', 2 * kPage);
  long moved = Remap(map.get(), 2 * kPage, 2 * kPage, MREMAP_MAYMOVE | 4 /* MREMAP_DONTUNMAP */);
  ASSERT_NE(moved, -1);
  EXPECT_EQ(*reinterpret_cast<char*>(moved), 'd');
  EXPECT_EQ(map.get()[0], 0);
  munmap(reinterpret_cast<void*>(moved), 2 * kPage);
}

TEST(Mremap, FailsAsDocumented) {
  Mapping map(4 * kPage, PROT_READ | PROT_WRITE);
  EXPECT_ERRNO(Remap(map.get() + 1, kPage, kPage, 0), EINVAL);
  EXPECT_ERRNO(Remap(map.get(), kPage, 0, 0), EINVAL);
  EXPECT_ERRNO(Remap(map.get(), kPage, kPage, 0x100), EINVAL);
  EXPECT_ERRNO(Remap(map.get(), kPage, kPage, MREMAP_FIXED, map.get()), EINVAL) << "FIXED needs MAYMOVE";
  EXPECT_ERRNO(Remap(map.get(), 2 * kPage, 2 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, map.get() + kPage), EINVAL);
  ASSERT_OK(munmap(map.get() + kPage, kPage));
  EXPECT_ERRNO(Remap(map.get(), 3 * kPage, 5 * kPage, MREMAP_MAYMOVE), EFAULT);
  EXPECT_ERRNO(Remap(map.get() + kPage, kPage, 2 * kPage, MREMAP_MAYMOVE), EFAULT);
}

TEST(Mremap, ChildrenHaveTheirOwnMoves) {
  Mapping map(2 * kPage, PROT_READ | PROT_WRITE);
  memset(map.get(), 'x', 2 * kPage);
  int status = RunInChild([&] {
    long moved = Remap(map.get(), 2 * kPage, 64 * kPage, MREMAP_MAYMOVE);
    CHILD_CHECK(moved != -1);
    CHILD_CHECK(*reinterpret_cast<char*>(moved + kPage) == 'x');
    *reinterpret_cast<char*>(moved) = 'y';
  });
  EXPECT_EXITED(status, 0);
  EXPECT_EQ(map.get()[0], 'x');
}

}  // namespace
}  // namespace conformance

// mmap, munmap, brk, msync, mincore, madvise, shared and private file mappings, large and many mappings.
#include <setjmp.h>
#include <sys/resource.h>

#include <vector>

#include "support/support.h"

namespace conformance {
namespace {

sigjmp_buf g_jump;
siginfo_t g_info;
void Jump(int, siginfo_t* info, void*) {
  g_info = *info;
  siglongjmp(g_jump, 1);
}

// 0, or the signal that the access raised.
int Touch(volatile char* p, bool write) {
  ScopedHandler segv(SIGSEGV, Jump), bus(SIGBUS, Jump);
  if (sigsetjmp(g_jump, 1) != 0) return g_info.si_signo;
  if (write) {
    *p = 1;
  } else {
    (void)*p;
  }
  return 0;
}

void* const kFailed = MAP_FAILED;

TEST(Mmap, AnonymousMemoryIsZero) {
  Mapping map(64 * kPage, PROT_READ | PROT_WRITE);
  ASSERT_TRUE(map.ok());
  for (size_t i = 0; i < map.size(); i += 512) ASSERT_EQ(map.get()[i], 0);
  memset(map.get(), 0xab, map.size());
  char* where = map.get();
  ASSERT_OK(munmap(where, map.size()));
  void* again = mmap(where, map.size(), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  ASSERT_EQ(again, where);
  for (size_t i = 0; i < map.size(); i += 512) ASSERT_EQ(where[i], 0) << "fresh memory shows nothing old";
}

TEST(Mmap, FailsAsDocumented) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", "x"));
  Fd rd(open((dir / "f").c_str(), O_RDONLY)), wr(open((dir / "f").c_str(), O_WRONLY)),
      path(open((dir / "f").c_str(), O_PATH)), d(open(dir.path().c_str(), O_RDONLY));
  const int kAnonymous = MAP_PRIVATE | MAP_ANONYMOUS;
  EXPECT_ERRNO((long)mmap(nullptr, 0, PROT_READ, kAnonymous, -1, 0), EINVAL);
  EXPECT_ERRNO((long)mmap(nullptr, kPage, PROT_READ, MAP_ANONYMOUS, -1, 0), EINVAL) << "neither shared nor private";
  EXPECT_ERRNO((long)mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, rd.get(), 1), EINVAL);
  EXPECT_ERRNO((long)mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, -1, 0), EBADF);
  EXPECT_ERRNO((long)mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, path.get(), 0), EBADF);
  EXPECT_ERRNO((long)mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, wr.get(), 0), EACCES);
  EXPECT_ERRNO((long)mmap(nullptr, kPage, PROT_WRITE, MAP_SHARED, rd.get(), 0), EACCES);
  EXPECT_ERRNO((long)mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, d.get(), 0), ENODEV);
  EXPECT_ERRNO((long)mmap((void*)(kPage + 1), kPage, PROT_READ, kAnonymous | MAP_FIXED, -1, 0), EINVAL);
  EXPECT_ERRNO((long)mmap((void*)((1ull << 56) - kPage), 2 * kPage, PROT_READ, kAnonymous | MAP_FIXED, -1, 0), ENOMEM);
  EXPECT_ERRNO((long)mmap(KernelPointer(), kPage, PROT_READ, kAnonymous | MAP_FIXED, -1, 0), ENOMEM);
  EXPECT_ERRNO((long)mmap(nullptr, 1ull << 60, PROT_READ, kAnonymous, -1, 0), ENOMEM);
  Pipe p = MakePipe();
  EXPECT_ERRNO((long)mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, p.read_end.get(), 0), ENODEV);
}

TEST(Mmap, HintsAreTakenWhenFreeAndIgnoredOtherwise) {
  Mapping probe(16 * kPage, PROT_NONE);
  char* base = probe.get();
  ASSERT_OK(munmap(probe.Release(), 16 * kPage));
  void* p = mmap(base, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT_EQ(p, base);
  void* q = mmap(base, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT_NE(q, kFailed);
  EXPECT_NE(q, base);
  EXPECT_ERRNO((long)mmap(base, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
  munmap(p, kPage);
  munmap(q, kPage);
}

TEST(Mmap, FixedReplacesWhatWasThere) {
  Mapping map(4 * kPage, PROT_READ | PROT_WRITE);
  memset(map.get(), 7, 4 * kPage);
  void* p = mmap(map.get() + kPage, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  ASSERT_EQ(p, map.get() + kPage);
  EXPECT_EQ(map.get()[0], 7);
  EXPECT_EQ(map.get()[kPage], 0);
  EXPECT_EQ(map.get()[2 * kPage], 7);
}

TEST(Mmap, SharedFileMappingsAndReadWriteAgree) {
  TempDir dir;
  Fd fd(open((dir / "f").c_str(), O_RDWR | O_CREAT, 0644));
  ASSERT_OK(ftruncate(fd.get(), 3 * kPage));
  Mapping a(3 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get());
  Mapping b(kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), kPage);
  ASSERT_TRUE(a.ok() && b.ok());
  strcpy(a.get() + kPage, "through memory");
  EXPECT_STREQ(b.get(), "through memory");
  char buffer[32] = {};
  ASSERT_EQ(pread(fd.get(), buffer, 14, kPage), 14);
  EXPECT_STREQ(buffer, "through memory");
  ASSERT_EQ(pwrite(fd.get(), "through write", 14, kPage), 14);
  EXPECT_STREQ(b.get(), "through write");
  EXPECT_OK(msync(a.get(), 3 * kPage, MS_SYNC));
}

TEST(Mmap, PrivateFileMappingsKeepTheirWrites) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", std::string(2 * kPage, 'f')));
  Fd fd(open((dir / "f").c_str(), O_RDWR));
  Mapping map(2 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd.get());
  map.get()[0] = 'p';
  char c;
  ASSERT_EQ(pread(fd.get(), &c, 1, 0), 1);
  EXPECT_EQ(c, 'f');
  ASSERT_EQ(pwrite(fd.get(), "w", 1, 0), 1);
  EXPECT_EQ(map.get()[0], 'p');
  int status = RunInChild([&] {
    CHILD_CHECK(map.get()[0] == 'p');
    map.get()[0] = 'c';
    map.get()[kPage] = 'c';
  });
  EXPECT_EXITED(status, 0);
  EXPECT_EQ(map.get()[0], 'p');
  EXPECT_EQ(map.get()[kPage], 'f');
}

TEST(Mmap, MappingOutlivesItsDescriptorAndItsName) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", "alive"));
  Fd fd(open((dir / "f").c_str(), O_RDWR));
  Mapping map(kPage, PROT_READ, MAP_SHARED, fd.get());
  fd.Close();
  ASSERT_OK(unlink((dir / "f").c_str()));
  EXPECT_STREQ(map.get(), "alive");
}

TEST(Mmap, TheRestOfTheLastPageIsZeroAndIsNotWritten) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", "abc"));
  Fd fd(open((dir / "f").c_str(), O_RDWR));
  Mapping map(kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get());
  EXPECT_EQ(map.get()[3], 0);
  map.get()[3] = 'd';
  struct stat st;
  ASSERT_OK(fstat(fd.get(), &st));
  EXPECT_EQ(st.st_size, 3);
  EXPECT_EQ(ReadFile(dir / "f"), "abc");
}

TEST(Mmap, TruncationTakesPagesAway) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", std::string(4 * kPage, 'x')));
  Fd fd(open((dir / "f").c_str(), O_RDWR));
  Mapping shared(4 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get());
  Mapping copied(4 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd.get());
  shared.get()[3 * kPage] = 'y';
  copied.get()[3 * kPage] = 'z';
  ASSERT_OK(ftruncate(fd.get(), kPage + 10));
  EXPECT_EQ(Touch(shared.get() + kPage, false), 0);
  EXPECT_EQ(Touch(shared.get() + 2 * kPage, false), SIGBUS);
  EXPECT_EQ(Touch(shared.get() + 3 * kPage, true), SIGBUS);
  EXPECT_EQ(Touch(copied.get() + 3 * kPage, false), SIGBUS) << "private copies go as well (man 2 mmap, truncate)";
  EXPECT_EQ(shared.get()[kPage + 10], 0);
  ASSERT_OK(ftruncate(fd.get(), 4 * kPage));
  EXPECT_EQ(Touch(shared.get() + 3 * kPage, false), 0);
  EXPECT_EQ(shared.get()[3 * kPage], 0);
}

TEST(Mmap, SystemCallsOnVanishedPagesGiveEFAULT) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", std::string(2 * kPage, 'x')));
  Fd fd(open((dir / "f").c_str(), O_RDWR));
  Mapping map(2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get());
  ASSERT_OK(ftruncate(fd.get(), kPage));
  Pipe p = MakePipe();
  EXPECT_ERRNO(write(p.write_end.get(), map.get() + kPage, 10), EFAULT);
  Fd out(open((dir / "out").c_str(), O_RDWR | O_CREAT, 0644));
  EXPECT_EQ(write(out.get(), map.get() + kPage - 5, 10), 5);
  EXPECT_EQ(pread(out.get(), map.get() + kPage - 2, 5, 0), 2);
}

TEST(Munmap, CutsHolesAndChecksItsArguments) {
  Mapping map(5 * kPage, PROT_READ | PROT_WRITE);
  ASSERT_OK(munmap(map.get() + 2 * kPage, kPage));
  EXPECT_EQ(Touch(map.get() + kPage, true), 0);
  EXPECT_EQ(Touch(map.get() + 2 * kPage, false), SIGSEGV);
  EXPECT_EQ(Touch(map.get() + 3 * kPage, true), 0);
  EXPECT_OK(munmap(map.get() + 2 * kPage, kPage)) << "nothing there is no error";
  EXPECT_ERRNO(munmap(map.get() + 1, kPage), EINVAL);
  EXPECT_ERRNO(munmap(map.get(), 0), EINVAL);
  EXPECT_ERRNO(munmap(map.get(), ~0ull), EINVAL);
}

TEST(Mmap, NoreserveSpaceIsNearlyFree) {
  // 16 TB, as allocators and sanitizers ask for.
  const size_t kHuge = 16ull << 40;
  void* p = mmap(nullptr, kHuge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(p, kFailed);
  char* base = static_cast<char*>(p);
  for (size_t at = 0; at < kHuge; at += kHuge / 16) base[at] = static_cast<char>(at >> 36);
  for (size_t at = 0; at < kHuge; at += kHuge / 16) ASSERT_EQ(base[at], static_cast<char>(at >> 36));
  EXPECT_OK(munmap(p, kHuge));
}

TEST(Mmap, ManyMappingsCanExist) {
  // Alternating protections keep neighbours from merging.
  const int kCount = 20000;
  Mapping arena(2ull * kCount * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
  for (int i = 0; i < kCount; ++i) {
    ASSERT_OK(mprotect(arena.get() + 2ull * i * kPage, kPage, PROT_READ | PROT_WRITE)) << i;
    if (i % 16 == 0) arena.get()[2ull * i * kPage] = static_cast<char>(i);
  }
  for (int i = 0; i < kCount; i += 16) ASSERT_EQ(arena.get()[2ull * i * kPage], static_cast<char>(i));
}

TEST(Mmap, TheAddressSpaceLimitHolds) {
  int status = RunInChild([] {
    rlimit limit = {1ull << 30, 1ull << 30};
    CHILD_CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    CHILD_CHECK(mmap(nullptr, 2ull << 30, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    CHILD_CHECK(errno == ENOMEM);
    CHILD_CHECK(mmap(nullptr, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
  });
  EXPECT_EXITED(status, 0);
}

TEST(Mmap, GrowsdownMappingsGrow) {
  Mapping arena(64 * kPage, PROT_NONE);
  char* base = arena.get();
  ASSERT_OK(munmap(arena.Release(), 64 * kPage));
  void* p = mmap(base + 60 * kPage, kPage, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0);
  ASSERT_EQ(p, base + 60 * kPage);
  EXPECT_EQ(Touch(base + 59 * kPage, true), 0);
  munmap(base + 50 * kPage, 11 * kPage);
}

TEST(Brk, MovesTheHeapsEnd) {
  int status = RunInChild([] {
    char* start = static_cast<char*>(sbrk(0));
    CHILD_CHECK(sbrk(3 * kPage) == start);
    start[0] = start[3 * kPage - 1] = 1;
    CHILD_CHECK(brk(start) == 0);
    CHILD_CHECK(sbrk(0) == start);
    CHILD_CHECK(sbrk(kPage * 3) == start);
    // The kernel answers a bad request with the present end, never with an error.
    CHILD_CHECK(syscall(SYS_brk, 0) == syscall(SYS_brk, 1));
    rlimit limit = {kPage, kPage};
    CHILD_CHECK(setrlimit(RLIMIT_DATA, &limit) == 0);
    CHILD_CHECK(sbrk(1 << 30) == reinterpret_cast<void*>(-1) && errno == ENOMEM);
  });
  EXPECT_EXITED(status, 0);
}

TEST(Msync, ChecksItsArguments) {
  Mapping map(2 * kPage, PROT_READ | PROT_WRITE);
  EXPECT_OK(msync(map.get(), kPage, MS_ASYNC));
  EXPECT_ERRNO(msync(map.get() + 1, kPage, MS_SYNC), EINVAL);
  EXPECT_ERRNO(msync(map.get(), kPage, MS_SYNC | MS_ASYNC), EINVAL);
  EXPECT_ERRNO(msync(map.get(), kPage, 1 << 10), EINVAL);
  ASSERT_OK(munmap(map.get() + kPage, kPage));
  EXPECT_ERRNO(msync(map.get(), 2 * kPage, MS_SYNC), ENOMEM);
}

TEST(Mincore, TellsMappedFromUnmapped) {
  Mapping map(4 * kPage, PROT_READ | PROT_WRITE);
  unsigned char vec[4];
  map.get()[0] = 1;
  EXPECT_OK(mincore(map.get(), 4 * kPage, vec));
  EXPECT_TRUE(vec[0] & 1);
  EXPECT_ERRNO(mincore(map.get() + 1, kPage, vec), EINVAL);
  EXPECT_ERRNO(syscall(SYS_mincore, map.get(), 4 * kPage, BadPointer()), EFAULT);
  ASSERT_OK(munmap(map.get() + kPage, kPage));
  EXPECT_ERRNO(mincore(map.get(), 4 * kPage, vec), ENOMEM);
}

TEST(Madvise, DontneedGivesZerosOrTheFileBack) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", std::string(kPage, 'f')));
  Fd fd(open((dir / "f").c_str(), O_RDWR));
  Mapping anonymous(2 * kPage, PROT_READ | PROT_WRITE), file(kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd.get());
  memset(anonymous.get(), 5, 2 * kPage);
  file.get()[0] = 'p';
  EXPECT_OK(madvise(anonymous.get(), kPage, MADV_DONTNEED));
  EXPECT_EQ(anonymous.get()[0], 0);
  EXPECT_EQ(anonymous.get()[kPage], 5);
  EXPECT_OK(madvise(file.get(), kPage, MADV_DONTNEED));
  EXPECT_EQ(file.get()[0], 'f');
  for (int advice : {MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_FREE, MADV_NOHUGEPAGE, MADV_DODUMP,
                     MADV_DONTDUMP}) {
    EXPECT_OK(madvise(anonymous.get(), kPage, advice)) << advice;
  }
  EXPECT_ERRNO(madvise(anonymous.get() + 1, kPage, MADV_NORMAL), EINVAL);
  EXPECT_ERRNO(madvise(anonymous.get(), kPage, 9999), EINVAL);
  EXPECT_OK(madvise(anonymous.get(), 0, MADV_DONTNEED));
  ASSERT_OK(munmap(anonymous.get() + kPage, kPage));
  EXPECT_ERRNO(madvise(anonymous.get(), 2 * kPage, MADV_DONTNEED), ENOMEM);
}

TEST(Madvise, DontforkAndWipeonforkConcernTheChild) {
  Mapping dontfork(kPage, PROT_READ | PROT_WRITE), wipe(kPage, PROT_READ | PROT_WRITE);
  dontfork.get()[0] = wipe.get()[0] = 9;
  ASSERT_OK(madvise(dontfork.get(), kPage, MADV_DONTFORK));
  ASSERT_OK(madvise(wipe.get(), kPage, MADV_WIPEONFORK));
  int status = RunInChild([&] {
    CHILD_CHECK(wipe.get()[0] == 0);
    CHILD_CHECK(Touch(dontfork.get(), false) == SIGSEGV);
  });
  EXPECT_EXITED(status, 0);
  EXPECT_EQ(dontfork.get()[0], 9);
  EXPECT_EQ(wipe.get()[0], 9);
}

TEST(Mlock, IsAcceptedWithinTheLimit) {
  Mapping map(4 * kPage, PROT_READ | PROT_WRITE);
  EXPECT_OK(mlock(map.get(), 4 * kPage));
  unsigned char resident[4] = {};
  ASSERT_OK(mincore(map.get(), 4 * kPage, resident));
  for (unsigned char page : resident) EXPECT_EQ(page & 1, 1);
  EXPECT_OK(munlock(map.get(), 4 * kPage));
  ASSERT_OK(munmap(map.get() + kPage, kPage));
  EXPECT_ERRNO(mlock(map.get(), 4 * kPage), ENOMEM);
  EXPECT_OK(munlockall());
}

TEST(Mlock, WhatIsMappedInFutureCountsUnlessCapable) {
  const std::string status = ReadFile("/proc/self/status");
  const size_t at = status.find("CapEff:\t");
  ASSERT_NE(at, std::string::npos);
  const bool capable = (strtoull(status.c_str() + at + 8, nullptr, 16) >> 14 & 1) != 0;  // CAP_IPC_LOCK
  EXPECT_EXITED(RunInChild([&] {
                  const rlimit limit = {1 << 20, 1 << 20};
                  CHILD_CHECK(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
                  CHILD_CHECK(mlockall(MCL_FUTURE) == 0);
                  void* map = mmap(nullptr, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                  CHILD_CHECK(capable ? map != MAP_FAILED : map == MAP_FAILED && errno == EAGAIN);
                }),
                0);
}

TEST(Mmap, ExecutableMemoryRunsWhatWasJustWritten) {
  Mapping code(kPage, PROT_READ | PROT_WRITE | PROT_EXEC);
  ASSERT_TRUE(code.ok());
  auto function = reinterpret_cast<int (*)()>(code.get());
  for (int value = 1; value < 100; ++value) {
    // mov $value, %eax; ret
    unsigned char text[] = {0xb8, static_cast<unsigned char>(value), 0, 0, 0, 0xc3};
    memcpy(code.get(), text, sizeof(text));
    ASSERT_EQ(function(), value);
  }
}

TEST(Mmap, SharedAnonymousMemoryIsSharedWithChildrenOnly) {
  Mapping map(8 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  int status = RunInChild([&] {
    map.get()[0] = 1;
    CHILD_CHECK(RunInChild([&] { map.get()[kPage] = 2; }) == 0);
  });
  EXPECT_EXITED(status, 0);
  EXPECT_EQ(map.get()[0], 1);
  EXPECT_EQ(map.get()[kPage], 2);
}

TEST(Mmap, TheZeroDeviceIsAnonymousMemory) {
  Fd zero(open("/dev/zero", O_RDWR));
  Mapping a(kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero.get());
  Mapping b(kPage, PROT_READ | PROT_WRITE, MAP_SHARED, zero.get());
  ASSERT_TRUE(a.ok() && b.ok());
  a.get()[0] = b.get()[0] = 3;
  int status = RunInChild([&] { a.get()[0] = b.get()[0] = 4; });
  EXPECT_EXITED(status, 0);
  EXPECT_EQ(a.get()[0], 3);
  EXPECT_EQ(b.get()[0], 4);
}

}  // namespace
}  // namespace conformance

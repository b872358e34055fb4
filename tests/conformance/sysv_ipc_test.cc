// System V IPC: shared memory, semaphores, message queues. (man 7 sysvipc)
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

#include <fstream>
#include <sstream>
#include <thread>
#include <vector>

#include "support/support.h"

namespace conformance {
namespace {

union Semun {
  int val;
  semid_ds* buf;
  unsigned short* array;
  seminfo* info;
};

// Objects that are removed at the end of a scope.
struct Shm {
  int id;
  explicit Shm(size_t size, int mode = 0600, key_t key = IPC_PRIVATE) : id(shmget(key, size, IPC_CREAT | mode)) {}
  ~Shm() { shmctl(id, IPC_RMID, nullptr); }
};
struct Sem {
  int id;
  explicit Sem(int count, int mode = 0600) : id(semget(IPC_PRIVATE, count, IPC_CREAT | mode)) {}
  ~Sem() { semctl(id, 0, IPC_RMID); }
  int Value(int n = 0) const { return semctl(id, n, GETVAL); }
};
struct Queue {
  int id;
  explicit Queue(int mode = 0600) : id(msgget(IPC_PRIVATE, IPC_CREAT | mode)) {}
  ~Queue() { msgctl(id, IPC_RMID, nullptr); }
};

key_t FreshKey() { return static_cast<key_t>(0x5e000000 | (getpid() & 0xffff) << 8 | (rand() & 0xff)); }

int Op(int id, short number, short op, short flags = 0) {
  sembuf buffer = {static_cast<unsigned short>(number), op, flags};
  return semop(id, &buffer, 1);
}

shmid_ds ShmStat(int id) {
  shmid_ds ds = {};
  EXPECT_OK(shmctl(id, IPC_STAT, &ds));
  return ds;
}

struct Text {
  long type;
  char text[64];
};

// --- Keys.

TEST(SysvKeys, GetFindsMakesAndRefuses) {
  const key_t key = FreshKey();
  EXPECT_ERRNO(shmget(key, 4096, 0600), ENOENT);
  Shm shm(4096, 0600, key);
  ASSERT_OK(shm.id);
  EXPECT_EQ(shmget(key, 4096, 0600), shm.id);
  EXPECT_EQ(shmget(key, 0, 0), shm.id);
  EXPECT_EQ(shmget(key, 100, IPC_CREAT | 0600), shm.id);
  EXPECT_ERRNO(shmget(key, 4096, IPC_CREAT | IPC_EXCL | 0600), EEXIST);
  EXPECT_ERRNO(shmget(key, 8192, 0600), EINVAL);
  EXPECT_ERRNO(shmget(IPC_PRIVATE, 0, IPC_CREAT | 0600), EINVAL);
  EXPECT_ERRNO(semget(key, 1, 0600), ENOENT);
  EXPECT_ERRNO(semget(IPC_PRIVATE, 0, IPC_CREAT | 0600), EINVAL);
  EXPECT_ERRNO(semget(IPC_PRIVATE, 1000000, IPC_CREAT | 0600), EINVAL);
  EXPECT_ERRNO(semget(IPC_PRIVATE, -1, IPC_CREAT | 0600), EINVAL);
  EXPECT_ERRNO(msgget(key, 0600), ENOENT);
}

TEST(SysvKeys, NumbersOfRemovedObjectsAreInvalid) {
  int id;
  {
    Shm shm(4096);
    id = shm.id;
  }
  shmid_ds ds;
  EXPECT_ERRNO(shmctl(id, IPC_STAT, &ds), EINVAL);
  Shm other(4096);
  EXPECT_NE(other.id, id);
  EXPECT_ERRNO(shmctl(-1, IPC_STAT, &ds), EINVAL);
  EXPECT_ERRNO(shmctl(other.id, 99, &ds), EINVAL);
  EXPECT_ERRNO(shmctl(other.id, IPC_STAT, reinterpret_cast<shmid_ds*>(BadPointer())), EFAULT);
  EXPECT_EQ(shmat(id, nullptr, 0), reinterpret_cast<void*>(-1));
  EXPECT_EQ(errno, EINVAL);
}

TEST(SysvKeys, PermissionsAreChecked) {
  Shm shm(4096, 0640);
  Sem sem(1, 0400);
  int status = RunInChild([&] {
    CHILD_CHECK(setresgid(0, 0, 0) == 0 && setresuid(1000, 1000, 1000) == 0);
    CHILD_CHECK(shmat(shm.id, nullptr, 0) == reinterpret_cast<void*>(-1) && errno == EACCES);
    CHILD_CHECK(shmat(shm.id, nullptr, SHM_RDONLY) != reinterpret_cast<void*>(-1));
    shmid_ds ds;
    CHILD_CHECK(shmctl(shm.id, IPC_STAT, &ds) == 0);
    CHILD_CHECK(shmctl(shm.id, IPC_RMID, nullptr) == -1 && errno == EPERM);
    CHILD_CHECK(shmctl(shm.id, IPC_SET, &ds) == -1 && errno == EPERM);
    CHILD_CHECK(semctl(sem.id, 0, GETVAL) == -1 && errno == EACCES);
    CHILD_CHECK(Op(sem.id, 0, 1) == -1 && errno == EACCES);
  });
  EXPECT_EXITED(status, 0);
}

TEST(SysvKeys, SetChangesOwnerAndMode) {
  Shm shm(4096, 0600);
  shmid_ds ds = ShmStat(shm.id);
  EXPECT_EQ(ds.shm_perm.mode, 0600);
  EXPECT_EQ(ds.shm_perm.uid, getuid());
  ds.shm_perm.mode = 0444;
  ds.shm_perm.uid = 1000;
  ds.shm_perm.gid = 1001;
  ASSERT_OK(shmctl(shm.id, IPC_SET, &ds));
  ds = ShmStat(shm.id);
  EXPECT_EQ(ds.shm_perm.mode, 0444);
  EXPECT_EQ(ds.shm_perm.uid, 1000u);
  EXPECT_EQ(ds.shm_perm.gid, 1001u);
  EXPECT_EQ(ds.shm_perm.cuid, getuid());
}

// --- Shared memory.

TEST(SysvShm, TwoAttachmentsAndAChildShareMemory) {
  Shm shm(10000);
  char* a = static_cast<char*>(shmat(shm.id, nullptr, 0));
  char* b = static_cast<char*>(shmat(shm.id, nullptr, SHM_RDONLY));
  ASSERT_NE(a, reinterpret_cast<char*>(-1));
  ASSERT_NE(b, reinterpret_cast<char*>(-1));
  EXPECT_NE(a, b);
  EXPECT_EQ(a[9999], 0);
  a[9999] = 'x';
  EXPECT_EQ(b[9999], 'x');
  EXPECT_EQ(ShmStat(shm.id).shm_nattch, 2u);
  EXPECT_EQ(ShmStat(shm.id).shm_segsz, 10000u);
  int status = RunInChild([&] {
    CHILD_CHECK(ShmStat(shm.id).shm_nattch == 4);
    a[0] = 'c';
    CHILD_CHECK(shmdt(b) == 0);
    CHILD_CHECK(ShmStat(shm.id).shm_nattch == 3);
  });
  EXPECT_EXITED(status, 0);
  EXPECT_EQ(b[0], 'c');
  EXPECT_EQ(ShmStat(shm.id).shm_nattch, 2u);
  EXPECT_ERRNO(mprotect(b, 4096, PROT_READ | PROT_WRITE), EACCES);
  EXPECT_OK(shmdt(a));
  EXPECT_ERRNO(shmdt(a), EINVAL);
  EXPECT_OK(shmdt(b));
  EXPECT_EQ(ShmStat(shm.id).shm_nattch, 0u);
  EXPECT_EQ(ShmStat(shm.id).shm_lpid, getpid());
  EXPECT_NE(ShmStat(shm.id).shm_dtime, 0);
  // It keeps what is in it.
  a = static_cast<char*>(shmat(shm.id, nullptr, 0));
  EXPECT_EQ(a[0], 'c');
  EXPECT_OK(shmdt(a));
}

TEST(SysvShm, AddressesAreFixedRoundedAndChecked) {
  Shm shm(2 * kPage);
  Mapping hole(8 * kPage, PROT_NONE);
  char* at = hole.get() + 2 * kPage;
  EXPECT_EQ(shmat(shm.id, at, 0), reinterpret_cast<void*>(-1));
  EXPECT_EQ(errno, EINVAL);
  ASSERT_OK(munmap(at, 2 * kPage));
  EXPECT_EQ(shmat(shm.id, at + 5, 0), reinterpret_cast<void*>(-1));
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(shmat(shm.id, at + 5, SHM_RND), at);
  at[0] = 'x';
  EXPECT_EQ(shmat(shm.id, at, SHM_REMAP), at);
  EXPECT_EQ(at[0], 'x');
  EXPECT_EQ(ShmStat(shm.id).shm_nattch, 1u);
  EXPECT_EQ(shmat(shm.id, nullptr, SHM_REMAP), reinterpret_cast<void*>(-1));
  EXPECT_EQ(errno, EINVAL);
  EXPECT_ERRNO(shmdt(at + kPage), EINVAL);
  EXPECT_ERRNO(shmdt(at + 1), EINVAL);
  EXPECT_ERRNO(shmdt(hole.get()), EINVAL);
  EXPECT_OK(shmdt(at));
}

TEST(SysvShm, DetachTakesWhatIsLeftOfIt) {
  Shm shm(4 * kPage);
  char* at = static_cast<char*>(shmat(shm.id, nullptr, 0));
  ASSERT_OK(munmap(at, kPage));
  ASSERT_OK(mprotect(at + 2 * kPage, kPage, PROT_READ));
  at[kPage] = 'x';
  EXPECT_OK(shmdt(at));
  EXPECT_ERRNO(msync(at + kPage, kPage, MS_SYNC), ENOMEM);
  EXPECT_ERRNO(msync(at + 3 * kPage, kPage, MS_SYNC), ENOMEM);
  EXPECT_EQ(ShmStat(shm.id).shm_nattch, 0u);
}

TEST(SysvShm, RemovalWaitsForTheLastDetach) {
  const key_t key = FreshKey();
  int id = shmget(key, 4096, IPC_CREAT | 0600);
  ASSERT_OK(id);
  char* at = static_cast<char*>(shmat(id, nullptr, 0));
  ASSERT_OK(shmctl(id, IPC_RMID, nullptr));
  EXPECT_ERRNO(shmget(key, 4096, 0600), ENOENT);
  shmid_ds ds = ShmStat(id);
  EXPECT_EQ(ds.shm_perm.mode & 01000, 01000);  // SHM_DEST
  EXPECT_EQ(ds.shm_perm.__key, IPC_PRIVATE);
  char* again = static_cast<char*>(shmat(id, nullptr, 0));
  ASSERT_NE(again, reinterpret_cast<char*>(-1));
  at[5] = 'x';
  EXPECT_EQ(again[5], 'x');
  EXPECT_OK(shmdt(at));
  EXPECT_OK(shmdt(again));
  EXPECT_ERRNO(shmctl(id, IPC_STAT, &ds), EINVAL);
}

TEST(SysvShm, EndsWithTheProcessAndTheProgram) {
  Shm shm(4096);
  int status = RunInChild([&] { CHILD_CHECK(shmat(shm.id, nullptr, 0) != reinterpret_cast<void*>(-1)); });
  EXPECT_EXITED(status, 0);
  EXPECT_EQ(ShmStat(shm.id).shm_nattch, 0u);
}

TEST(SysvShm, ProcessSharedMutexesWorkInIt) {
  Shm shm(4096);
  struct Shared {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    int stage;
  };
  Shared* shared = static_cast<Shared*>(shmat(shm.id, nullptr, 0));
  pthread_mutexattr_t ma;
  pthread_mutexattr_init(&ma);
  pthread_mutexattr_setpshared(&ma, PTHREAD_PROCESS_SHARED);
  pthread_mutex_init(&shared->mutex, &ma);
  pthread_condattr_t ca;
  pthread_condattr_init(&ca);
  pthread_condattr_setpshared(&ca, PTHREAD_PROCESS_SHARED);
  pthread_cond_init(&shared->cond, &ca);
  pid_t child = ForkChild([&] {
    // Through an attachment of its own.
    Shared* mine = static_cast<Shared*>(shmat(shm.id, nullptr, 0));
    for (int i = 0; i < 100; ++i) {
      pthread_mutex_lock(&mine->mutex);
      while (mine->stage != 2 * i + 1) pthread_cond_wait(&mine->cond, &mine->mutex);
      ++mine->stage;
      pthread_cond_signal(&mine->cond);
      pthread_mutex_unlock(&mine->mutex);
    }
  });
  ChildGuard guard(child);
  for (int i = 0; i < 100; ++i) {
    pthread_mutex_lock(&shared->mutex);
    while (shared->stage != 2 * i) pthread_cond_wait(&shared->cond, &shared->mutex);
    ++shared->stage;
    pthread_cond_signal(&shared->cond);
    pthread_mutex_unlock(&shared->mutex);
  }
  EXPECT_EXITED(guard.Wait(), 0);
  EXPECT_EQ(shared->stage, 200);
  EXPECT_OK(shmdt(shared));
}

TEST(SysvShm, IsShownInMapsAndInSysvipc) {
  Shm shm(12345);
  char* at = static_cast<char*>(shmat(shm.id, nullptr, 0));
  std::ostringstream start;
  start << std::hex << reinterpret_cast<uintptr_t>(at) << "-";
  std::ifstream maps("/proc/self/maps");
  std::string found;
  for (std::string line; std::getline(maps, line);) {
    if (line.rfind(start.str(), 0) == 0) found = line;
  }
  EXPECT_NE(found.find("rw-s"), std::string::npos) << found;
  EXPECT_NE(found.find("/SYSV00000000 (deleted)"), std::string::npos) << found;
  std::istringstream in(ReadFile("/proc/sysvipc/shm"));
  bool listed = false;
  for (std::string line; std::getline(in, line);) {
    std::istringstream fields(line);
    std::string key, id, mode, size, cpid, lpid, nattch;
    fields >> key >> id >> mode >> size >> cpid >> lpid >> nattch;
    if (id != std::to_string(shm.id)) continue;
    listed = true;
    EXPECT_EQ(mode, "600");
    EXPECT_EQ(size, "12345");
    EXPECT_EQ(cpid, std::to_string(getpid()));
    EXPECT_EQ(nattch, "1");
  }
  EXPECT_TRUE(listed);
  EXPECT_OK(shmdt(at));
}

TEST(SysvShm, IndexCommandsListObjects) {
  Shm shm(4096);
  shm_info info;
  int top = shmctl(0, SHM_INFO, reinterpret_cast<shmid_ds*>(&info));
  ASSERT_GE(top, 0);
  EXPECT_GE(info.used_ids, 1);
  bool found = false;
  for (int i = 0; i <= top; ++i) {
    shmid_ds ds;
    if (shmctl(i, SHM_STAT, &ds) == shm.id) found = true;
  }
  EXPECT_TRUE(found);
  shminfo limits;
  EXPECT_OK(shmctl(0, IPC_INFO, reinterpret_cast<shmid_ds*>(&limits)));
  EXPECT_EQ(limits.shmmin, 1u);
  EXPECT_EQ(limits.shmmni, 4096u);
}

// --- Semaphores.

TEST(SysvSem, ValuesAreSetAndRead) {
  Sem sem(3);
  ASSERT_OK(sem.id);
  EXPECT_EQ(sem.Value(1), 0);
  EXPECT_OK(semctl(sem.id, 1, SETVAL, Semun{.val = 7}));
  EXPECT_EQ(sem.Value(1), 7);
  EXPECT_ERRNO(semctl(sem.id, 1, SETVAL, Semun{.val = 32768}), ERANGE);
  EXPECT_ERRNO(semctl(sem.id, 1, SETVAL, Semun{.val = -1}), ERANGE);
  EXPECT_ERRNO(semctl(sem.id, 3, GETVAL), EINVAL);
  EXPECT_ERRNO(semctl(sem.id, -1, GETVAL), EINVAL);
  unsigned short values[3] = {1, 2, 3};
  EXPECT_OK(semctl(sem.id, 0, SETALL, Semun{.array = values}));
  unsigned short got[3] = {};
  EXPECT_OK(semctl(sem.id, 0, GETALL, Semun{.array = got}));
  EXPECT_EQ(got[2], 3);
  EXPECT_EQ(semctl(sem.id, 0, GETPID), getpid());
  semid_ds ds;
  EXPECT_OK(semctl(sem.id, 0, IPC_STAT, Semun{.buf = &ds}));
  EXPECT_EQ(ds.sem_nsems, 3u);
  EXPECT_NE(ds.sem_ctime, 0);
  EXPECT_EQ(ds.sem_otime, 0);
  EXPECT_OK(Op(sem.id, 0, 1));
  EXPECT_OK(semctl(sem.id, 0, IPC_STAT, Semun{.buf = &ds}));
  EXPECT_NE(ds.sem_otime, 0);
}

TEST(SysvSem, OperationsFailAsDocumented) {
  Sem sem(2);
  sembuf op = {0, 0, 0};
  EXPECT_ERRNO(semop(sem.id, &op, 0), EINVAL);
  std::vector<sembuf> many(501, sembuf{0, 1, 0});
  EXPECT_ERRNO(semop(sem.id, many.data(), many.size()), E2BIG);
  EXPECT_ERRNO(Op(sem.id, 2, 1), EFBIG);
  EXPECT_ERRNO(Op(sem.id, 0, -1, IPC_NOWAIT), EAGAIN);
  EXPECT_ERRNO(semop(sem.id, reinterpret_cast<sembuf*>(BadPointer()), 1), EFAULT);
  EXPECT_ERRNO(Op(-1, 0, 1), EINVAL);
  EXPECT_OK(Op(sem.id, 0, 32767));
  EXPECT_ERRNO(Op(sem.id, 0, 1), ERANGE);
  EXPECT_ERRNO(Op(sem.id, 0, 0, IPC_NOWAIT), EAGAIN);
  timespec t = {0, 1000000};
  op = {1, -1, 0};
  EXPECT_ERRNO(semtimedop(sem.id, &op, 1, &t), EAGAIN);
  t.tv_nsec = -1;
  EXPECT_ERRNO(semtimedop(sem.id, &op, 1, &t), EINVAL);
}

TEST(SysvSem, OperationsAreAllOrNothing) {
  Sem sem(2);
  EXPECT_OK(Op(sem.id, 0, 5));
  sembuf ops[2] = {{0, -3, 0}, {1, -1, IPC_NOWAIT}};
  EXPECT_ERRNO(semop(sem.id, ops, 2), EAGAIN);
  EXPECT_EQ(sem.Value(0), 5);
  // In order: a later one sees what an earlier one did.
  sembuf chain[2] = {{1, 2, 0}, {1, -2, IPC_NOWAIT}};
  EXPECT_OK(semop(sem.id, chain, 2));
  EXPECT_EQ(sem.Value(1), 0);
}

TEST(SysvSem, WaitersAreCountedAndWoken) {
  Sem sem(1);
  pid_t child = ForkChild([&] { CHILD_CHECK(Op(sem.id, 0, -2) == 0); });
  ChildGuard guard(child);
  ASSERT_TRUE(Eventually([&] { return semctl(sem.id, 0, GETNCNT) == 1; }));
  EXPECT_OK(Op(sem.id, 0, 1));
  EXPECT_EQ(sem.Value(), 1);
  EXPECT_OK(Op(sem.id, 0, 1));
  EXPECT_EXITED(guard.Wait(), 0);
  EXPECT_EQ(sem.Value(), 0);
  EXPECT_EQ(semctl(sem.id, 0, GETPID), child);
}

TEST(SysvSem, WaitForZero) {
  Sem sem(1);
  EXPECT_OK(Op(sem.id, 0, 1));
  ChildGuard guard(ForkChild([&] { CHILD_CHECK(Op(sem.id, 0, 0) == 0); }));
  ASSERT_TRUE(Eventually([&] { return semctl(sem.id, 0, GETZCNT) == 1; }));
  EXPECT_EQ(semctl(sem.id, 0, GETNCNT), 0);
  EXPECT_OK(Op(sem.id, 0, -1));
  EXPECT_EXITED(guard.Wait(), 0);
}

TEST(SysvSem, RemovalWakesWithEIDRM) {
  int id = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);
  ChildGuard guard(ForkChild([&] { CHILD_CHECK(Op(id, 0, -1) == -1 && errno == EIDRM); }));
  ASSERT_TRUE(Eventually([&] { return semctl(id, 0, GETNCNT) == 1; }));
  EXPECT_OK(semctl(id, 0, IPC_RMID));
  EXPECT_EXITED(guard.Wait(), 0);
  EXPECT_ERRNO(Op(id, 0, 1), EINVAL);
}

TEST(SysvSem, SignalsInterruptEvenWithRestart) {
  Sem sem(1);
  ChildGuard guard(ForkChild([&] {
    ScopedHandler handler(
        SIGUSR1, [](int) {}, SA_RESTART);
    CHILD_CHECK(Op(sem.id, 0, -1) == -1 && errno == EINTR);
  }));
  ASSERT_TRUE(Eventually([&] { return semctl(sem.id, 0, GETNCNT) == 1; }));
  kill(guard.pid(), SIGUSR1);
  EXPECT_EXITED(guard.Wait(), 0);
  EXPECT_EQ(semctl(sem.id, 0, GETNCNT), 0);
}

TEST(SysvSem, UndoHappensAtTheEndOfTheProcess) {
  Sem sem(2);
  EXPECT_OK(Op(sem.id, 0, 10));
  int status = RunInChild([&] {
    CHILD_CHECK(Op(sem.id, 0, -4, SEM_UNDO) == 0);
    CHILD_CHECK(Op(sem.id, 0, 1, SEM_UNDO) == 0);
    CHILD_CHECK(Op(sem.id, 1, 2) == 0);
    CHILD_CHECK(sem.Value() == 7);
    // A thread's end is not the process's; its undo is shared.
    std::thread([&] { CHILD_CHECK(Op(sem.id, 0, -1, SEM_UNDO) == 0); }).join();
    CHILD_CHECK(sem.Value() == 6);
    // A child has its own.
    CHILD_CHECK(RunInChild([] {}) == 0);
    CHILD_CHECK(sem.Value() == 6);
  });
  EXPECT_EXITED(status, 0);
  EXPECT_EQ(sem.Value(0), 10);
  EXPECT_EQ(sem.Value(1), 2);
}

TEST(SysvSem, SetvalVoidsUndo) {
  Sem sem(1);
  EXPECT_OK(Op(sem.id, 0, 3));
  int status = RunInChild([&] {
    CHILD_CHECK(Op(sem.id, 0, -3, SEM_UNDO) == 0);
    CHILD_CHECK(semctl(sem.id, 0, SETVAL, Semun{.val = 1}) == 0);
  });
  EXPECT_EXITED(status, 0);
  EXPECT_EQ(sem.Value(), 1);
}

// --- Message queues.

TEST(SysvMsg, MessagesComeInOrderAndByType) {
  Queue queue;
  ASSERT_OK(queue.id);
  for (long type : {3, 1, 2, 1}) {
    Text t = {type, {}};
    snprintf(t.text, sizeof(t.text), "m%ld", type);
    ASSERT_OK(msgsnd(queue.id, &t, 3, 0));
  }
  msqid_ds ds;
  ASSERT_OK(msgctl(queue.id, IPC_STAT, &ds));
  EXPECT_EQ(ds.msg_qnum, 4u);
  EXPECT_EQ(ds.__msg_cbytes, 12u);
  EXPECT_EQ(ds.msg_lspid, getpid());
  Text got;
  EXPECT_EQ(msgrcv(queue.id, &got, sizeof(got.text), -2, 0), 3);
  EXPECT_EQ(got.type, 1);
  EXPECT_EQ(msgrcv(queue.id, &got, sizeof(got.text), 3, MSG_EXCEPT), 3);
  EXPECT_EQ(got.type, 2);
  EXPECT_EQ(msgrcv(queue.id, &got, sizeof(got.text), 1, 0), 3);
  EXPECT_EQ(got.type, 1);
  EXPECT_STREQ(got.text, "m1");
  EXPECT_ERRNO(msgrcv(queue.id, &got, sizeof(got.text), 1, IPC_NOWAIT), ENOMSG);
  EXPECT_EQ(msgrcv(queue.id, &got, sizeof(got.text), 0, 0), 3);
  EXPECT_EQ(got.type, 3);
  EXPECT_ERRNO(msgrcv(queue.id, &got, sizeof(got.text), 0, IPC_NOWAIT), ENOMSG);
}

TEST(SysvMsg, Errors) {
  Queue queue;
  Text t = {0, "x"};
  EXPECT_ERRNO(msgsnd(queue.id, &t, 1, 0), EINVAL);
  t.type = -5;
  EXPECT_ERRNO(msgsnd(queue.id, &t, 1, 0), EINVAL);
  t.type = 1;
  std::vector<char> big(8192 + 1 + sizeof(long));
  big[0] = 1;
  EXPECT_ERRNO(msgsnd(queue.id, big.data(), 8193, 0), EINVAL);
  EXPECT_OK(msgsnd(queue.id, big.data(), 8192, 0));
  EXPECT_OK(msgsnd(queue.id, big.data(), 8192, 0));
  EXPECT_ERRNO(msgsnd(queue.id, &t, 1, IPC_NOWAIT), EAGAIN);
  EXPECT_ERRNO(msgrcv(queue.id, &t, sizeof(t.text), 0, 0), E2BIG);
  EXPECT_EQ(msgrcv(queue.id, &t, sizeof(t.text), 0, MSG_NOERROR), ssize_t{sizeof(t.text)});
  EXPECT_ERRNO(msgrcv(queue.id, &t, -1, 0, 0), EINVAL);
  EXPECT_ERRNO(msgsnd(-1, &t, 1, 0), EINVAL);
  EXPECT_ERRNO(msgsnd(queue.id, BadPointer(), 1, 0), EFAULT);
  EXPECT_ERRNO(msgctl(queue.id, 99, nullptr), EINVAL);
}

TEST(SysvMsg, SendersAndReceiversWait) {
  Queue queue;
  ChildGuard receiver(ForkChild([&] {
    Text t;
    CHILD_CHECK(msgrcv(queue.id, &t, sizeof(t.text), 7, 0) == 5);
  }));
  ASSERT_TRUE(WaitUntilBlocked(receiver.pid()));
  Text t = {6, "no"};
  EXPECT_OK(msgsnd(queue.id, &t, 2, 0));
  t.type = 7;
  EXPECT_OK(msgsnd(queue.id, &t, 5, 0));
  EXPECT_EXITED(receiver.Wait(), 0);
  std::vector<char> big(8192 + sizeof(long));
  big[0] = 1;
  EXPECT_OK(msgsnd(queue.id, big.data(), 8192, 0));
  ChildGuard sender(ForkChild([&] { CHILD_CHECK(msgsnd(queue.id, big.data(), 8192, 0) == 0); }));
  ASSERT_TRUE(WaitUntilBlocked(sender.pid()));
  EXPECT_EQ(msgrcv(queue.id, big.data(), 8192, 6, 0), 2);
  EXPECT_EXITED(sender.Wait(), 0);
}

TEST(SysvMsg, RemovalAndSignalsEndTheWait) {
  int id = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
  ChildGuard removed(ForkChild([&] {
    Text t;
    CHILD_CHECK(msgrcv(id, &t, sizeof(t.text), 0, 0) == -1 && errno == EIDRM);
  }));
  ChildGuard interrupted(ForkChild([&] {
    ScopedHandler handler(
        SIGUSR1, [](int) {}, SA_RESTART);
    Text t;
    CHILD_CHECK(msgrcv(id, &t, sizeof(t.text), 0, 0) == -1 && errno == EINTR);
  }));
  ASSERT_TRUE(WaitUntilBlocked(removed.pid()));
  ASSERT_TRUE(WaitUntilBlocked(interrupted.pid()));
  kill(interrupted.pid(), SIGUSR1);
  EXPECT_EXITED(interrupted.Wait(), 0);
  EXPECT_OK(msgctl(id, IPC_RMID, nullptr));
  EXPECT_EXITED(removed.Wait(), 0);
}

TEST(SysvMsg, CopyLeavesTheMessage) {
  Queue queue;
  Text t = {4, "abc"};
  EXPECT_OK(msgsnd(queue.id, &t, 4, 0));
  constexpr int kCopy = 040000;
  Text got = {};
  EXPECT_ERRNO(msgrcv(queue.id, &got, sizeof(got.text), 0, kCopy), EINVAL);
  EXPECT_EQ(msgrcv(queue.id, &got, sizeof(got.text), 0, kCopy | IPC_NOWAIT), 4);
  EXPECT_STREQ(got.text, "abc");
  EXPECT_ERRNO(msgrcv(queue.id, &got, sizeof(got.text), 1, kCopy | IPC_NOWAIT), ENOMSG);
  EXPECT_EQ(msgrcv(queue.id, &got, sizeof(got.text), 0, 0), 4);
}

TEST(SysvNamespace, UnshareGivesAnEmptyOne) {
  const key_t key = FreshKey();
  Shm shm(4096, 0600, key);
  char before[64] = {}, after[64] = {};
  ASSERT_GT(readlink("/proc/self/ns/ipc", before, sizeof(before) - 1), 0);
  int status = RunInChild([&] {
    char* at = static_cast<char*>(shmat(shm.id, nullptr, 0));
    CHILD_CHECK(unshare(CLONE_NEWIPC) == 0);
    CHILD_CHECK(shmget(key, 4096, 0600) == -1 && errno == ENOENT);
    CHILD_CHECK(readlink("/proc/self/ns/ipc", after, sizeof(after) - 1) > 0);
    CHILD_CHECK(std::string(before) != after);
    at[0] = 'x';  // what is attached stays
    CHILD_CHECK(shmdt(at) == 0);
    CHILD_CHECK(shmget(key, 4096, IPC_CREAT | 0600) >= 0);  // goes with the namespace
  });
  EXPECT_EXITED(status, 0);
  EXPECT_EQ(ShmStat(shm.id).shm_nattch, 0u);
}

}  // namespace
}  // namespace conformance

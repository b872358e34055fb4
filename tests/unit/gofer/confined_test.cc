// A server under the filter that gofer/server/host_calls.h describes: whatever it does beyond the list kills it.
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cstring>

#include "base/executor.h"
#include "base/fiber.h"
#include "gofer/server/host_calls.h"
#include "tests/unit/gofer/gofer_fixture.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

namespace gofer {
namespace {

bool InstallFilter(int proc_self_fd, bool host_uds) {
  scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
  for (const HostCall& call : kHostCalls) {
    if (call.only_with_host_uds && !host_uds) continue;
    scmp_arg_cmp conditions[2];
    unsigned count = 0;
    for (const HostCallCondition& condition : call.conditions) {
      switch (condition.kind) {
        case HostCallCondition::Kind::kNone:
          break;
        case HostCallCondition::Kind::kMaskedEqual:
          conditions[count++] = SCMP_CMP(condition.argument, SCMP_CMP_MASKED_EQ, condition.mask, condition.value);
          break;
        case HostCallCondition::Kind::kProcSelfFd:
          conditions[count++] =
              SCMP_CMP(condition.argument, SCMP_CMP_MASKED_EQ, 0xffffffff, static_cast<uint64_t>(proc_self_fd));
          break;
      }
    }
    uint32_t action = call.fail_with != 0 ? SCMP_ACT_ERRNO(static_cast<uint32_t>(call.fail_with)) : SCMP_ACT_ALLOW;
    if (seccomp_rule_add_array(filter, action, static_cast<int>(call.number), count, conditions) != 0) return false;
  }
  bool loaded = seccomp_load(filter) == 0;
  seccomp_release(filter);
  return loaded;
}

TEST(Confined, EveryOperationKeepsToTheListOfHostCalls) {
#ifdef SANITIZED
  GTEST_SKIP() << "the sanitizer's runtime makes calls of its own";
#endif
  TempDirectory dir;
  dir.MakeDirectory("a/b");
  dir.Write("a/b/file", "x");
  base::UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  strcpy(address.sun_path, (dir / "socket").c_str());
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(listen(listener.get(), 1), 0);
  ASSERT_EQ(mkfifo((dir / "fifo").c_str(), 0600), 0);

  auto channel = MakeChannel();
  ASSERT_OK(channel);
  pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    channel->client.reset();
    std::vector<ServerMount> mounts(1);
    mounts[0].root = dir.Open();
    mounts[0].host_uds = true;
    mounts[0].host_uds_create = true;
    mounts[0].host_fifo = true;
    ServerOptions options;
    options.proc_self_fd.reset(open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!InstallFilter(options.proc_self_fd.get(), /*host_uds=*/true)) _exit(2);
    Serve(std::move(channel->server), std::move(mounts), std::move(options));
    _exit(0);
  }
  channel->server.reset();
  auto client = Client::Create(std::move(channel->client));
  {
    auto attached = client->Attach(0);
    ASSERT_OK(attached);
    Node& root = *attached->root;
    std::vector<std::string_view> names = {"a", "b", "file"};
    auto walked = root.Walk(names, {.open = true, .open_flags = O_RDWR});
    ASSERT_OK(walked);
    ASSERT_TRUE(walked->file.valid());
    Node& a = *walked->components[0].node;
    Node& file = *walked->components[2].node;
    EXPECT_OK(root.Walk(names, {.nodes = false}));
    EXPECT_OK(file.Open(O_RDONLY));
    EXPECT_OK(file.GetAttr());
    EXPECT_OK(file.SetAttr({.which = kSetSize | kSetMode | kSetMtimeNow, .mode = 0600, .size = 100}));
    EXPECT_OK(file.SetAttr({.which = kSetUid | kSetGid, .uid = geteuid(), .gid = getegid()}));
    EXPECT_OK(root.Create("new", O_RDWR, {.mode = 0644}));
    EXPECT_OK(root.Mkdir("dir", {.mode = 0755}));
    EXPECT_OK(root.Mknod("whiteout", S_IFCHR, 0, {}));
    auto link = root.Symlink("link", "a");
    ASSERT_OK(link);
    EXPECT_OK(link->node->ReadLink());
    EXPECT_OK(root.Link(file, "hard"));
    EXPECT_OK(root.Rename("hard", a, "harder"));
    EXPECT_OK(a.Unlink("harder"));
    EXPECT_OK(root.Rmdir("dir"));
    auto first = root.Readdir(0);
    ASSERT_OK(first);
    EXPECT_OK(root.Readdir(first->entries[1].cookie));
    EXPECT_OK(root.StatFs());
    auto set = file.SetXattr("user.a", "b", 0);
    EXPECT_TRUE(set.ok() || set.error() == EOPNOTSUPP);
    (void)file.GetXattr("user.a");
    (void)file.ListXattr();
    (void)file.RemoveXattr("user.a");
    std::vector<std::string_view> socket_name = {"socket"}, fifo_name = {"fifo"};
    EXPECT_OK(root.Walk(socket_name)->components[0].node->Connect(SOCK_STREAM));
    EXPECT_OK(root.Walk(fifo_name)->components[0].node->Open(O_RDONLY));
    EXPECT_OK(root.Bind("bound", SOCK_STREAM, {.mode = 0600, .uid = geteuid(), .gid = getegid()}));
    auto nameless = root.Tmpfile(O_RDWR, {.mode = 0600});
    ASSERT_OK(nameless);
    EXPECT_OK(root.Link(*nameless->node, "named"));
    EXPECT_OK(root.Rename("named", root, "renamed", kRenameWhiteout));
    // Several at once, so that workers start.
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (int round = 0; round < 10; ++round) {
          EXPECT_OK(file.Fsync(round % 2 == 0));
          EXPECT_OK(root.Walk(names));
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_OK(root.SyncFs());
  }
  // What a bound caller makes the server do.
  {
    base::Scheduler scheduler({.executors = 1, .bind_cpus = true});
    base::Fiber::Spawn(scheduler, {}, [&] {
      for (int i = 0; i < 5; ++i) EXPECT_OK(client->Attach(0));
    })->Join();
  }
  client.reset();
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace gofer

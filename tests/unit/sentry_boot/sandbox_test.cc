// The whole kernel in one process, without confinement: a static busybox on a tmpfs root.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <future>
#include <thread>

#include "gtest/gtest.h"
#include "sentry/boot/kernel_sandbox.h"
#include "sentry/vfs/vfs.h"

namespace sentry::boot {
namespace {

constexpr char kBusybox[] = "/bin/busybox";

struct Outcome {
  int status = -1;
  std::string output;
};

class Harness {
 public:
  // Runs argv to its end in a fresh sandbox.
  static Outcome Run(std::vector<std::string> argv) {
    Outcome outcome;
    int pipe_fds[2];
    EXPECT_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
    BootSpec spec;
    spec.process.argv = std::move(argv);
    spec.process.envv = {"PATH=/bin"};
    spec.cpu_count = 2;
    spec.process.capabilities.permitted = spec.process.capabilities.effective = spec.process.capabilities.bounding =
        kAllCapabilities;
    spec.process.stdio[1] = base::UniqueFd(pipe_fds[1]);
    spec.process.stdio[2] = base::UniqueFd(dup(2));
    KernelSandbox sandbox(spec);
    absl::Status status = sandbox.Prepare();
    EXPECT_TRUE(status.ok()) << status;
    sandbox.set_root_preparer_for_test([](VfsContext& ctx) { CopyIn(ctx, kBusybox, "/bin/busybox"); });
    status = sandbox.Load();
    EXPECT_TRUE(status.ok()) << status;
    if (!status.ok()) return outcome;
    std::promise<int> done;
    sandbox.WaitProcess(1, [&](absl::StatusOr<int> s) { done.set_value(s.ok() ? *s : -1); });
    EXPECT_TRUE(sandbox.Start().ok());
    std::thread reader([&] {
      char buffer[4096];
      for (ssize_t n; (n = read(pipe_fds[0], buffer, sizeof(buffer))) > 0;) outcome.output.append(buffer, n);
    });
    outcome.status = done.get_future().get();
    reader.join();
    close(pipe_fds[0]);
    return outcome;
  }

 private:
  static void CopyIn(VfsContext& ctx, const char* from, const char* to) {
    ASSERT_TRUE(vfs::Mkdir(ctx, ctx.root, "/bin", 0755).ok());
    Result<RefPtr<FileDescription>> file = vfs::Open(ctx, ctx.root, to, {O_WRONLY | O_CREAT, 0755, 0});
    ASSERT_TRUE(file.ok());
    int fd = open(from, O_RDONLY | O_CLOEXEC);
    ASSERT_GE(fd, 0);
    std::vector<std::byte> buffer(1 << 16);
    for (ssize_t n; (n = read(fd, buffer.data(), buffer.size())) > 0;) {
      KernelIo io(std::span<std::byte>(buffer.data(), static_cast<size_t>(n)));
      Result<size_t> written = (*file)->Write(io, {});
      ASSERT_TRUE(written.ok());
      ASSERT_EQ(*written, static_cast<size_t>(n));
    }
    close(fd);
  }
};

TEST(Sandbox, RunsAStaticProgramToItsExitStatus) {
  EXPECT_EQ(Harness::Run({"busybox", "true"}).status, 0);
  EXPECT_EQ(WEXITSTATUS(Harness::Run({"busybox", "false"}).status), 1);
}

TEST(Sandbox, RunsAShellWithPipes) {
  Outcome o = Harness::Run({"busybox", "sh", "-c", "echo a b c | busybox wc -w; exit 7"});
  EXPECT_EQ(WEXITSTATUS(o.status), 7);
  EXPECT_EQ(o.output, "3\n");
}

TEST(Sandbox, ShowsItsProcessesInProc) {
  Outcome o = Harness::Run(
      {"busybox", "sh", "-c",
       "busybox cat /proc/self/comm; busybox readlink /proc/self; busybox grep -c processor /proc/cpuinfo; "
       "busybox head -c 10 /proc/1/cmdline | busybox tr '\\0' ' '; cat /proc/sys/kernel/hostname"});
  EXPECT_EQ(o.output, "busybox\n3\n2\nbusybox shrunsc\n");
}

TEST(Sandbox, ReportsASignalThatKilledInit) {
  Outcome o = Harness::Run({"busybox", "sh", "-c", "busybox sh -c 'kill -9 $$'; echo $?"});
  EXPECT_EQ(o.output, "137\n");
}

}  // namespace
}  // namespace sentry::boot

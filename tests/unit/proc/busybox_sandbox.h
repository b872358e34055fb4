// A whole kernel in this process, with a static busybox on a tmpfs root: what a shell sees of /proc and /sys.
#ifndef TESTS_UNIT_PROC_BUSYBOX_SANDBOX_H_
#define TESTS_UNIT_PROC_BUSYBOX_SANDBOX_H_

#include <fcntl.h>
#include <unistd.h>

#include <future>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "sentry/boot/kernel_sandbox.h"
#include "sentry/vfs/vfs.h"

namespace sentry::boot {

inline void CopyBusybox(VfsContext& ctx) {
  for (const char* dir : {"/bin", "/tmp", "/sys"}) ASSERT_TRUE(vfs::Mkdir(ctx, ctx.root, dir, 0755).ok());
  Result<RefPtr<FileDescription>> file = vfs::Open(ctx, ctx.root, "/bin/busybox", {O_WRONLY | O_CREAT, 0755, 0});
  ASSERT_TRUE(file.ok());
  const int fd = open("/bin/busybox", O_RDONLY | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  std::vector<std::byte> buffer(1 << 16);
  for (ssize_t n; (n = read(fd, buffer.data(), buffer.size())) > 0;) {
    KernelIo io(std::span<std::byte>(buffer.data(), static_cast<size_t>(n)));
    ASSERT_TRUE((*file)->Write(io, {}).ok());
  }
  close(fd);
  Result<vfs::NewMount> sys = vfs::FindFileSystem("sysfs")->mount(ctx, {"sysfs", "", 0, ctx.creds});
  ASSERT_TRUE(sys.ok());
  Result<WalkResult> at = WalkPath(ctx, ctx.root, "/sys", 0);
  ASSERT_TRUE(at.ok());
  ASSERT_TRUE(ctx.mounts->AddMount(at->path, base::MakeRef<Mount>(sys->superblock, sys->root, 0, "sysfs")).ok());
}

// What a script prints, standard error included.
inline std::string RunShell(const std::string& script, int cpus = 2) {
  int pipe_fds[2];
  EXPECT_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
  BootSpec spec;
  spec.process.argv = {"busybox", "sh", "-c", script};
  spec.process.envv = {"PATH=/bin"};
  spec.cpu_count = cpus;
  spec.process.capabilities.permitted = spec.process.capabilities.effective = spec.process.capabilities.bounding =
      kAllCapabilities;
  spec.process.stdio[1] = base::UniqueFd(pipe_fds[1]);
  spec.process.stdio[2] = base::UniqueFd(dup(pipe_fds[1]));
  KernelSandbox sandbox(spec);
  absl::Status status = sandbox.Prepare();
  EXPECT_TRUE(status.ok()) << status;
  sandbox.set_root_preparer_for_test([](VfsContext& ctx) { CopyBusybox(ctx); });
  status = sandbox.Load();
  EXPECT_TRUE(status.ok()) << status;
  if (!status.ok()) return "";
  std::promise<int> done;
  sandbox.WaitProcess(1, [&](absl::StatusOr<int> s) { done.set_value(s.ok() ? *s : -1); });
  EXPECT_TRUE(sandbox.Start().ok());
  std::string output;
  std::thread reader([&] {
    char buffer[4096];
    for (ssize_t n; (n = read(pipe_fds[0], buffer, sizeof(buffer))) > 0;) output.append(buffer, static_cast<size_t>(n));
  });
  EXPECT_EQ(done.get_future().get(), 0) << script;
  reader.join();
  close(pipe_fds[0]);
  return output;
}

}  // namespace sentry::boot

#endif  // TESTS_UNIT_PROC_BUSYBOX_SANDBOX_H_

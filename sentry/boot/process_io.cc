#include "sentry/boot/process_io.h"

#include <fcntl.h>

#include <algorithm>

#include "sentry/fs/devpts/devpts.h"
#include "sentry/fs/host/host_file.h"
#include "sentry/fs/host/host_tty.h"
#include "sentry/vfs/vfs.h"

namespace sentry::boot {

Result<RefPtr<FileDescription>> NewStdio(Kernel& kernel, VfsContext& ctx, base::UniqueFd fd,
                                         const control::ProcessSpec& spec, RefPtr<Tty>* tty) {
  HostObject::Options options;
  options.uid = spec.uid;
  options.gid = spec.gid;
  if (spec.terminal) {
    if (*tty == nullptr) {
      options.exclusive = true;  // runsc made the pty for this process
      RefPtr<HostTty> host_tty = TRY(HostTty::Create(kernel, std::move(fd), options));
      Result<VfsPath> path = devpts::NameTerminal(ctx, *host_tty, spec.uid);
      if (path.ok()) TRY(host_tty->SetPath(*path));
      *tty = host_tty;
    }
    return static_cast<HostTty&>(**tty).NewDescription(O_RDWR);
  }
  return NewHostFile(kernel.scheduler().reactor(), std::move(fd), options);
}

void BindConsole(VfsContext& ctx, const VfsPath& terminal) {
  Result<WalkResult> console = WalkPath(ctx, ctx.root, "/dev/console", 0);
  if (!console.ok() || terminal.mount == nullptr) return;
  auto mount = base::MakeRef<Mount>(RefPtr<Superblock>(&terminal.mount->superblock()), terminal.dentry,
                                    terminal.mount->flags(), terminal.mount->source());
  (void)ctx.mounts->AddMount(console->path, std::move(mount));
}

absl::Status SetTerminalSize(Kernel& kernel, Tty& tty, uint16_t rows, uint16_t columns) {
  abi::Winsize size{rows, columns, 0, 0};
  Result<void> set = static_cast<Terminal&>(tty).SetWindowSize(size);
  if (!set.ok())
    return absl::InternalError(std::string("cannot set the terminal's size: ") + base::ErrnoName(set.error().value()));
  return absl::OkStatus();
}

void AddHome(VfsContext& ctx, uint32_t uid, std::vector<std::string>* env) {
  for (const std::string& e : *env) {
    if (e.starts_with("HOME=")) return;
  }
  std::string home = "/";
  Result<RefPtr<FileDescription>> file = vfs::Open(ctx, ctx.root, "/etc/passwd", {O_RDONLY | O_NONBLOCK, 0, 0});
  if (file.ok()) {
    // A container's file: bounded, and trusted for nothing but this.
    std::string text(256 << 10, '\0');
    KernelIo io(std::as_writable_bytes(std::span(text)));
    Result<size_t> n = (*file)->PRead(io, 0, {});
    text.resize(n.value_or(0));
    for (size_t at = 0; at < text.size();) {
      const size_t end = std::min(text.find('\n', at), text.size());
      const std::string line = text.substr(at, end - at);
      at = end + 1;
      std::vector<std::string> fields;
      for (size_t f = 0; f <= line.size();) {
        const size_t colon = std::min(line.find(':', f), line.size());
        fields.push_back(line.substr(f, colon - f));
        f = colon + 1;
      }
      if (fields.size() >= 6 && fields[2] == std::to_string(uid) && !fields[5].empty()) {
        home = fields[5];
        break;
      }
    }
  }
  env->push_back("HOME=" + home);
}

}  // namespace sentry::boot

// A directory of the host, a gofer that serves it on a thread of the test, and the file system over both.
#ifndef TESTS_UNIT_VFS_GOFER_FIXTURE_H_
#define TESTS_UNIT_VFS_GOFER_FIXTURE_H_

#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "base/check.h"
#include "gofer/client/client.h"
#include "gofer/protocol/channel.h"
#include "gofer/server/server.h"
#include "sentry/fs/gofer/gofer_fs.h"

namespace sentry {

class HostDirectory {
 public:
  HostDirectory() {
    char name[] = "/tmp/gofer_fs_test.XXXXXX";
    path_ = mkdtemp(name);
    CHECK(chmod(path_.c_str(), 0755) == 0);
  }
  ~HostDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }
  void Write(std::string_view name, std::string_view text) const { std::ofstream(*this / name) << text; }
  std::string Read(std::string_view name) const {
    std::ifstream in(*this / name);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }
  void MakeDirectory(std::string_view name) const { std::filesystem::create_directories(*this / name); }
  struct stat Stat(std::string_view name) const {
    struct stat st = {};
    lstat((*this / name).c_str(), &st);
    return st;
  }
  int64_t MtimeNs(std::string_view name) const {
    struct stat st = Stat(name);
    return st.st_mtim.tv_sec * 1'000'000'000LL + st.st_mtim.tv_nsec;
  }
  base::UniqueFd OpenPath() const { return base::UniqueFd(open(path_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)); }

 private:
  std::string path_;
};

class GoferTree {
 protected:
  GoferTree() : old_umask_(umask(0)) {}
  ~GoferTree() {
    Stop();
    umask(old_umask_);
  }
  // Starts the server and attaches.
  vfs::NewMount Tree(goferfs::Access access) {
    auto channel = std::move(*gofer::MakeChannel());
    std::vector<gofer::ServerMount> mounts(1);
    mounts[0].root = host_.OpenPath();
    thread_ = std::thread([socket = std::move(channel.server), mounts = std::move(mounts)]() mutable {
      gofer::Serve(std::move(socket), std::move(mounts), {});
    });
    client_ = gofer::Client::Create(std::move(channel.client));
    return std::move(*goferfs::Create(client_, 0, {.access = access}));
  }
  void Stop() {
    if (client_) client_->Disconnect();
    client_.reset();
    if (thread_.joinable()) thread_.join();
  }

  HostDirectory host_;
  RefPtr<gofer::Client> client_;

 private:
  std::thread thread_;
  mode_t old_umask_;
};

}  // namespace sentry

#endif  // TESTS_UNIT_VFS_GOFER_FIXTURE_H_

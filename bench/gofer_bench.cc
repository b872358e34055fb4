// Round trips to a gofer in a process of its own: what a stat, a walk and an open of the guest cost when nothing is
// cached.
//
// Callers are a host thread (OnThread) or a fiber with an executor to itself (OnFiber), which is what a guest's system
// call is; that executor is bound to a CPU, and the gofer follows it there. Argument `one_cpu`: 0: both processes may
// use every CPU; 1: both the same one.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/executor.h"
#include "base/fiber.h"
#include "gofer/client/client.h"
#include "gofer/protocol/channel.h"
#include "gofer/server/server.h"

namespace gofer {
namespace {

class Setup {
 public:
  explicit Setup(bool one_cpu) {
    CHECK(sched_getaffinity(0, sizeof(old_), &old_) == 0);
    if (one_cpu) {
      cpu_set_t one;
      CPU_ZERO(&one);
      int cpu = 0;
      while (!CPU_ISSET(cpu, &old_)) ++cpu;
      CPU_SET(cpu, &one);
      CHECK(sched_setaffinity(0, sizeof(one), &one) == 0);
    }
    char name[] = "/tmp/gofer_bench.XXXXXX";
    CHECK(mkdtemp(name) != nullptr);
    path_ = name;
    std::filesystem::create_directories(path_ + "/usr/lib/python3");
    base::UniqueFd file(open((path_ + "/usr/lib/python3/os.py").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
    auto channel = MakeChannel();
    CHECK(channel.ok());
    server_ = fork();
    CHECK(server_ >= 0);
    if (server_ == 0) {
      channel->client.reset();
      std::vector<ServerMount> mounts(1);
      mounts[0].root.reset(open(path_.c_str(), O_PATH | O_CLOEXEC));
      Serve(std::move(channel->server), std::move(mounts), {});
      _exit(0);
    }
    channel->server.reset();
    client_ = Client::Create(std::move(channel->client));
    auto attached = client_->Attach(0);
    CHECK(attached.ok());
    root_ = attached->root;
  }
  ~Setup() {
    root_.reset();
    client_.reset();
    waitpid(server_, nullptr, 0);
    std::filesystem::remove_all(path_);
    sched_setaffinity(0, sizeof(old_), &old_);
  }
  Node& root() { return *root_; }
  const std::string& path() const { return path_; }

 private:
  cpu_set_t old_;
  std::string path_;
  pid_t server_ = -1;
  base::RefPtr<Client> client_;
  base::RefPtr<Node> root_;
};

const std::vector<std::string_view> kPath = {"usr", "lib", "python3", "os.py"};

void GetAttr(Setup& setup) { CHECK(setup.root().GetAttr().ok()); }
void StatOne(Setup& setup) {
  CHECK(setup.root().Walk(std::span(kPath).first(1), {.nodes = false})->components.size() == 1);
}
void StatFour(Setup& setup) { CHECK(setup.root().Walk(kPath, {.nodes = false})->components.size() == 4); }
void WalkFour(Setup& setup) { CHECK(setup.root().Walk(kPath)->components.size() == 4); }
void OpenFour(Setup& setup) { CHECK(setup.root().Walk(kPath, {.open = true})->file.valid()); }
void NativeStat(Setup& setup) {
  struct stat st;
  CHECK(stat((setup.path() + "/usr/lib/python3/os.py").c_str(), &st) == 0);
}

template <void (*kOperation)(Setup&)>
void OnThread(benchmark::State& state) {
  Setup setup(state.range(0) != 0);
  for (auto _ : state) kOperation(setup);
}

template <void (*kOperation)(Setup&)>
void OnFiber(benchmark::State& state) {
  Setup setup(state.range(0) != 0);
  base::Scheduler scheduler({.executors = 1, .bind_cpus = true});
  base::Fiber::Spawn(scheduler, {}, [&] {
    for (auto _ : state) kOperation(setup);
  })->Join();
}

BENCHMARK(OnThread<NativeStat>)->ArgName("one_cpu")->Arg(0)->UseRealTime();
BENCHMARK(OnThread<GetAttr>)->ArgName("one_cpu")->Arg(0)->Arg(1)->UseRealTime();
BENCHMARK(OnFiber<GetAttr>)->ArgName("one_cpu")->Arg(0)->Arg(1)->UseRealTime();
BENCHMARK(OnFiber<StatOne>)->ArgName("one_cpu")->Arg(0)->Arg(1)->UseRealTime();
BENCHMARK(OnFiber<StatFour>)->ArgName("one_cpu")->Arg(0)->Arg(1)->UseRealTime();
BENCHMARK(OnFiber<WalkFour>)->ArgName("one_cpu")->Arg(0)->Arg(1)->UseRealTime();
BENCHMARK(OnFiber<OpenFour>)->ArgName("one_cpu")->Arg(0)->Arg(1)->UseRealTime();

}  // namespace
}  // namespace gofer

BENCHMARK_MAIN();

// The command line from outside, with real processes, namespaces and filters, and a fake kernel (fake_main.cc).
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

extern char** environ;

namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;

struct Outcome {
  int code = -1;
  std::string out, err;
};

std::string ReadText(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

class CliTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    // What a runtime leaves behind becomes ours, as it would become the shim's.
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    char name[] = "/tmp/runsc-cli-XXXXXX";
    dir_ = mkdtemp(name);
    fs::create_directories(Bundle() + "/rootfs");
    WriteProgram({"trap"});
  }
  void TearDown() override {
    if (dir_.empty()) return;
    for (const auto& id : Ids()) Runsc({"delete", "--force", id});
    // Every orphan has to have ended by itself.
    int status;
    for (int i = 0; i < 500 && waitpid(-1, &status, WNOHANG) >= 0; ++i) usleep(10000);
    EXPECT_EQ(waitpid(-1, &status, WNOHANG), -1) << "a process was left behind";
    fs::remove_all(dir_);
  }

  std::string Bundle() const { return dir_ + "/bundle"; }
  std::string Root() const { return dir_ + "/root"; }
  std::set<std::string> Ids() const {
    std::set<std::string> ids;
    if (fs::exists(Root())) {
      for (const auto& entry : fs::directory_iterator(Root())) ids.insert(entry.path().filename());
    }
    return ids;
  }
  json Config(std::vector<std::string> args) const {
    return {{"ociVersion", "1.0.2"}, {"process", {{"args", args}, {"cwd", "/"}}}, {"root", {{"path", "rootfs"}}}};
  }
  void WriteConfig(const json& config) const { std::ofstream(Bundle() + "/config.json") << config.dump(); }
  void WriteProgram(std::vector<std::string> args) const { WriteConfig(Config(std::move(args))); }

  pid_t Spawn(std::vector<std::string> args, int out, int err, int in = -1) const {
    std::vector<std::string> words = {RUNSC_FAKE,         "--root",       Root(), "--log",
                                      dir_ + "/log.json", "--log-format", "json"};
    words.insert(words.end(), args.begin(), args.end());
    std::vector<char*> argv;
    for (auto& w : words) argv.push_back(w.data());
    argv.push_back(nullptr);
    pid_t pid = fork();
    if (pid == 0) {
      if (chdir(Bundle().c_str()) < 0) _exit(1);
      int null = open("/dev/null", O_RDWR);
      dup2(in >= 0 ? in : null, 0);
      dup2(out >= 0 ? out : null, 1);
      dup2(err >= 0 ? err : null, 2);
      execv(argv[0], argv.data());
      _exit(1);
    }
    return pid;
  }
  // Runs to its end with the output in pipes that are read to their end: whoever keeps them open hangs the test.
  Outcome Runsc(std::vector<std::string> args) const {
    int out[2], err[2];
    EXPECT_EQ(pipe2(out, O_CLOEXEC), 0);
    EXPECT_EQ(pipe2(err, O_CLOEXEC), 0);
    pid_t pid = Spawn(std::move(args), out[1], err[1]);
    close(out[1]);
    close(err[1]);
    Outcome outcome;
    char buffer[4096];
    ssize_t n;
    while ((n = read(out[0], buffer, sizeof(buffer))) > 0) outcome.out.append(buffer, static_cast<size_t>(n));
    while ((n = read(err[0], buffer, sizeof(buffer))) > 0) outcome.err.append(buffer, static_cast<size_t>(n));
    close(out[0]);
    close(err[0]);
    int status = 0;
    waitpid(pid, &status, 0);
    outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    return outcome;
  }
  // For containers that outlive the command: output goes to a file.
  int RunscToFile(std::vector<std::string> args, const std::string& name = "out") const {
    int fd = open((dir_ + "/" + name).c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    pid_t pid = Spawn(std::move(args), fd, fd);
    close(fd);
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  }
  std::string Status(const std::string& id) const {
    Outcome o = Runsc({"state", id});
    return o.code == 0 ? json::parse(o.out)["status"].get<std::string>() : o.err;
  }
  // True within two seconds.
  template <typename F>
  bool Eventually(F&& f) const {
    for (int i = 0; i < 200; ++i) {
      if (f()) return true;
      usleep(10000);
    }
    return false;
  }
  // The exit code of an orphan of ours.
  int Reap(pid_t pid) const {
    int status = 0;
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  std::string dir_;
};

TEST_F(CliTest, VersionAsDockerParsesIt) {
  Outcome o = Runsc({"--version"});
  EXPECT_EQ(o.code, 0);
  EXPECT_THAT(o.out, ::testing::MatchesRegex("runsc version [0-9.]+\nspec: 1[0-9.]+\n"));
}

TEST_F(CliTest, RunReturnsTheGuestsStatusAndLeavesNothing) {
  WriteProgram({"exit", "3"});
  EXPECT_EQ(Runsc({"run", "c"}).code, 3);
  WriteProgram({"die", "11"});
  EXPECT_EQ(Runsc({"run", "c"}).code, 128 + 11);
  WriteProgram({"echo", "hello"});
  Outcome o = Runsc({"run", "--bundle", Bundle(), "c"});
  EXPECT_EQ(o.code, 0);
  EXPECT_EQ(o.out, "hello\n");
  EXPECT_EQ(o.err, "");
  EXPECT_TRUE(Ids().empty());
}

TEST_F(CliTest, TheWholeLife) {
  ASSERT_EQ(RunscToFile({"create", "--bundle", Bundle(), "--pid-file", dir_ + "/pid", "c"}), 0);
  EXPECT_EQ(Status("c"), "created");
  pid_t pid = atoi(ReadText(dir_ + "/pid").c_str());
  EXPECT_EQ(json::parse(Runsc({"state", "c"}).out)["pid"], pid);
  EXPECT_EQ(Runsc({"start", "c"}).code, 0);
  EXPECT_EQ(Status("c"), "running");
  EXPECT_EQ(Runsc({"ps", "--format", "json", "c"}).out, "[1]\n");
  EXPECT_EQ(json::parse(Runsc({"list", "--format=json"}).out)[0]["id"], "c");
  EXPECT_EQ(Runsc({"list", "-quiet"}).out, "c\n");
  EXPECT_EQ(json::parse(Runsc({"events", "--stats", "c"}).out)["type"], "stats");
  EXPECT_EQ(Runsc({"pause", "c"}).code, 0);
  EXPECT_EQ(Status("c"), "paused");
  EXPECT_EQ(Runsc({"resume", "c"}).code, 0);
  EXPECT_EQ(Runsc({"kill", "c", "SIGUSR1"}).code, 0);
  EXPECT_TRUE(Eventually([&] { return ReadText(dir_ + "/out") == "signal 10\n"; }));
  EXPECT_EQ(Runsc({"kill", "c", "--all", "USR2"}).code, 0) << "flags may come late";
  EXPECT_EQ(Runsc({"kill", "c"}).code, 0);
  EXPECT_EQ(Reap(pid), 128 + 15) << "the process of the pid file ends with the container's status";
  EXPECT_EQ(Status("c"), "stopped");
  EXPECT_EQ(Runsc({"delete", "c"}).code, 0);
  EXPECT_TRUE(Ids().empty());
}

TEST_F(CliTest, EachMistakeIsOneClearSentenceOnStderrAndInTheLog) {
  auto expect = [&](std::vector<std::string> args, const std::string& text) {
    fs::remove(dir_ + "/log.json");
    Outcome o = Runsc(args);
    EXPECT_EQ(o.code, 128) << args[0];
    EXPECT_THAT(o.err, HasSubstr(text));
    EXPECT_EQ(std::count(o.err.begin(), o.err.end(), '\n'), 1) << o.err;
    json line = json::parse(ReadText(dir_ + "/log.json"), nullptr, false);
    ASSERT_TRUE(line.is_object());
    EXPECT_EQ(line["level"], "error");
    EXPECT_THAT(line["msg"].get<std::string>(), HasSubstr(text));
  };
  expect({"state", "c"}, "container \"c\" does not exist");
  expect({"start", "c"}, "container \"c\" does not exist");
  expect({"kill", "c"}, "container \"c\" does not exist");
  expect({"delete", "c"}, "container \"c\" does not exist");
  expect({"create", "../c"}, "invalid container id");
  expect({"create", "--bundle", "/no-bundle-here", "c"}, "there is no bundle at /no-bundle-here");
  expect({"create", "-bogus", "c"}, "flag provided but not defined: -bogus");
  expect({"create"}, "wrong number of arguments");
  expect({"conjure", "c"}, "no command \"conjure\"");
  WriteProgram({"missing"});
  expect({"create", "c"}, "executable file not found");
  WriteProgram({"denied"});
  expect({"run", "c"}, "permission denied");
  json config = Config({"true"});
  config["root"]["path"] = "elsewhere";
  WriteConfig(config);
  expect({"create", "c"}, "elsewhere: no such file or directory");
  config = Config({"true"});
  config["mounts"] = json::array({{{"destination", "/x"}, {"type", "bind"}, {"source", dir_ + "/no-such"}}});
  WriteConfig(config);
  expect({"create", "c"}, "mounts[0] (/x): source " + dir_ + "/no-such: no such file or directory");
  config["mounts"][0] = {{"destination", "/x"}, {"type", "nfs"}, {"source", "x"}};
  WriteConfig(config);
  expect({"create", "c"}, "file system \"nfs\" is not supported");
  config = Config({"true"});
  config["process"]["terminal"] = true;
  WriteConfig(config);
  expect({"create", "c"}, "needs --console-socket");
  config = Config({"true"});
  config["hooks"]["createRuntime"] =
      json::array({{{"path", "/bin/sh"}, {"args", {"sh", "-c", "echo broken >&2; exit 4"}}}});
  WriteConfig(config);
  expect({"create", "c"}, "hooks.createRuntime[0] (/bin/sh): exit status 4, broken");
  EXPECT_TRUE(Ids().empty()) << "something was left behind";
}

TEST_F(CliTest, AnIdInUseAndADeadSandbox) {
  ASSERT_EQ(RunscToFile({"run", "--detach", "--pid-file", dir_ + "/pid", "c"}), 0);
  EXPECT_THAT(Runsc({"create", "c"}).err, HasSubstr("container with id \"c\" already exists"));
  EXPECT_THAT(Runsc({"start", "c"}).err, HasSubstr("it is running, not created"));
  EXPECT_THAT(Runsc({"delete", "c"}).err, HasSubstr("that is not stopped: running"));
  pid_t pid = atoi(ReadText(dir_ + "/pid").c_str());
  kill(pid, SIGKILL);
  EXPECT_EQ(waitpid(pid, nullptr, 0), pid);
  EXPECT_EQ(Status("c"), "stopped");
  EXPECT_THAT(Runsc({"kill", "c"}).err, HasSubstr("container not running"));
  EXPECT_EQ(Runsc({"kill", "--all", "c"}).code, 0);
  EXPECT_THAT(Runsc({"exec", "c", "true"}).err, HasSubstr("container not running"));
  EXPECT_THAT(Runsc({"ps", "c"}).err, HasSubstr("container not running"));
  EXPECT_EQ(Runsc({"delete", "c"}).code, 0);
}

TEST_F(CliTest, DeleteForceSucceedsForAnUnknownIdAndEndsARunningOne) {
  EXPECT_EQ(Runsc({"delete", "--force", "c"}).code, 0);
  ASSERT_EQ(RunscToFile({"run", "-d", "c"}), 0);
  EXPECT_EQ(Runsc({"delete", "-force", "c", "other"}).code, 0);
  EXPECT_TRUE(Ids().empty());
}

TEST_F(CliTest, ACreatedContainerCanBeKilled) {
  ASSERT_EQ(RunscToFile({"create", "--pid-file", dir_ + "/pid", "c"}), 0);
  EXPECT_EQ(Runsc({"kill", "c", "KILL"}).code, 0);
  int status = 0;
  waitpid(atoi(ReadText(dir_ + "/pid").c_str()), &status, 0);
  EXPECT_EQ(Status("c"), "stopped");
}

TEST_F(CliTest, ExecAttached) {
  ASSERT_EQ(RunscToFile({"run", "-d", "c"}), 0);
  EXPECT_EQ(Runsc({"exec", "c", "exit", "9"}).code, 9);
  EXPECT_EQ(Runsc({"exec", "c", "die", "15"}).code, 143);
  EXPECT_EQ(Runsc({"exec", "c", "echo", "-x"}).out, "-x\n");
  EXPECT_THAT(Runsc({"exec", "c", "missing"}).err, HasSubstr("executable file not found"));
  EXPECT_THAT(Runsc({"exec", "c"}).err, HasSubstr("no command is given"));
  EXPECT_THAT(Runsc({"exec", "--cap", "CAP_NONSENSE", "c", "true"}).err, HasSubstr("no such capability"));
  std::ofstream(dir_ + "/p.json") << json{{"args", {"exit", "4"}}, {"cwd", "/"}}.dump();
  EXPECT_EQ(Runsc({"exec", "--process", dir_ + "/p.json", "c"}).code, 4);
}

TEST_F(CliTest, ExecDetachedLeavesAProcessThatStandsForIt) {
  ASSERT_EQ(RunscToFile({"run", "-d", "c"}), 0);
  auto detach = [&](std::vector<std::string> args) {
    std::vector<std::string> words = {"exec", "--detach", "--pid-file", dir_ + "/exec", "c"};
    words.insert(words.end(), args.begin(), args.end());
    EXPECT_EQ(RunscToFile(words, "exec-out"), 0);
    return static_cast<pid_t>(atoi(ReadText(dir_ + "/exec").c_str()));
  };
  EXPECT_EQ(Reap(detach({"exit", "6"})), 6);
  pid_t pid = detach({"trap"});
  EXPECT_EQ(Runsc({"ps", "-format", "json", "c"}).out, "[1,3]\n");
  kill(pid, SIGUSR2);
  EXPECT_TRUE(Eventually([&] { return ReadText(dir_ + "/exec-out") == "signal 12\n"; })) << "signals are passed on";
  kill(pid, SIGTERM);
  EXPECT_EQ(Reap(pid), 128 + 15);
  pid = detach({"sleep"});
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
  EXPECT_TRUE(Eventually([&] {
    return Runsc({"ps", "-format", "json", "c"}).out == "[1]\n";
  })) << "and so is its death";
  pid = detach({"sleep"});
  EXPECT_EQ(Runsc({"kill", "c", "KILL"}).code, 0);
  EXPECT_EQ(Reap(pid), 128 + 9) << "the container's end is the end of all its processes";
}

TEST_F(CliTest, WaitPrintsTheStatus) {
  ASSERT_EQ(RunscToFile({"run", "-d", "c"}), 0);
  int out[2];
  ASSERT_EQ(pipe2(out, O_CLOEXEC), 0);
  pid_t waiter = Spawn({"wait", "c"}, out[1], -1);
  close(out[1]);
  usleep(50000);
  EXPECT_EQ(Runsc({"kill", "c", "15"}).code, 0);
  char buffer[256];
  ssize_t n = read(out[0], buffer, sizeof(buffer));
  close(out[0]);
  waitpid(waiter, nullptr, 0);
  EXPECT_EQ(json::parse(std::string(buffer, static_cast<size_t>(std::max<ssize_t>(n, 0)))),
            (json{{"id", "c"}, {"exitStatus", 143}}));
}

TEST_F(CliTest, AnAttachedSandboxDiesWithItsParent) {
  int out[2];
  ASSERT_EQ(pipe2(out, O_CLOEXEC), 0);
  pid_t runsc = Spawn({"run", "c"}, out[1], -1);
  close(out[1]);
  ASSERT_TRUE(Eventually([&] { return Status("c") == "running"; }));
  pid_t sandbox = json::parse(Runsc({"state", "c"}).out)["pid"];
  kill(runsc, SIGKILL);
  waitpid(runsc, nullptr, 0);
  EXPECT_EQ(waitpid(sandbox, nullptr, 0), sandbox);
  char c;
  EXPECT_EQ(read(out[0], &c, 1), 0) << "somebody holds the standard output";
  close(out[0]);
  EXPECT_EQ(Status("c"), "stopped");
}

TEST_F(CliTest, SignalsOfTheForegroundRunnerReachInit) {
  int out[2];
  ASSERT_EQ(pipe2(out, O_CLOEXEC), 0);
  pid_t runsc = Spawn({"run", "c"}, out[1], -1);
  close(out[1]);
  ASSERT_TRUE(Eventually([&] { return Status("c") == "running"; }));
  kill(runsc, SIGINT);
  char buffer[64];
  ssize_t n = read(out[0], buffer, sizeof(buffer));
  EXPECT_EQ(std::string(buffer, static_cast<size_t>(std::max<ssize_t>(n, 0))), "signal 2\n");
  kill(runsc, SIGTERM);
  EXPECT_EQ(Reap(runsc), 143);
  close(out[0]);
}

TEST_F(CliTest, TheSandboxHoldsNothing) {
  ASSERT_EQ(RunscToFile({"create", "--pid-file", dir_ + "/pid", "c"}), 0);
  std::string pid = ReadText(dir_ + "/pid");
  std::string status = ReadText("/proc/" + pid + "/status");
  for (const char* line : {"Uid:\t65534\t65534\t65534\t65534\n", "Gid:\t65534\t65534\t65534\t65534\n",
                           "CapPrm:\t0000000000000000\n", "CapEff:\t0000000000000000\n", "CapBnd:\t0000000000000000\n",
                           "CapAmb:\t0000000000000000\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n"}) {
    EXPECT_THAT(status, HasSubstr(line));
  }
  for (const char* ns : {"user", "mnt", "net", "ipc", "uts", "pid"}) {
    EXPECT_NE(fs::read_symlink("/proc/" + pid + "/ns/" + ns), fs::read_symlink(std::string("/proc/self/ns/") + ns))
        << ns;
  }
  EXPECT_TRUE(fs::is_empty("/proc/" + pid + "/root"));
  EXPECT_EQ(fs::read_symlink("/proc/" + pid + "/cwd"), "/");
  int count = 0;
  for (const auto& entry : fs::directory_iterator("/proc/" + pid + "/fd")) {
    std::string target = fs::read_symlink(entry.path());
    ++count;
    bool expected = target.find("/dev/null") == 0 || target == "/null" || target.find("anon_inode:") == 0 ||
                    target.find("socket:") == 0 || target == dir_ + "/out";
    EXPECT_TRUE(expected) << entry.path() << " -> " << target;
  }
  EXPECT_LE(count, 10);
}

TEST_F(CliTest, TheGoferSeesNoPath) {
  ASSERT_EQ(RunscToFile({"create", "--pid-file", dir_ + "/pid", "c"}), 0);
  json state = json::parse(ReadText(Root() + "/c/state.json"));
  std::string gofer = std::to_string(state["gofer"]["pid"].get<int>());
  EXPECT_TRUE(fs::is_empty("/proc/" + gofer + "/root"));
  std::string status = ReadText("/proc/" + gofer + "/status");
  EXPECT_THAT(status, HasSubstr("Seccomp:\t2\n"));
  EXPECT_THAT(status, HasSubstr("NoNewPrivs:\t1\n"));
  EXPECT_THAT(status, HasSubstr("CapEff:\t000000000800001f\n"));
  EXPECT_THAT(status, HasSubstr("CapBnd:\t000000000800001f\n"));
  EXPECT_NE(fs::read_symlink("/proc/" + gofer + "/ns/mnt"), fs::read_symlink("/proc/self/ns/mnt"));
}

TEST_F(CliTest, ConsoleSocketGetsTheMaster) {
  json config = Config({"trap"});
  config["process"]["terminal"] = true;
  config["process"]["consoleSize"] = {{"height", 33}, {"width", 77}};
  WriteConfig(config);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::string path = dir_ + "/console.sock";
  memcpy(address.sun_path, path.data(), path.size());
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(listen(listener, 1), 0);
  ASSERT_EQ(Runsc({"create", "--console-socket", path, "c"}).code, 0) << "with a terminal, nobody keeps the pipes";
  int connection = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  char name[128];
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  iovec vec{name, sizeof(name)};
  msghdr message{};
  message.msg_iov = &vec;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ASSERT_GT(recvmsg(connection, &message, MSG_CMSG_CLOEXEC), 0);
  ASSERT_NE(CMSG_FIRSTHDR(&message), nullptr);
  int master;
  memcpy(&master, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(master));
  struct winsize size;
  ASSERT_EQ(ioctl(master, TIOCGWINSZ, &size), 0);
  EXPECT_EQ(size.ws_row, 33);
  EXPECT_EQ(size.ws_col, 77);
  ASSERT_EQ(Runsc({"start", "c"}).code, 0);
  // ^C reaches the guest through the host's line discipline, and its answer comes back.
  ASSERT_EQ(write(master, "\x03", 1), 1);
  std::string text;
  while (text.find("signal 2") == std::string::npos) {
    pollfd p{master, POLLIN, 0};
    ASSERT_EQ(poll(&p, 1, 5000), 1) << text;
    char buffer[256];
    ssize_t n = read(master, buffer, sizeof(buffer));
    ASSERT_GT(n, 0);
    text.append(buffer, static_cast<size_t>(n));
  }
  close(master);
  close(connection);
  close(listener);
}

TEST_F(CliTest, HooksGetTheStateInOrder) {
  json config = Config({"true"});
  std::string log = dir_ + "/hooks";
  auto hook = [&](const std::string& name) {
    return json::array({{{"path", "/bin/sh"},
                         {"args", {"sh", "-c", "echo $WHO $(cat) $(pwd) >> " + log}},
                         {"env", {"WHO=" + name, "PATH=/bin:/usr/bin"}}}});
  };
  for (const char* name : {"prestart", "createRuntime", "createContainer", "poststart", "poststop"}) {
    config["hooks"][name] = hook(name);
  }
  WriteConfig(config);
  EXPECT_EQ(Runsc({"run", "c"}).code, 0);
  std::istringstream lines(ReadText(log));
  std::string line;
  std::vector<std::string> statuses;
  for (const char* name : {"prestart", "createRuntime", "createContainer", "poststart", "poststop"}) {
    ASSERT_TRUE(std::getline(lines, line));
    EXPECT_EQ(line.find(std::string(name) + " {"), 0u) << line;
    EXPECT_THAT(line, HasSubstr(Bundle()));
    json state = json::parse(line.substr(line.find('{'), line.rfind('}') - line.find('{') + 1));
    EXPECT_EQ(state["id"], "c");
    statuses.push_back(state["status"]);
    EXPECT_EQ(state.contains("pid"), name != std::string("poststop"));
  }
  EXPECT_THAT(statuses, ::testing::ElementsAre("creating", "creating", "creating", "running", "stopped"));
}

TEST_F(CliTest, AHookThatTakesTooLongIsKilled) {
  json config = Config({"true"});
  config["hooks"]["prestart"] = json::array({{{"path", "/bin/sleep"}, {"args", {"sleep", "100"}}, {"timeout", 1}}});
  WriteConfig(config);
  EXPECT_THAT(Runsc({"create", "c"}).err, HasSubstr("took longer than 1 s"));
}

TEST_F(CliTest, PassesDescriptorsOnDemandOnly) {
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);  // inherited by runsc, and not asked for
  ASSERT_EQ(RunscToFile({"create", "c"}), 0);
  close(pipe_fds[1]);
  char c;
  EXPECT_EQ(read(pipe_fds[0], &c, 1), 0) << "a descriptor that was merely inherited lives on in the sandbox";
  close(pipe_fds[0]);
}

TEST_F(CliTest, SpecWritesOnce) {
  fs::remove(Bundle() + "/config.json");
  EXPECT_EQ(Runsc({"spec", "--", "exit", "5"}).code, 0);
  EXPECT_EQ(Runsc({"run", "c"}).code, 5);
  EXPECT_THAT(Runsc({"spec"}).err, HasSubstr("exists already"));
}

TEST_F(CliTest, DoRunsACommandWithoutABundle) {
  Outcome o = Runsc({"do", "-quiet", "echo", "-quiet", "x"});
  EXPECT_EQ(o.code, 0) << o.err;
  EXPECT_EQ(o.out, "-quiet x\n");
  EXPECT_TRUE(Ids().empty());
}

TEST_F(CliTest, ListIsNullWhenEmptyAndFeaturesIsJson) {
  EXPECT_EQ(Runsc({"list", "--format=json"}).out, "null\n");
  json features = json::parse(Runsc({"features"}).out);
  EXPECT_EQ(features["ociVersionMin"], "1.0.0");
  EXPECT_TRUE(features["annotations"].contains("dev.gvisor.flag.platform"));
}

TEST_F(CliTest, UsesTheCgroupAndRemovesIt) {
  if (!fs::exists("/sys/fs/cgroup/memory")) GTEST_SKIP() << "no memory cgroup of version 1 here";
  json config = Config({"trap"});
  std::string group = "/runsc-cli-test-" + std::to_string(getpid());
  config["linux"]["cgroupsPath"] = group;
  config["linux"]["resources"]["memory"]["limit"] = 512 << 20;
  WriteConfig(config);
  ASSERT_EQ(RunscToFile({"create", "--pid-file", dir_ + "/pid", "c"}), 0);
  std::string directory = "/sys/fs/cgroup/memory" + group;
  EXPECT_EQ(ReadText(directory + "/memory.limit_in_bytes"), "536870912\n");
  EXPECT_THAT(ReadText(directory + "/cgroup.procs"), HasSubstr(ReadText(dir_ + "/pid") + "\n"));
  std::ofstream(dir_ + "/r.json") << R"({"memory": {"limit": 268435456}})";
  EXPECT_EQ(Runsc({"update", "--resources", dir_ + "/r.json", "c"}).code, 0);
  EXPECT_EQ(ReadText(directory + "/memory.limit_in_bytes"), "268435456\n");
  EXPECT_EQ(Runsc({"delete", "--force", "c"}).code, 0);
  EXPECT_FALSE(fs::exists(directory));
}

}  // namespace

#include "gmock/gmock.h"
#include "tests/unit/proc/busybox_sandbox.h"

namespace sentry::boot {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

TEST(Proc, HasTheSameInodeNumbersInListingsAndStat) {
  EXPECT_EQ(RunShell("cd /proc/1; for f in fd fdinfo task ns net attr stat status maps cwd exe mem; do "
                     "a=$(busybox ls -di $f | busybox sed 's/^ *//; s/ .*//'); b=$(busybox stat -c %i $f); "
                     "c=$(busybox ls -ai | busybox grep \" $f\\$\" | busybox sed 's/^ *//; s/ .*//'); "
                     "[ $a = $b ] && [ $a = $c ] || echo $f $a $b $c; done; "
                     "[ $(busybox stat -c %i /proc/1/stat) = $(busybox stat -c %i /proc/1/stat) ] && echo same"),
            "same\n");
}

TEST(Proc, CountsLinksOfDirectories) {
  // ".", "..", and one for every directory in it.
  EXPECT_EQ(RunShell("for d in /proc/1 /proc/1/task /proc/1/task/1 /proc/1/fd /proc/sys/kernel; do "
                     "[ $(busybox stat -c %h $d) = $((2 + $(busybox find $d -maxdepth 1 -mindepth 1 -type d | busybox "
                     "wc -l))) ] || echo $d; done"),
            "");
}

TEST(Proc, AnswersForAProcessThatDiesInBetween) {
  const std::string out = RunShell(
      "busybox sleep 1000 & p=$!; exec 3</proc/$p/stat 4</proc/$p/maps 5</proc/$p/mounts; cd /proc/$p; busybox head -c "
      "1 <&4 >/dev/null; "
      "kill -9 $p; wait $p 2>/dev/null; "
      "busybox cat <&3; busybox cat <&4 | busybox wc -c; busybox ls . ; busybox cat stat; busybox ls /proc/$p; exit 0");
  EXPECT_THAT(out, HasSubstr("read error: No such process"));
  EXPECT_THAT(out, HasSubstr("stat': No such process"));
  EXPECT_THAT(out, Not(HasSubstr("cmdline")));
}

TEST(Proc, ShowsAZombie) {
  const std::string out = RunShell(
      "busybox sh -c 'busybox sleep 0 & exec busybox sleep 1' & p=$!; busybox sleep 0.5; "
      "for c in $(busybox cat /proc/$p/task/$p/children); do busybox grep State /proc/$c/status; busybox cat "
      "/proc/$c/cmdline /proc/$c/maps; "
      "busybox ls /proc/$c/fd; busybox readlink /proc/$c/exe; done; exit 0");
  EXPECT_EQ(out, "State:\tZ (zombie)\n");
}

TEST(Proc, OpensWhatDescriptorsReferTo) {
  EXPECT_EQ(RunShell("echo hi >/tmp/x; exec 3</tmp/x; busybox rm /tmp/x; busybox cat /proc/self/fd/3; busybox readlink "
                     "/proc/self/fd/3; "
                     "echo again | busybox cat /proc/self/fd/0"),
            "hi\n/tmp/x (deleted)\nagain\n");
  EXPECT_THAT(RunShell("echo x | busybox readlink /proc/self/fd/0"), MatchesRegex("pipe:\\[[0-9]+\\]\n"));
  EXPECT_EQ(
      RunShell("exec 3<>/tmp/f 4>/tmp/g 5</tmp/f; busybox stat -c %a /proc/self/fd/3 /proc/self/fd/4 /proc/self/fd/5"),
      "700\n300\n500\n");
}

TEST(Proc, LeadsFromExeToTheProgram) {
  EXPECT_EQ(RunShell("busybox readlink /proc/self/exe; busybox cp /bin/busybox /tmp/busybox; /tmp/busybox sh -c "
                     "'/tmp/busybox rm /tmp/busybox; /bin/busybox readlink /proc/$$/exe; "
                     "/bin/busybox cmp /proc/$$/exe /bin/busybox && echo same'"),
            "/bin/busybox\n/tmp/busybox (deleted)\nsame\n");
}

TEST(Proc, NamesNamespacesWithoutSayingWhereTheyAre) {
  const std::string out = RunShell(
      "busybox readlink /proc/1/ns/mnt; busybox readlink /proc/self/ns/mnt; busybox stat -L -c '[%i]' "
      "/proc/self/ns/mnt");
  std::vector<std::string> lines;
  for (size_t at = 0; at < out.size();) {
    const size_t end = out.find('\n', at);
    lines.push_back(out.substr(at, end - at));
    at = end + 1;
  }
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0], lines[1]);
  EXPECT_EQ(lines[0], "mnt:" + lines[2]);
  EXPECT_THAT(lines[0], MatchesRegex("mnt:\\[40265[0-9]+\\]"));
}

TEST(Proc, WritesWhatLinuxLetsAProcessWrite) {
  EXPECT_EQ(RunShell("echo -n abc >/proc/self/comm; busybox sh -c 'echo -n renamed >/proc/$$/comm; read x "
                     "</proc/$$/comm; echo $x'; "
                     "echo 500 >/proc/self/oom_score_adj; busybox cat /proc/$$/oom_score_adj /proc/$$/oom_adj; "
                     "echo 2000 >/proc/self/oom_score_adj; busybox cat /proc/$$/attr/current; exit 0"),
            "renamed\n500\n8\nsh: write error: Invalid argument\ncat: read error: Invalid argument\n");
}

TEST(Proc, ShowsMounts) {
  const std::string out = RunShell(
      "busybox cat /proc/self/mountinfo; busybox mkdir /tmp/'a b'; busybox mount -t tmpfs -o ro,nosuid none '/tmp/a "
      "b'; "
      "busybox tail -n 1 /proc/mounts; busybox tail -n 1 /proc/self/mountinfo; busybox tail -n 1 "
      "/proc/self/mountstats");
  EXPECT_THAT(out, ContainsRegex("[0-9]+ [0-9]+ 0:[0-9]+ / /proc rw,relatime - proc proc rw"));
  EXPECT_THAT(out, HasSubstr(" - sysfs sysfs rw\n"));
  EXPECT_THAT(out, ContainsRegex("none /tmp/a\\\\040b tmpfs ro,nosuid,relatime"));
  EXPECT_THAT(out, ContainsRegex("/ /tmp/a\\\\040b ro,nosuid,relatime - tmpfs none ro"));
  EXPECT_THAT(out, HasSubstr("device none mounted on /tmp/a\\040b with fstype tmpfs\n"));
}

TEST(Proc, ReadsEveryFileThatThereIs) {
  // Nothing hangs, crashes, or fails with what Linux would not fail with.
  const std::string out = RunShell(
      "cd /proc; busybox find 1 net/ sys tty bus sysvipc [a-z]* -type f ! -name mem ! -path '*/fdinfo/*' 2>/dev/null | "
      "while read f; do "
      "busybox cat $f 2>&1 >/dev/null; done | busybox grep -v 'attr/\\|Permission denied\\|Invalid argument' | busybox "
      "head");
  EXPECT_EQ(out, "");
}

TEST(Proc, LooksTheSameThroughWhateverOffsets) {
  EXPECT_EQ(RunShell("busybox cp /proc/1/maps /tmp/all; busybox dd if=/proc/1/maps of=/tmp/bytes bs=1 2>/dev/null; "
                     "busybox cmp /tmp/all /tmp/bytes; "
                     "busybox dd if=/proc/1/maps bs=1 skip=50 count=20 2>/dev/null >/tmp/mid; "
                     "busybox dd if=/tmp/all bs=1 skip=50 count=20 2>/dev/null | busybox cmp - /tmp/mid; "
                     "busybox dd if=/proc/1/maps bs=1M skip=1000000 count=1 2>/dev/null | busybox wc -c"),
            "0\n");
}

TEST(Proc, ServesProgramsThatLookAtProcesses) {
  const std::string out = RunShell(
      "busybox sleep 1000 & busybox ps; busybox pidof sleep; busybox pgrep -l sleep; busybox uptime; busybox free "
      ">/dev/null; "
      "busybox top -b -n 1; busybox df; kill $!; exit 0");
  EXPECT_THAT(out, HasSubstr("busybox sleep 1000"));
  EXPECT_THAT(out, HasSubstr("load average: 0.00, 0.00, 0.00"));
  EXPECT_THAT(out, HasSubstr("Mem: "));
}

}  // namespace
}  // namespace sentry::boot

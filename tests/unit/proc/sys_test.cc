#include "tests/unit/proc/busybox_sandbox.h"

namespace sentry::boot {
namespace {

TEST(Sys, TellsTheProcessorsOfTheSandbox) {
  EXPECT_EQ(RunShell("cd /sys/devices/system/cpu; busybox cat online possible present cpu2/topology/core_id "
                     "cpu2/topology/thread_siblings_list "
                     "cpu0/topology/package_cpus; busybox ls -d cpu[0-9]*; busybox ls cpu0/online 2>&1; busybox cat "
                     "../node/node0/cpumap; busybox nproc",
                     3),
            "0-2\n0-2\n0-2\n2\n2\n7\ncpu0\ncpu1\ncpu2\nls: cpu0/online: No such file or directory\n7\n3\n");
}

TEST(Sys, LeadsFromAClassToItsDevice) {
  EXPECT_EQ(
      RunShell(
          "cd /sys/class/net; busybox readlink lo; busybox cat lo/mtu lo/address lo/type; busybox ls lo/subsystem/; "
          "busybox cat lo/speed 2>&1; busybox cat /sys/dev/char/1:3/uevent"),
      "../../devices/virtual/net/lo\n65536\n00:00:00:00:00:00\n772\nlo\ncat: read error: Invalid argument\n"
      "MAJOR=1\nMINOR=3\nDEVNAME=null\nDEVMODE=0666\n");
}

TEST(Sys, HasLinksThatAllLeadSomewhere) {
  EXPECT_EQ(RunShell("busybox find /sys -type l | while read l; do busybox test -e $l || echo $l; done"), "");
}

TEST(Sys, ReadsEveryReadableFile) {
  EXPECT_EQ(RunShell("busybox find /sys -type f -perm -0400 | while read f; do busybox cat $f 2>&1 >/dev/null; done | "
                     "busybox grep -v 'Invalid argument'; exit 0"),
            "");
}

TEST(Sys, HasTheDirectoriesOfAnySysfs) {
  EXPECT_EQ(RunShell("busybox ls /sys; busybox stat -f -c %t /sys; busybox mkdir /sys/x; busybox ls -d /sys/fs/cgroup "
                     "/sys/kernel/mm/transparent_hugepage"),
            "block\nbus\nclass\ndev\ndevices\nfirmware\nfs\nkernel\nmodule\npower\n62656572\n"
            "mkdir: can't create directory '/sys/x': Operation not "
            "permitted\n/sys/fs/cgroup\n/sys/kernel/mm/transparent_hugepage\n");
}

}  // namespace
}  // namespace sentry::boot

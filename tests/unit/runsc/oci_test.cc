#include <sys/mount.h>
#include <sys/resource.h>

#include <nlohmann/json.hpp>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runsc/oci/mount_options.h"
#include "runsc/oci/names.h"
#include "runsc/oci/spec.h"

namespace runsc::oci {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

json Minimal() {
  return json::parse(
      R"({"ociVersion": "1.0.2", "process": {"args": ["/bin/true"], "cwd": "/"}, "root": {"path": "rootfs"}})");
}

std::string ErrorOf(const json& document) {
  auto spec = ParseSpec(document.dump());
  return spec.ok() ? "" : std::string(spec.status().message());
}

// Sets the member at `pointer` and returns what the parser says about it.
std::string ErrorWith(const char* pointer, json value) {
  json document = Minimal();
  document[json::json_pointer(pointer)] = std::move(value);
  return ErrorOf(document);
}

TEST(ParseSpec, TakesTheSmallestConfiguration) {
  auto spec = ParseSpec(Minimal().dump());
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_THAT(spec->process->args, ElementsAre("/bin/true"));
  EXPECT_EQ(spec->root.path, "rootfs");
  EXPECT_FALSE(spec->root.readonly);
  EXPECT_FALSE(spec->process->capabilities.has_value());
}

TEST(ParseSpec, TakesWhatSpecWrites) {
  SpecTemplate options;
  options.args = {"echo", "a b"};
  options.netns = "/run/netns/x";
  auto spec = ParseSpec(DefaultSpecJson(options));
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_THAT(spec->process->args, ElementsAre("echo", "a b"));
  ASSERT_EQ(spec->linux_.namespaces.size(), 5u);
  EXPECT_EQ(spec->linux_.namespaces[1].type, "network");
  EXPECT_EQ(spec->linux_.namespaces[1].path, "/run/netns/x");
  EXPECT_EQ(spec->mounts.size(), 3u);
  EXPECT_EQ(spec->process->rlimits[0].resource, RLIMIT_NOFILE);
}

TEST(ParseSpec, ReadsEveryPartOfAProcess) {
  json document = Minimal();
  document["process"] = json::parse(R"({
    "terminal": true, "consoleSize": {"height": 25, "width": 80}, "cwd": "/tmp", "args": ["sh", "-c", "x"],
    "env": ["A=1", "B="], "user": {"uid": 5, "gid": 6, "umask": 63, "additionalGids": [7, 8]},
    "capabilities": {"bounding": ["CAP_CHOWN"], "ambient": ["CAP_KILL", "CAP_CHOWN"],
                     "permitted": ["CAP_KILL"], "inheritable": ["CAP_KILL"]},
    "rlimits": [{"type": "RLIMIT_NPROC", "soft": 10, "hard": 18446744073709551615}],
    "noNewPrivileges": true, "oomScoreAdj": -5})");
  auto spec = ParseSpec(document.dump());
  ASSERT_TRUE(spec.ok()) << spec.status();
  const Process& p = *spec->process;
  EXPECT_TRUE(p.terminal);
  EXPECT_EQ(p.console_rows, 25);
  EXPECT_EQ(p.console_columns, 80);
  EXPECT_EQ(p.user.uid, 5u);
  EXPECT_EQ(p.user.umask, 63u);
  EXPECT_THAT(p.user.additional_gids, ElementsAre(7, 8));
  EXPECT_EQ(p.capabilities->bounding, 1u);
  EXPECT_EQ(p.capabilities->ambient, 1u << 5);
  EXPECT_EQ(p.rlimits[0].hard, ~uint64_t{0});
  EXPECT_EQ(p.oom_score_adj, -5);
}

TEST(ParseSpec, NamesTheMemberThatIsWrong) {
  EXPECT_THAT(ErrorWith("/process/args", json::array({"a", 5})),
              HasSubstr("config.json: process.args[1] must be a string, not a number"));
  EXPECT_THAT(ErrorWith("/process/args", json::array()), HasSubstr("process.args must name the program"));
  EXPECT_THAT(ErrorWith("/process/cwd", "tmp"), HasSubstr("process.cwd must be an absolute path"));
  EXPECT_THAT(ErrorWith("/process/env", json::array({"X"})), HasSubstr("process.env[0] must be NAME=value"));
  EXPECT_THAT(ErrorWith("/process/user", json{{"uid", -1}}), HasSubstr("process.user.uid must be from 0"));
  EXPECT_THAT(ErrorWith("/process/user", json{{"uid", 1.5}}), HasSubstr("process.user.uid must be a whole number"));
  EXPECT_THAT(ErrorWith("/process/capabilities", json{{"bounding", {"NONSENSE"}}}),
              HasSubstr("capabilities.bounding[0]"));
  EXPECT_THAT(ErrorWith("/process/rlimits", json::parse(R"([{"type":"RLIMIT_X","soft":1,"hard":1}])")),
              HasSubstr("process.rlimits[0].type is no resource limit"));
  EXPECT_THAT(ErrorWith("/process/rlimits", json::parse(R"([{"type":"RLIMIT_CPU","soft":2,"hard":1}])")),
              HasSubstr("soft limit above"));
  EXPECT_THAT(ErrorWith("/ociVersion", "2.0.0"), HasSubstr("ociVersion is \"2.0.0\""));
  EXPECT_THAT(ErrorWith("/root", json::object()), HasSubstr("root.path must be given"));
  EXPECT_THAT(ErrorWith("/mounts", 3), HasSubstr("mounts must be an array, not a number"));
  EXPECT_THAT(ErrorWith("/linux", json::parse(R"({"namespaces":[{"type":"moon"}]})")),
              HasSubstr("linux.namespaces[0].type"));
  EXPECT_THAT(ErrorWith("/hooks", json::parse(R"({"prestart":[{"path":"x"}]})")), HasSubstr("hooks.prestart[0].path"));
  EXPECT_THAT(ErrorWith("/hooks", json::parse(R"({"poststop":[{"path":"/x","timeout":0}]})")),
              HasSubstr("timeout must be"));
  EXPECT_THAT(ErrorWith("/annotations", json{{"a", 1}}), HasSubstr("annotations[\"a\"] must be a string"));
  EXPECT_THAT(ErrorWith("/process/args", json::array({std::string("a\0b", 3)})), HasSubstr("null character"));
}

TEST(ParseSpec, SaysWhereTheJsonIsBroken) {
  auto spec = ParseSpec("{\n  \"a\": }");
  ASSERT_FALSE(spec.ok());
  EXPECT_THAT(std::string(spec.status().message()), HasSubstr("config.json is not valid JSON: line 2"));
  EXPECT_THAT(std::string(ParseSpec("[]").status().message()), HasSubstr("must be an object"));
  EXPECT_FALSE(ParseSpec("").ok());
  EXPECT_FALSE(ParseSpec(std::string(100000, '[')).ok());
}

TEST(ParseProcess, UsesTheNameOfTheFile) {
  auto process = ParseProcess(R"({"args": [], "cwd": "/"})", "p.json");
  EXPECT_THAT(std::string(process.status().message()), HasSubstr("p.json: args must name"));
}

TEST(ParseResources, KnowsUnlimited) {
  auto r = ParseResources(R"({"memory": {"limit": -1}, "cpu": {"quota": 50000, "period": 100000, "cpus": "0-1"},
                              "pids": {"limit": 10}, "unified": {"memory.high": "max"}})",
                          "r");
  ASSERT_TRUE(r.ok()) << r.status();
  EXPECT_EQ(r->memory_limit, -1);
  EXPECT_EQ(r->cpu_quota, 50000);
  EXPECT_EQ(r->cpu_period, 100000u);
  EXPECT_EQ(r->cpuset_cpus, "0-1");
  EXPECT_FALSE(r->memory_swap.has_value());
  EXPECT_FALSE(ParseResources(R"({"unified": {"../x": "1"}})", "r").ok());
}

TEST(MountOptions, SplitFlagsFromData) {
  MountOptions o = ParseMountOptions({"nosuid", "ro", "mode=755", "size=64k", "rbind", "rprivate", "rw"});
  EXPECT_EQ(o.flags, uint64_t{MS_NOSUID});
  EXPECT_EQ(o.data, "mode=755,size=64k");
  EXPECT_TRUE(o.bind);
  EXPECT_TRUE(o.recursive);
}

TEST(Names, SignalsInEverySpelling) {
  EXPECT_EQ(SignalNumber("9"), 9);
  EXPECT_EQ(SignalNumber("KILL"), 9);
  EXPECT_EQ(SignalNumber("sigterm"), 15);
  EXPECT_EQ(SignalNumber("SIGRTMIN+3"), 37);
  EXPECT_EQ(SignalNumber("RTMAX-1"), 63);
  EXPECT_FALSE(SignalNumber("0").has_value());
  EXPECT_FALSE(SignalNumber("65").has_value());
  EXPECT_FALSE(SignalNumber("").has_value());
  EXPECT_FALSE(SignalNumber("9x").has_value());
}

TEST(Names, CapabilitiesAreInKernelOrder) {
  EXPECT_EQ(CapabilityNumber("CAP_SYS_ADMIN"), 21);
  EXPECT_EQ(CapabilityNumber("cap_checkpoint_restore"), 40);
  EXPECT_EQ(CapabilityNames().size(), 41u);
  EXPECT_FALSE(CapabilityNumber("CAP_").has_value());
}

}  // namespace
}  // namespace runsc::oci

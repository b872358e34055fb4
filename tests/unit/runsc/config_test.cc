#include "runsc/config/config.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runsc/config/flag_set.h"

namespace runsc::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class FlagSetTest : public ::testing::Test {
 protected:
  FlagSetTest() {
    flags_.Bool("debug", &debug_, "");
    flags_.String("root", &root_, "");
    flags_.Int("n", &n_, "");
    flags_.StringList("env", &env_, "");
    flags_.Alias("e", "env");
    flags_.IgnoredString("old");
    flags_.IgnoredBool("old-bool");
  }
  // The words that are left, or the error.
  std::string Parse(std::vector<std::string> words) {
    size_t end = 0;
    absl::Status status = flags_.Parse(words, 0, &end);
    if (!status.ok()) return std::string(status.message());
    std::string rest;
    for (size_t i = end; i < words.size(); ++i) rest += words[i] + ";";
    return rest;
  }
  FlagSet flags_;
  bool debug_ = false;
  std::string root_ = "default";
  int64_t n_ = 7;
  std::vector<std::string> env_;
};

TEST_F(FlagSetTest, OneDashOrTwoEqualsOrSpace) {
  EXPECT_EQ(Parse({"-root", "/a", "--n=3", "-debug", "create", "-x"}), "create;-x;");
  EXPECT_EQ(root_, "/a");
  EXPECT_EQ(n_, 3);
  EXPECT_TRUE(debug_);
}

TEST_F(FlagSetTest, ABooleanTakesAValueOnlyAfterEquals) {
  EXPECT_EQ(Parse({"--debug=true", "--debug=false", "false"}), "false;");
  EXPECT_FALSE(debug_);
  EXPECT_THAT(Parse({"--debug=maybe"}), HasSubstr("invalid value \"maybe\" for flag -debug"));
}

TEST_F(FlagSetTest, StopsAtTheFirstWordThatIsNoFlag) {
  EXPECT_EQ(Parse({"ls", "-debug"}), "ls;-debug;");
  EXPECT_EQ(Parse({"--", "-debug"}), "-debug;");
  EXPECT_EQ(Parse({"-", "x"}), "-;x;");
  EXPECT_FALSE(debug_);
}

TEST_F(FlagSetTest, CollectsListsAndIgnoresWhatIsToBeIgnored) {
  EXPECT_EQ(Parse({"-e", "A=1", "--env=B=2", "-old", "x", "-old-bool", "rest"}), "rest;");
  EXPECT_THAT(env_, ElementsAre("A=1", "B=2"));
}

TEST_F(FlagSetTest, SaysWhatIsWrong) {
  EXPECT_EQ(Parse({"-bogus"}), "flag provided but not defined: -bogus");
  EXPECT_EQ(Parse({"-root"}), "flag needs an argument: -root");
  EXPECT_THAT(Parse({"---x"}), HasSubstr("bad flag syntax"));
  EXPECT_THAT(Parse({"-=x"}), HasSubstr("bad flag syntax"));
  EXPECT_THAT(Parse({"-n", "1x"}), HasSubstr("must be a number"));
}

TEST(Overlay, EverySpelling) {
  EXPECT_EQ(ParseOverlay("none")->scope, Overlay::Scope::kNone);
  EXPECT_EQ(ParseOverlay("root:memory")->scope, Overlay::Scope::kRoot);
  EXPECT_EQ(ParseOverlay("all:memory,size=2g")->size, uint64_t{2} << 30);
  EXPECT_EQ(ParseOverlay("root:self")->medium, Overlay::Medium::kSelf);
  EXPECT_EQ(ParseOverlay("root:dir=/tmp/x,size=10m")->dir, "/tmp/x");
  for (const char* bad : {"", "root", "some:memory", "root:disk", "root:memory,size=", "root:memory,size=99999999999g",
                          "root:memory,mode=1", "root:dir=relative", "root:memory,size=0"}) {
    EXPECT_FALSE(ParseOverlay(bad).ok()) << bad;
  }
}

TEST(Config, RefusesAnOverlayOverSharedFiles) {
  Config config;
  EXPECT_TRUE(Validate(config).ok());
  config.file_access = FileAccess::kShared;
  EXPECT_FALSE(Validate(config).ok());
  config.overlay.scope = Overlay::Scope::kNone;
  EXPECT_TRUE(Validate(config).ok());
}

TEST(Config, TakesTheFlagsEnginesGive) {
  Config config;
  FlagSet flags;
  RegisterFlags(flags, config);
  size_t end = 0;
  ASSERT_TRUE(
      flags.Parse({"--root", "/r", "--log", "/l", "--log-format", "json", "--systemd-cgroup", "create"}, 0, &end).ok());
  EXPECT_EQ(end, 7u);
  EXPECT_EQ(config.log_format, "json");
  EXPECT_TRUE(config.systemd_cgroup);
  ASSERT_TRUE(flags
                  .Parse({"--network=host", "--overlay2=none", "--host-uds=open", "--directfs=false",
                          "--watchdog-action=panic"},
                         0, &end)
                  .ok());
  EXPECT_EQ(config.network, Network::kHost);
  absl::Status status = flags.Parse({"--platform=windows"}, 0, &end);
  EXPECT_THAT(std::string(status.message()), HasSubstr("must be one of kvm, ptrace, systrap"));
}

TEST(Annotations, OnlyThoseThatCannotWeakenTheSandbox) {
  Config config;
  EXPECT_TRUE(ApplyAnnotations({{"dev.gvisor.flag.debug", "true"}, {"other", "x"}}, config).ok());
  EXPECT_TRUE(config.debug);
  EXPECT_TRUE(ApplyAnnotations({{"dev.gvisor.flag.network", "none"}}, config).ok());
  EXPECT_EQ(config.network, Network::kNone);
  EXPECT_EQ(ApplyAnnotations({{"dev.gvisor.flag.network", "host"}}, config).code(),
            absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(ApplyAnnotations({{"dev.gvisor.flag.root", "/x"}}, config).code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(ApplyAnnotations({{"dev.gvisor.flag.nonsense", "/x"}}, config).code(), absl::StatusCode::kInvalidArgument);
  config.allow_flag_override = true;
  EXPECT_TRUE(ApplyAnnotations({{"dev.gvisor.flag.network", "host"}}, config).ok());
  EXPECT_EQ(config.network, Network::kHost);
}

}  // namespace
}  // namespace runsc::config

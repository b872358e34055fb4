#include "base/logging.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <regex>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/unique_fd.h"

namespace base {
namespace {

class LoggingTest : public testing::Test {
 protected:
  ~LoggingTest() override {
    SetUserLog({});
    SetDebugLog({});
  }
  std::string Text() {
    std::string text(lseek(fd(), 0, SEEK_END), '\0');
    EXPECT_EQ(pread(fd(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
    return text;
  }
  int fd() const { return file_.get(); }

 private:
  UniqueFd file_{memfd_create("log", MFD_CLOEXEC)};
};

TEST_F(LoggingTest, WritesTextLines) {
  SetDebugLog({.fd = fd(), .format = LogFormat::kText, .level = LogLevel::kDebug});
  LOG_INFO("hello %d", 12);
  LOG_ERROR("bad");
  EXPECT_TRUE(std::regex_match(Text(), std::regex(R"(I\d{4} \d\d:\d\d:\d\d\.\d{6} logging_test\.cc:\d+\] hello 12
E\d{4} \d\d:\d\d:\d\d\.\d{6} logging_test\.cc:\d+\] bad
)"))) << Text();
}

TEST_F(LoggingTest, WritesJsonLines) {
  SetUserLog({.fd = fd(), .format = LogFormat::kJson, .level = LogLevel::kInfo});
  LOG_WARNING("say \"hi\"\\ \t\x01 caf\xc3\xa9 \xff end\nmore");
  auto json = nlohmann::json::parse(Text());
  EXPECT_EQ(json["msg"], "say \"hi\"\\ \t\x01 caf\xc3\xa9 \xef\xbf\xbd end\nmore");
  EXPECT_EQ(json["level"], "warning");
  EXPECT_TRUE(
      std::regex_match(json["time"].get<std::string>(), std::regex(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)")));
}

TEST_F(LoggingTest, TheTimeIsTodaysInUtc) {
  SetUserLog({.fd = fd(), .format = LogFormat::kJson, .level = LogLevel::kInfo});
  time_t before = time(nullptr);
  LOG_INFO("now");
  time_t after = time(nullptr);
  tm parsed{};
  strptime(nlohmann::json::parse(Text())["time"].get<std::string>().c_str(), "%Y-%m-%dT%H:%M:%S", &parsed);
  time_t logged = timegm(&parsed);
  EXPECT_GE(logged, before);
  EXPECT_LE(logged, after);
}

TEST_F(LoggingTest, FiltersByLevelWithoutEvaluatingTheArguments) {
  SetUserLog({.fd = fd(), .format = LogFormat::kText, .level = LogLevel::kWarning});
  int evaluated = 0;
  LOG_INFO("%d", ++evaluated);
  LOG_DEBUG("%d", ++evaluated);
  EXPECT_EQ(evaluated, 0);
  EXPECT_EQ(Text(), "");
  EXPECT_FALSE(LogEnabled(LogLevel::kInfo));
  EXPECT_TRUE(LogEnabled(LogLevel::kError));
}

TEST_F(LoggingTest, BothSinksGetWhatTheirLevelsAllow) {
  UniqueFd other(memfd_create("log", MFD_CLOEXEC));
  SetUserLog({.fd = fd(), .format = LogFormat::kText, .level = LogLevel::kError});
  SetDebugLog({.fd = other.get(), .format = LogFormat::kText, .level = LogLevel::kDebug});
  LOG_DEBUG("detail");
  EXPECT_EQ(Text(), "");
  EXPECT_GT(lseek(other.get(), 0, SEEK_END), 0);
}

TEST_F(LoggingTest, AGuestsStringCannotMakeUpLines) {
  SetDebugLog({.fd = fd(), .format = LogFormat::kText, .level = LogLevel::kDebug});
  LOG_INFO("name: %s", "x\nE0101 00:00:00.000000 fake.cc:1] forged\x1b[31m");
  std::string text = Text();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  EXPECT_THAT(text, testing::HasSubstr("x\\nE0101"));
  EXPECT_THAT(text, testing::HasSubstr("\\x1b[31m"));
}

TEST_F(LoggingTest, LongLinesAreNotCut) {
  SetDebugLog({.fd = fd(), .format = LogFormat::kText, .level = LogLevel::kDebug});
  std::string text(10000, 'x');
  LOG_INFO("%s end", text.c_str());
  EXPECT_THAT(Text(), testing::HasSubstr(text + " end\n"));
}

TEST_F(LoggingTest, FatalMessagesGoToTheUserLogWhateverItsLevel) {
  SetUserLog({.fd = fd(), .format = LogFormat::kJson, .level = LogLevel::kError});
  LogFatalToUser("no such container: \"a\"");
  auto json = nlohmann::json::parse(Text());
  EXPECT_EQ(json["msg"], "no such container: \"a\"");
  EXPECT_EQ(json["level"], "error");
}

TEST_F(LoggingTest, LinesOfManyThreadsStayWhole) {
  UniqueFd append(open(("/proc/self/fd/" + std::to_string(fd())).c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  SetDebugLog({.fd = append.get(), .format = LogFormat::kText, .level = LogLevel::kDebug});
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < 200; ++i) LOG_INFO("thread %d line %d %s", t, i, std::string(100, 'a' + t).c_str());
    });
  }
  for (auto& thread : threads) thread.join();
  std::istringstream lines(Text());
  std::string line;
  int count = 0;
  std::regex whole(R"(I\d{4} \S+ \S+\] thread \d line \d+ (a+|b+|c+|d+))");
  while (std::getline(lines, line)) {
    EXPECT_TRUE(std::regex_match(line, whole)) << line;
    ++count;
  }
  EXPECT_EQ(count, 800);
}

TEST(CheckDeathTest, SaysWhereAndWhat) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(CHECK(1 + 1 == 3), "logging_test.cc:[0-9]+: CHECK failed: 1 \\+ 1 == 3");
}

}  // namespace
}  // namespace base

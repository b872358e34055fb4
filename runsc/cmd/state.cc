#include <algorithm>
#include <cstdio>
#include <ctime>

#include "base/status_macros.h"
#include "runsc/cmd/command.h"
#include "runsc/container/container.h"

namespace runsc::cmd {
namespace {

std::string Rfc3339(int64_t unix_ns) {
  time_t seconds = unix_ns / 1000000000;
  tm utc;
  gmtime_r(&seconds, &utc);
  char date[32], text[64];
  strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &utc);
  snprintf(text, sizeof(text), "%s.%09dZ", date, static_cast<int>(unix_ns % 1000000000));
  return text;
}

// Columns as wide as their widest cell, three blanks apart.
void PrintTable(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      int width = i + 1 < row.size() ? static_cast<int>(widths[i] + 3) : 0;
      printf("%-*s", width, row[i].c_str());
    }
    printf("\n");
  }
}

}  // namespace

absl::StatusOr<int> State(Context& context) {
  config::FlagSet flags;
  ASSIGN_OR_RETURN(Arguments arguments, ParseArguments(context, flags, "<id>", 1, 1));
  if (arguments.help_asked) return 0;
  ASSIGN_OR_RETURN(container::Container container,
                   container::Container::Open(context.config, arguments.values[0], false));
  printf("%s\n", container::OciStateJson(container.state, container.status, true).c_str());
  return 0;
}

absl::StatusOr<int> List(Context& context) {
  config::FlagSet flags;
  bool quiet = false;
  std::string format = "text";
  flags.Bool("quiet", &quiet, "ids only");
  flags.Alias("q", "quiet");
  flags.String("format", &format, "text or json");
  flags.Alias("f", "format");
  flags.IgnoredBool("sandbox");
  ASSIGN_OR_RETURN(Arguments arguments, ParseArguments(context, flags, "[flags]", 0, 0));
  if (arguments.help_asked) return 0;
  if (format != "text" && format != "json") {
    return absl::InvalidArgumentError("invalid value \"" + format + "\" for flag -format: must be text or json");
  }
  ASSIGN_OR_RETURN(std::vector<std::string> ids, container::ListIds(context.config.root));
  std::vector<container::Container> containers;
  for (const std::string& id : ids) {
    auto container = container::Container::Open(context.config, id, false);
    if (container.ok()) containers.push_back(std::move(*container));  // the others were deleted meanwhile
  }
  if (quiet) {
    for (const auto& c : containers) printf("%s\n", c.state.id.c_str());
    return 0;
  }
  if (format == "json") {
    std::string array;
    for (const auto& c : containers) {
      array += (array.empty() ? "[" : ",") + container::OciStateJson(c.state, c.status, false);
    }
    printf("%s\n", array.empty() ? "null" : (array + "]").c_str());
    return 0;
  }
  std::vector<std::vector<std::string>> rows = {{"ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"}};
  for (const auto& c : containers) {
    int pid = c.status == container::Status::kStopped ? 0 : c.state.sandbox.pid;
    rows.push_back({c.state.id, std::to_string(pid), std::string(container::StatusName(c.status)), c.state.bundle,
                    Rfc3339(c.state.created_unix_ns), c.state.owner});
  }
  PrintTable(rows);
  return 0;
}

absl::StatusOr<int> Ps(Context& context) {
  config::FlagSet flags;
  std::string format = "table";
  flags.String("format", &format, "table or json");
  flags.Alias("f", "format");
  ASSIGN_OR_RETURN(Arguments arguments, ParseArguments(context, flags, "[-format table|json] <id>", 1, 1));
  if (arguments.help_asked) return 0;
  if (format != "table" && format != "json") {
    return absl::InvalidArgumentError("invalid value \"" + format + "\" for flag -format: must be table or json");
  }
  ASSIGN_OR_RETURN(container::Container container,
                   container::Container::Open(context.config, arguments.values[0], false));
  ASSIGN_OR_RETURN(auto client, container.Connect());
  ASSIGN_OR_RETURN(auto processes, client.Processes());
  if (format == "json") {
    std::string array = "[";
    for (const auto& p : processes) array += (array.size() > 1 ? "," : "") + std::to_string(p.pid);
    printf("%s]\n", array.c_str());
    return 0;
  }
  std::vector<std::vector<std::string>> rows = {{"UID", "PID", "PPID", "PGID", "C", "TTY", "STIME", "TIME", "CMD"}};
  for (const auto& p : processes) {
    time_t start = p.start_time_unix_ns / 1000000000;
    tm local;
    localtime_r(&start, &local);
    char stime[16], time[32];
    strftime(stime, sizeof(stime), "%H:%M", &local);
    uint64_t cpu = p.cpu_time_ns / 1000000000;
    snprintf(time, sizeof(time), "%02u:%02u:%02u", static_cast<unsigned>(cpu / 3600),
             static_cast<unsigned>(cpu / 60 % 60), static_cast<unsigned>(cpu % 60));
    rows.push_back({std::to_string(p.uid), std::to_string(p.pid), std::to_string(p.ppid), std::to_string(p.pgid),
                    std::to_string(p.cpu_percent), p.tty, stime, time, p.command});
  }
  PrintTable(rows);
  return 0;
}

}  // namespace runsc::cmd

// JsonReader: typed access to a JSON document that remembers the way to each member, so that an error can name it. The
// first error is kept and everything after it returns defaults: a parser reads straight down and asks for the status
// once.
#ifndef RUNSC_OCI_JSON_READER_H_
#define RUNSC_OCI_JSON_READER_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace runsc::oci {

// Parses text; the error says `NAME: line 3, column 7: …`.
absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, std::string_view name);

class JsonReader {
 public:
  // `document` and `status` outlive the reader; `name` starts every error message.
  JsonReader(const nlohmann::json& document, std::string_view name, absl::Status& status)
      : JsonReader(&document, std::string(name) + ": ", "", status) {}

  // A member; absent ones, and null, are readers that do not exist().
  JsonReader operator[](const char* key) const;
  bool exists() const { return value_ != nullptr; }
  const std::string& path() const { return path_; }

  // Each returns the default when the member is absent. A member of the wrong type is an error.
  bool Bool(bool fallback = false) const;
  std::string String(std::string fallback = "") const;
  // An integer in [min, max]. A whole number written as 1e3 or 1.0 counts as Go's encoder may write it.
  int64_t Int(int64_t min = std::numeric_limits<int64_t>::min(), int64_t max = std::numeric_limits<int64_t>::max(),
              int64_t fallback = 0) const;
  uint64_t Uint64() const;
  std::vector<std::string> Strings() const;
  std::map<std::string, std::string> StringMap() const;
  void ForEach(const std::function<void(const JsonReader&)>& f) const;

  // Records `PATH what` as the error, unless there is one already.
  void Fail(std::string_view what) const;
  void Require(std::string_view what) const {
    if (!exists()) Fail(what);
  }

 private:
  JsonReader(const nlohmann::json* value, std::string name, std::string path, absl::Status& status)
      : value_(value), name_(std::move(name)), path_(std::move(path)), status_(status) {}
  void FailType(const char* wanted) const;

  const nlohmann::json* value_;
  std::string name_;
  std::string path_;
  absl::Status& status_;
};

}  // namespace runsc::oci

#endif  // RUNSC_OCI_JSON_READER_H_

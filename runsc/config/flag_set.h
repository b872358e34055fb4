// FlagSet: command-line flags as Go's flag package reads them, because that is how the callers of this command line
// spell them: -x and
// --x are the same, a value follows after '=' or as the next word, a boolean takes a value only after '=', and the
// first word that is no flag (or "--") ends them. That last rule is why this is not CLI11: `runsc do -quiet ls --color`
// hands --color to ls.
#ifndef RUNSC_CONFIG_FLAG_SET_H_
#define RUNSC_CONFIG_FLAG_SET_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace runsc::config {

class FlagSet {
 public:
  // Targets outlive the set; they hold the defaults until a flag is parsed.
  void Bool(const std::string& name, bool* target, const std::string& help);
  void Int(const std::string& name, int64_t* target, const std::string& help);
  void String(const std::string& name, std::string* target, const std::string& help);
  // May be given several times.
  void StringList(const std::string& name, std::vector<std::string>* target, const std::string& help);
  // A value that `set` checks; its error is shown after the flag's name.
  void Custom(const std::string& name, const std::string& default_text, const std::string& help,
              std::function<absl::Status(const std::string&)> set);
  // Another name of a flag that exists.
  void Alias(const std::string& alias, const std::string& name);
  // Accepted and without effect.
  void IgnoredBool(const std::string& name);
  void IgnoredString(const std::string& name);

  // Parses words from `begin` on, up to the first that is no flag; returns its index in `end`. -h, -help and --help set
  // help_asked().
  absl::Status Parse(const std::vector<std::string>& words, size_t begin, size_t* end);
  // Sets one flag from its text; kNotFound if there is none of this name.
  absl::Status Set(const std::string& name, const std::string& value);
  bool help_asked() const { return help_asked_; }
  bool Has(const std::string& name) const { return flags_.count(name) != 0; }

  // One line per flag, in order of names; ignored ones are left out.
  std::string Help() const;
  struct Description {
    std::string name, default_text;
  };
  std::vector<Description> Describe() const;

 private:
  struct Flag {
    bool is_bool = false;
    bool ignored = false;
    std::string default_text;
    std::string help;
    std::function<absl::Status(const std::string&)> set;
  };
  std::map<std::string, Flag> flags_;
  bool help_asked_ = false;
};

// "true", "false", "1", "0", "t", "f", … as Go's strconv.ParseBool.
bool ParseBool(std::string_view text, bool* value);

}  // namespace runsc::config

#endif  // RUNSC_CONFIG_FLAG_SET_H_

#include "runsc/config/flag_set.h"

#include <charconv>

#include "base/status_macros.h"

namespace runsc::config {

bool ParseBool(std::string_view text, bool* value) {
  for (std::string_view t : {"1", "t", "T", "true", "TRUE", "True"}) {
    if (text == t) return *value = true, true;
  }
  for (std::string_view f : {"0", "f", "F", "false", "FALSE", "False"}) {
    if (text == f) return *value = false, true;
  }
  return false;
}

void FlagSet::Bool(const std::string& name, bool* target, const std::string& help) {
  Custom(name, *target ? "true" : "false", help, [target](const std::string& text) {
    return ParseBool(text, target) ? absl::OkStatus() : absl::InvalidArgumentError("must be true or false");
  });
  flags_[name].is_bool = true;
}

void FlagSet::Int(const std::string& name, int64_t* target, const std::string& help) {
  Custom(name, std::to_string(*target), help, [target](const std::string& text) {
    int64_t value = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return absl::InvalidArgumentError("must be a number");
    *target = value;
    return absl::OkStatus();
  });
}

void FlagSet::String(const std::string& name, std::string* target, const std::string& help) {
  Custom(name, *target, help, [target](const std::string& text) {
    *target = text;
    return absl::OkStatus();
  });
}

void FlagSet::StringList(const std::string& name, std::vector<std::string>* target, const std::string& help) {
  Custom(name, "", help, [target](const std::string& text) {
    target->push_back(text);
    return absl::OkStatus();
  });
}

void FlagSet::Custom(const std::string& name, const std::string& default_text, const std::string& help,
                     std::function<absl::Status(const std::string&)> set) {
  flags_[name] = Flag{false, false, default_text, help, std::move(set)};
}

void FlagSet::Alias(const std::string& alias, const std::string& name) {
  flags_[alias] = flags_.at(name);
  flags_[alias].ignored = true;  // not shown a second time
}

void FlagSet::IgnoredBool(const std::string& name) {
  flags_[name] =
      Flag{true, true, "", "", [](const std::string& text) {
             bool value;
             return ParseBool(text, &value) ? absl::OkStatus() : absl::InvalidArgumentError("must be true or false");
           }};
}

void FlagSet::IgnoredString(const std::string& name) {
  flags_[name] = Flag{false, true, "", "", [](const std::string&) { return absl::OkStatus(); }};
}

absl::Status FlagSet::Set(const std::string& name, const std::string& value) {
  auto it = flags_.find(name);
  if (it == flags_.end()) return absl::NotFoundError("flag provided but not defined: -" + name);
  absl::Status status = it->second.set(value);
  if (!status.ok()) {
    return absl::InvalidArgumentError("invalid value \"" + value + "\" for flag -" + name + ": " +
                                      std::string(status.message()));
  }
  return absl::OkStatus();
}

absl::Status FlagSet::Parse(const std::vector<std::string>& words, size_t begin, size_t* end) {
  size_t i = begin;
  while (i < words.size()) {
    std::string_view word = words[i];
    if (word.size() < 2 || word[0] != '-') break;
    ++i;
    if (word == "--") break;
    word.remove_prefix(word[1] == '-' ? 2 : 1);
    size_t equals = word.find('=');
    std::string name(word.substr(0, equals));
    if (name.empty() || name[0] == '-') return absl::InvalidArgumentError("bad flag syntax: " + words[i - 1]);
    if ((name == "h" || name == "help") && flags_.count(name) == 0) {
      help_asked_ = true;
      continue;
    }
    auto it = flags_.find(name);
    if (it == flags_.end()) return absl::InvalidArgumentError("flag provided but not defined: -" + name);
    std::string value;
    if (equals != std::string_view::npos) {
      value = word.substr(equals + 1);
    } else if (it->second.is_bool) {
      value = "true";
    } else if (i < words.size()) {
      value = words[i++];
    } else {
      return absl::InvalidArgumentError("flag needs an argument: -" + name);
    }
    RETURN_IF_ERROR(Set(name, value));
  }
  *end = i;
  return absl::OkStatus();
}

std::string FlagSet::Help() const {
  std::string text;
  for (const auto& [name, flag] : flags_) {
    if (flag.ignored) continue;
    text += "  -" + name + "\n\t" + flag.help;
    if (!flag.default_text.empty() && flag.default_text != "false") text += " (default " + flag.default_text + ")";
    text += "\n";
  }
  return text;
}

std::vector<FlagSet::Description> FlagSet::Describe() const {
  std::vector<Description> list;
  for (const auto& [name, flag] : flags_) {
    if (!flag.ignored) list.push_back({name, flag.default_text});
  }
  return list;
}

}  // namespace runsc::config

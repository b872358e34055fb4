#include "runsc/oci/json_reader.h"

#include <cmath>

namespace runsc::oci {
namespace {

const char* TypeName(const nlohmann::json& value) {
  switch (value.type()) {
    case nlohmann::json::value_t::object:
      return "an object";
    case nlohmann::json::value_t::array:
      return "an array";
    case nlohmann::json::value_t::string:
      return "a string";
    case nlohmann::json::value_t::boolean:
      return "a boolean";
    default:
      return "a number";
  }
}

}  // namespace

absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, std::string_view name) {
  // The library reports the position only through an exception; it ends here.
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception& e) {
    std::string_view what = e.what();
    // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error while …"
    size_t at = what.find(" at ");
    if (at != std::string_view::npos) what.remove_prefix(at + 4);
    return absl::InvalidArgumentError(std::string(name) + " is not valid JSON: " + std::string(what));
  }
}

void JsonReader::Fail(std::string_view what) const {
  if (!status_.ok()) return;
  status_ = absl::InvalidArgumentError(name_ + (path_.empty() ? "the document" : path_) + " " + std::string(what));
}

void JsonReader::FailType(const char* wanted) const {
  Fail(std::string("must be ") + wanted + ", not " + TypeName(*value_));
}

JsonReader JsonReader::operator[](const char* key) const {
  std::string path = path_.empty() ? key : path_ + "." + key;
  const nlohmann::json* member = nullptr;
  if (value_ != nullptr) {
    if (!value_->is_object()) {
      FailType("an object");
    } else if (auto it = value_->find(key); it != value_->end() && !it->is_null()) {
      member = &*it;
    }
  }
  return JsonReader(member, name_, std::move(path), status_);
}

bool JsonReader::Bool(bool fallback) const {
  if (!exists()) return fallback;
  if (value_->is_boolean()) return value_->get<bool>();
  FailType("a boolean");
  return fallback;
}

std::string JsonReader::String(std::string fallback) const {
  if (!exists()) return fallback;
  if (!value_->is_string()) {
    FailType("a string");
    return fallback;
  }
  const auto& text = value_->get_ref<const std::string&>();
  // Every string ends up as a C string in a system call or in the guest's memory.
  if (text.find('\0') != std::string::npos) {
    Fail("must not contain a null character");
    return fallback;
  }
  return text;
}

int64_t JsonReader::Int(int64_t min, int64_t max, int64_t fallback) const {
  if (!exists()) return fallback;
  int64_t n = 0;
  if (value_->is_number_unsigned()) {
    uint64_t u = value_->get<uint64_t>();
    if (u > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      Fail("is too large");
      return fallback;
    }
    n = static_cast<int64_t>(u);
  } else if (value_->is_number_integer()) {
    n = value_->get<int64_t>();
  } else if (value_->is_number_float() && std::trunc(value_->get<double>()) == value_->get<double>() &&
             std::fabs(value_->get<double>()) < 9e15) {
    n = static_cast<int64_t>(value_->get<double>());
  } else {
    if (value_->is_number()) {
      Fail("must be a whole number");
    } else {
      FailType("a number");
    }
    return fallback;
  }
  if (n < min || n > max) {
    Fail("must be from " + std::to_string(min) + " to " + std::to_string(max));
    return fallback;
  }
  return n;
}

uint64_t JsonReader::Uint64() const {
  if (exists() && value_->is_number_unsigned()) return value_->get<uint64_t>();
  return static_cast<uint64_t>(Int(0));
}

void JsonReader::ForEach(const std::function<void(const JsonReader&)>& f) const {
  if (!exists()) return;
  if (!value_->is_array()) return FailType("an array");
  size_t i = 0;
  for (const auto& element : *value_) {
    f(JsonReader(&element, name_, path_ + "[" + std::to_string(i++) + "]", status_));
  }
}

std::vector<std::string> JsonReader::Strings() const {
  std::vector<std::string> list;
  ForEach([&](const JsonReader& element) { list.push_back(element.String()); });
  return list;
}

std::map<std::string, std::string> JsonReader::StringMap() const {
  std::map<std::string, std::string> map;
  if (!exists()) return map;
  if (!value_->is_object()) {
    FailType("an object");
    return map;
  }
  for (auto it = value_->begin(); it != value_->end(); ++it) {
    map[it.key()] = JsonReader(&it.value(), name_, path_ + "[\"" + it.key() + "\"]", status_).String();
  }
  return map;
}

}  // namespace runsc::oci

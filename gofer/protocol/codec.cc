#include "gofer/protocol/codec.h"

#include <algorithm>

namespace gofer {

bool ValidName(std::string_view name) {
  if (name.empty() || name.size() > kMaxNameBytes || name == "." || name == "..") return false;
  return std::none_of(name.begin(), name.end(), [](char c) { return c == '/' || c == '\0'; });
}

namespace {

bool ValidText(std::string_view text, size_t max) {
  return text.size() <= max && text.find('\0') == std::string_view::npos;
}

}  // namespace

void Reader::Fail() {
  ok_ = false;
  rest_ = {};
}

uint64_t Reader::Take(size_t bytes) {
  if (!Check(bytes <= rest_.size())) return 0;
  uint64_t value = 0;
  for (size_t i = 0; i < bytes; ++i) value |= uint64_t{rest_[i]} << (8 * i);
  rest_ = rest_.subspan(bytes);
  return value;
}

std::string_view Reader::TakeBytes(size_t bytes) {
  if (!Check(bytes <= rest_.size())) return {};
  std::string_view view(reinterpret_cast<const char*>(rest_.data()), bytes);
  rest_ = rest_.subspan(bytes);
  return view;
}

void Reader::Name(std::string_view& name) {
  uint8_t size = 0;
  Int(size);
  name = TakeBytes(size);
  if (!Check(ValidName(name))) name = {};
}

void Reader::Text(std::string_view& text, size_t max) {
  OptionalText(text, max);
  Check(!text.empty());
}

void Reader::OptionalText(std::string_view& text, size_t max) {
  uint16_t size = 0;
  Int(size);
  text = TakeBytes(size);
  if (!Check(ValidText(text, max))) text = {};
}

void Reader::Blob(std::string_view& bytes, size_t max) {
  uint32_t size = 0;
  Int(size);
  if (Check(size <= max)) {
    bytes = TakeBytes(size);
  } else {
    bytes = {};
  }
}

void Writer::Put(uint64_t value, size_t bytes) {
  if (!ok_ || bytes > limit_ || out_.size() > limit_ - bytes) {
    ok_ = false;
    return;
  }
  size_t at = out_.size();
  out_.resize(at + bytes);
  for (size_t i = 0; i < bytes; ++i) out_[at + i] = static_cast<uint8_t>(value >> (8 * i));
}

void Writer::PutBytes(std::string_view bytes) {
  if (!ok_ || bytes.size() > limit_ || out_.size() > limit_ - bytes.size()) {
    ok_ = false;
    return;
  }
  out_.insert(out_.end(), bytes.begin(), bytes.end());
}

void Writer::Name(const std::string_view& name) {
  ok_ = ok_ && ValidName(name);
  if (!ok_) return;
  Put(name.size(), 1);
  PutBytes(name);
}

void Writer::Text(const std::string_view& text, size_t max) {
  ok_ = ok_ && !text.empty();
  OptionalText(text, max);
}

void Writer::OptionalText(const std::string_view& text, size_t max) {
  ok_ = ok_ && ValidText(text, max);
  if (!ok_) return;
  Put(text.size(), 2);
  PutBytes(text);
}

void Writer::Blob(const std::string_view& bytes, size_t max) {
  ok_ = ok_ && bytes.size() <= max;
  if (!ok_) return;
  Put(bytes.size(), 4);
  PutBytes(bytes);
}

}  // namespace gofer

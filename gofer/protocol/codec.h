// Reader and Writer: the only code that turns bytes of a message into values and back. Integers are little-endian and
// unaligned; every length is checked against what is left, every set of flags against its mask, every name against the
// rules for names. Nothing casts message memory.
#ifndef GOFER_PROTOCOL_CODEC_H_
#define GOFER_PROTOCOL_CODEC_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

namespace gofer {

inline constexpr size_t kMaxNameBytes = 255;   // NAME_MAX
inline constexpr size_t kMaxLinkBytes = 4095;  // PATH_MAX − 1
inline constexpr size_t kMaxXattrNameBytes = 255;
inline constexpr size_t kMaxXattrBytes = 65536;  // XATTR_SIZE_MAX and XATTR_LIST_MAX

// A single path component: 1 to 255 bytes, no '/' and no NUL, neither "." nor "..".
bool ValidName(std::string_view name);

// Reads one message. After the first violation ok() is false for good, and every further read yields zeros and empties.
// Views that it hands out point into the message and live as long as it.
class Reader {
 public:
  static constexpr bool kReading = true;
  explicit Reader(std::span<const uint8_t> bytes) : rest_(bytes) {}
  bool ok() const { return ok_; }
  size_t left() const { return rest_.size(); }
  // True if everything was well-formed and nothing is left over.
  bool Done() const { return ok_ && rest_.empty(); }
  // Declares the message malformed.
  void Fail();

  template <typename T>
  void Int(T& value) {
    static_assert(std::is_integral_v<T> || std::is_enum_v<T>);
    using U = std::make_unsigned_t<typename IntOf<T>::type>;
    value = static_cast<T>(static_cast<U>(Take(sizeof(T))));
  }
  // An integer that may only hold bits of `valid`.
  template <typename T>
  void Bits(T& value, T valid) {
    Int(value);
    Check((value & ~valid) == 0);
  }
  // An integer that is at most `max`.
  template <typename T>
  void AtMost(T& value, T max) {
    Int(value);
    if (!Check(value <= max)) value = 0;
  }
  void Require(bool condition) { Check(condition); }
  void Name(std::string_view& name);
  // Bytes without a NUL, 1 to `max` long.
  void Text(std::string_view& text, size_t max);
  // The same, but may be empty.
  void OptionalText(std::string_view& text, size_t max);
  // Any bytes, at most `max`.
  void Blob(std::string_view& bytes, size_t max);
  // A list of at most `max` elements: `each(reader, element)` codes one, at least `min_bytes` long on the wire.
  template <typename T, typename Each>
  void List(std::vector<T>& list, size_t max, size_t min_bytes, Each each) {
    uint32_t count = 0;
    Int(count);
    list.clear();
    if (!Check(count <= max && count <= left() / min_bytes)) return;
    list.resize(count);
    for (T& element : list) {
      each(*this, element);
      if (!ok_) return;
    }
  }

 private:
  template <typename T, bool = std::is_enum_v<T>>
  struct IntOf {
    using type = T;
  };
  template <typename T>
  struct IntOf<T, true> {
    using type = std::underlying_type_t<T>;
  };
  bool Check(bool condition) {
    if (!condition) Fail();
    return ok_;
  }
  uint64_t Take(size_t bytes);
  std::string_view TakeBytes(size_t bytes);

  std::span<const uint8_t> rest_;
  bool ok_ = true;
};

// Appends to a buffer up to a limit; after an overflow ok() is false and nothing more is written. The same names as
// Reader's, so that one list of fields serves both directions.
class Writer {
 public:
  static constexpr bool kReading = false;
  Writer(std::vector<uint8_t>& out, size_t limit) : out_(out), limit_(limit) {}
  bool ok() const { return ok_; }
  size_t size() const { return out_.size(); }

  template <typename T>
  void Int(const T& value) {
    static_assert(std::is_integral_v<T> || std::is_enum_v<T>);
    Put(static_cast<uint64_t>(value), sizeof(T));
  }
  template <typename T>
  void Bits(const T& value, T valid) {
    if ((value & ~valid) != 0) ok_ = false;
    Int(value);
  }
  template <typename T>
  void AtMost(const T& value, T max) {
    if (value > max) ok_ = false;
    Int(value);
  }
  void Require(bool condition) { ok_ = ok_ && condition; }
  void Name(const std::string_view& name);
  void Text(const std::string_view& text, size_t max);
  void OptionalText(const std::string_view& text, size_t max);
  void Blob(const std::string_view& bytes, size_t max);
  template <typename T, typename Each>
  void List(const std::vector<T>& list, size_t max, size_t, Each each) {
    if (list.size() > max) ok_ = false;
    Int(static_cast<uint32_t>(list.size()));
    for (const T& element : list) each(*this, element);
  }

 private:
  void Put(uint64_t value, size_t bytes);
  void PutBytes(std::string_view bytes);

  std::vector<uint8_t>& out_;
  size_t limit_;
  bool ok_ = true;
};

}  // namespace gofer

#endif  // GOFER_PROTOCOL_CODEC_H_

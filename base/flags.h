// Flags<E>: a set of bits of an enum class, so that `flags & !valid` cannot be written by mistake.
#ifndef BASE_FLAGS_H_
#define BASE_FLAGS_H_

#include <initializer_list>
#include <type_traits>

namespace base {

// E's enumerators are bit masks.
template <typename E>
class Flags {
 public:
  using Int = std::underlying_type_t<E>;
  constexpr Flags() = default;
  constexpr Flags(E bit) : bits_(static_cast<Int>(bit)) {}  // NOLINT: implicit by design
  constexpr Flags(std::initializer_list<E> bits) {
    for (E b : bits) bits_ |= static_cast<Int>(b);
  }
  static constexpr Flags FromBits(Int bits) {
    Flags f;
    f.bits_ = bits;
    return f;
  }
  // True if bits holds nothing outside of valid.
  static constexpr bool Valid(Int bits, Flags valid) { return (bits & ~valid.bits_) == 0; }

  constexpr bool Has(E bit) const { return (bits_ & static_cast<Int>(bit)) == static_cast<Int>(bit); }
  constexpr bool HasAny(Flags other) const { return (bits_ & other.bits_) != 0; }
  constexpr bool HasAll(Flags other) const { return (bits_ & other.bits_) == other.bits_; }
  constexpr bool empty() const { return bits_ == 0; }
  constexpr Int bits() const { return bits_; }
  constexpr Flags Without(Flags other) const { return FromBits(bits_ & ~other.bits_); }
  constexpr Flags& Set(Flags other, bool on = true) {
    bits_ = on ? (bits_ | other.bits_) : (bits_ & ~other.bits_);
    return *this;
  }
  friend constexpr Flags operator|(Flags a, Flags b) { return FromBits(a.bits_ | b.bits_); }
  friend constexpr Flags operator&(Flags a, Flags b) { return FromBits(a.bits_ & b.bits_); }
  friend constexpr bool operator==(Flags a, Flags b) { return a.bits_ == b.bits_; }
  constexpr Flags& operator|=(Flags o) { return *this = *this | o; }

 private:
  Int bits_ = 0;
};

}  // namespace base

#endif  // BASE_FLAGS_H_

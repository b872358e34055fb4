// RefPtr<T>: intrusive shared ownership for kernel objects. T derives from RefCounted.
#ifndef BASE_REF_PTR_H_
#define BASE_REF_PTR_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <type_traits>
#include <utility>

#include "base/charged_memory.h"
#include "base/check.h"
#include "base/errno.h"

namespace base {

// An object with a reference count, born with one reference (adopted by MakeRef). Destroyed by whoever drops the last
// one: a destructor may run on any fiber or host thread, must not park, and must not take a lock its droppers hold.
// Its memory is charged to the sandbox.
class RefCounted : public Charged {  // inherited virtually where interfaces with counts meet (Mappable)
 public:
  RefCounted();
  RefCounted(const RefCounted&) = delete;
  RefCounted& operator=(const RefCounted&) = delete;

  // Relaxed is enough: a new reference is only made from an existing one.
  void Ref() const { refs_.fetch_add(1, std::memory_order_relaxed); }
  // Takes a reference unless the count already reached zero. For weak look-up tables under their own lock.
  bool TryRef() const {
    uint32_t n = refs_.load(std::memory_order_relaxed);
    while (n != 0) {
      if (refs_.compare_exchange_weak(n, n + 1, std::memory_order_relaxed)) return true;
    }
    return false;
  }
  // Release then acquire: everything done through other references happens before the destructor.
  void Unref() const {
    if (refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) OnLastUnref();
  }
  uint32_t ref_count() const { return refs_.load(std::memory_order_relaxed); }

 protected:
  virtual ~RefCounted();
  // Called with the count at zero. The default deletes; a cache may resurrect or delay instead.
  virtual void OnLastUnref() const { delete this; }
  mutable std::atomic<uint32_t> refs_{1};
};

template <typename T>
class RefPtr {
 public:
  constexpr RefPtr() = default;
  constexpr RefPtr(std::nullptr_t) {}             // NOLINT: implicit by design
  explicit RefPtr(T* object) : object_(object) {  // takes a new reference
    if (object_) object_->Ref();
  }
  RefPtr(const RefPtr& o) : RefPtr(o.object_) {}
  RefPtr(RefPtr&& o) noexcept : object_(std::exchange(o.object_, nullptr)) {}
  template <typename U>
  requires std::is_convertible_v<U*, T*> RefPtr(const RefPtr<U>& o) : RefPtr(o.get()) {}  // NOLINT: implicit by design
  template <typename U>
  requires std::is_convertible_v<U*, T*> RefPtr(RefPtr<U>&& o)  // NOLINT: implicit by design
  noexcept : object_(o.release()) {}
  RefPtr& operator=(RefPtr o) noexcept {
    std::swap(object_, o.object_);
    return *this;
  }
  ~RefPtr() {
    if (object_) object_->Unref();
  }

  // Takes over a reference that the caller owns.
  static RefPtr Adopt(T* object) {
    RefPtr p;
    p.object_ = object;
    return p;
  }
  T* get() const { return object_; }
  T& operator*() const { return *object_; }
  T* operator->() const { return object_; }
  explicit operator bool() const { return object_ != nullptr; }
  void reset() { RefPtr().swap(*this); }
  void swap(RefPtr& o) noexcept { std::swap(object_, o.object_); }
  // Gives the reference to the caller.
  [[nodiscard]] T* release() { return std::exchange(object_, nullptr); }
  friend bool operator==(const RefPtr& a, const RefPtr& b) { return a.object_ == b.object_; }
  friend bool operator==(const RefPtr& a, std::nullptr_t) { return a.object_ == nullptr; }
  template <typename H>
  friend H AbslHashValue(H h, const RefPtr& p) {
    return H::combine(std::move(h), p.object_);
  }

 private:
  T* object_ = nullptr;
};

template <typename T, typename... Args>
RefPtr<T> MakeRef(Args&&... args) {
  return RefPtr<T>::Adopt(new T(std::forward<Args>(args)...));
}

// The same for what a guest asked for. ENOMEM at the sandbox's limit (charged_memory.h).
template <typename T, typename... Args>
Result<RefPtr<T>> TryMakeRef(Args&&... args) {
  TRY(ChargedMemory::Admit());
  return MakeRef<T>(std::forward<Args>(args)...);
}

template <typename T, typename U>
RefPtr<T> StaticRefCast(RefPtr<U> p) {
  return RefPtr<T>::Adopt(static_cast<T*>(p.release()));
}

// Number of live RefCounted objects, and a log line per type for those above zero. Only with RUNSC_LEAK_REGISTRY;
// without it ReportLeaks returns 0.
size_t ReportLeaks();

}  // namespace base

#endif  // BASE_REF_PTR_H_

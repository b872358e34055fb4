// PcidSlots: which address spaces have a process-context identifier on a virtual CPU (Intel SDM vol. 3, 4.10.1). What
// the processor has cached under one survives loads of CR3 that say so; so an address space keeps its own for as long
// as the others do not need it, and a load that gives one to another address space forgets what is there.
//
// Used by the virtual CPU's thread.
#ifndef PLATFORM_KVM_PCID_SLOTS_H_
#define PLATFORM_KVM_PCID_SLOTS_H_

#include <array>
#include <cstddef>
#include <cstdint>

namespace platform::kvm {

class PcidSlots {
 public:
  // What to put into CR3 beside the root for the address space, whose `id` is never 0 and never another's. The load may
  // happen or not; Loaded says that it did.
  uint64_t Choose(uint64_t id) {
    for (size_t i = 0; i < ids_.size(); ++i) {
      if (ids_[i] == id) {
        chosen_ = i;
        id_ = id;
        return Pcid(i) | kNoFlush;
      }
    }
    chosen_ = next_++ % ids_.size();
    id_ = id;
    ids_[chosen_] = 0;  // nobody's, should the load happen and nobody know
    return Pcid(chosen_);
  }
  void Loaded() {
    if (id_ != 0) ids_[chosen_] = id_;
  }

  static constexpr uint64_t kNoFlush = uint64_t{1} << 63;

 private:
  static uint64_t Pcid(size_t slot) { return slot + 1; }  // 0 is that of the table with nothing but ring 0

  std::array<uint64_t, 8> ids_{};
  size_t chosen_ = 0, next_ = 0;
  uint64_t id_ = 0;
};

}  // namespace platform::kvm

#endif  // PLATFORM_KVM_PCID_SLOTS_H_

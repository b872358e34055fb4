// AddressSpace of the KVM platform: what the guest has mapped, and the page tables made from it. Entries are written
// when a range is mapped, up to a bound, and the rest when the guest first touches a 2 MiB part of it: an entry costs
// nothing, for the host gives a page only when one is touched.
//
// Removing a translation has three steps: the entry is taken out of the table; virtual CPUs that run in the address
// space are taken out of the guest for a moment, so that none is in the middle of using what it read of the entry; and
// the host is told to drop the pages from its own mapping of the window, which makes its KVM forget whatever it had
// made of the entry, in hardware tables or in shadows of ours. An entry that the processor never used (the accessed
// bit) needs the first step only.
//
// Tables are never taken out of a tree before the address space ends: a host that shadows them would not see it
// (machine.h).
#ifndef PLATFORM_KVM_ADDRESS_SPACE_H_
#define PLATFORM_KVM_ADDRESS_SPACE_H_

#include <atomic>
#include <cstdint>
#include <vector>

#include "base/interval_map.h"
#include "base/mutex.h"
#include "platform/kvm/file_windows.h"
#include "platform/kvm/machine.h"
#include "platform/platform.h"

namespace platform::kvm {

class KvmPlatform;

inline constexpr base::Range kGuestRange = {0x10000, 0x7ffffffff000};

class KvmAddressSpace final : public AddressSpace {
 public:
  static base::Result<base::RefPtr<KvmAddressSpace>> Create(KvmPlatform& platform);
  ~KvmAddressSpace() override;

  base::Result<void> Apply(std::span<const MapOp> ops) override EXCLUDES(mu_);
  void Release() override EXCLUDES(mu_);

  bool dead() const { return dead_.load(std::memory_order_acquire); }
  Physical root() const { return root_; }
  uint64_t id() const { return id_; }

  // What a page fault in the guest means. On the thread of a virtual CPU.
  enum class FaultOutcome : uint8_t {
    kRetry,      // the entry is there now
    kForSentry,  // nothing is mapped that allows it
    kBeyondEnd,  // mapped, but the file ends before it, or the host has no memory for it
  };
  FaultOutcome OnFault(uint64_t address, AccessType access) EXCLUDES(mu_);
  // The host had nothing behind some page that the guest used: a file has become shorter. Takes out the entries beyond
  // the ends of all files. False if there was none.
  bool DropBeyondEnds() EXCLUDES(mu_);
  // Reads what the guest has mapped; for a look at an instruction. How many bytes could be read.
  size_t Peek(uint64_t address, std::span<std::byte> out) EXCLUDES(mu_);

 private:
  struct Mapping {
    base::RefPtr<MappedFile> file;
    uint64_t offset;
    uint8_t prot;
  };
  struct MappingTraits {
    static Mapping Split(Mapping& left, base::Range whole, uint64_t at) {
      return {left.file, left.offset + (at - whole.start), left.prot};
    }
    static bool Merge(Mapping& left, base::Range l, const Mapping& right, base::Range) {
      return left.file == right.file && left.prot == right.prot && left.offset + l.length() == right.offset;
    }
  };
  // What has to be done after entries were taken out, without the lock.
  struct Removed {
    struct Pages {
      Physical physical;
      uint64_t bytes;
    };
    struct References {
      Physical window;
      uint32_t count;
    };
    std::vector<Pages> used;  // by the processor
    std::vector<References> references;
    std::vector<base::RefPtr<MappedFile>> files;  // of mappings that are gone
    void Use(Physical page);
    void Drop(Physical page);
  };

  explicit KvmAddressSpace(KvmPlatform& platform, Physical root);
  base::Result<void> Change(const MapOp& op, const base::RefPtr<MappedFile>& file, Removed& removed) REQUIRES(mu_);
  base::Result<void> Protect(base::Range range, uint8_t prot, Removed& removed) REQUIRES(mu_);
  // Writes the entries of a range that lies in one mapping, where there are none. Of a file that ends before, fewer.
  base::Result<void> Fill(base::Range range, base::Range whole, const Mapping& mapping) REQUIRES(mu_);
  // Takes out the entries of the range.
  void Clear(base::Range range, Removed& removed) REQUIRES(mu_);
  // Calls f(address, entry) for each entry of the last level that is there.
  template <typename F>
  void ForEachEntry(base::Range range, F&& f) REQUIRES(mu_);
  // The table of the last level for this address. ENOMEM.
  base::Result<uint64_t*> LeafTable(uint64_t address) REQUIRES(mu_);
  void Finish(Removed& removed) EXCLUDES(mu_);
  void End() EXCLUDES(mu_);

  KvmPlatform& platform_;
  const Physical root_;
  const uint64_t id_;
  std::atomic<bool> dead_{false};
  base::Mutex mu_;
  base::IntervalMap<Mapping, MappingTraits> map_ GUARDED_BY(mu_);
  std::vector<Physical> tables_ GUARDED_BY(mu_);  // all but the root
  bool ended_ GUARDED_BY(mu_) = false;
};

}  // namespace platform::kvm

#endif  // PLATFORM_KVM_ADDRESS_SPACE_H_

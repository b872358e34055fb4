#include "sentry/mm/mappable.h"

#include <vector>

#include "sentry/mm/memory_manager.h"

namespace sentry {

void Mappable::AddMapping(const MappingRecord& record) {
  base::MutexLock lock(mappings_mu_);
  bool added = mappings_.emplace(record, ++last_sequence_).second;
  CHECK(added);
}

void Mappable::RemoveMapping(const MappingRecord& record) {
  base::MutexLock lock(mappings_mu_);
  CHECK(mappings_.erase(record) == 1);
}

size_t Mappable::MappingCount() const {
  base::MutexLock lock(mappings_mu_);
  size_t count = 0;
  const MemoryManager* last = nullptr;
  for (const auto& [record, sequence] : mappings_) {
    if (record.mm != last) ++count;  // sorted by mm
    last = record.mm;
  }
  return count;
}

bool Mappable::HasSharedWritableMappings() const {
  base::MutexLock lock(mappings_mu_);
  for (const auto& [record, sequence] : mappings_) {
    if (record.shared_writable) return true;
  }
  return false;
}

void Mappable::InvalidateMappings(uint64_t offset, uint64_t end, bool keep_private) {
  // A fork that runs meanwhile copies translations out of an address space that is still to come in this list, into one
  // that registers itself only now. So again for those that came since, until there are none.
  uint64_t done = 0;
  for (;;) {
    std::vector<RefPtr<MemoryManager>> mms;
    {
      base::MutexLock lock(mappings_mu_);
      for (const auto& [record, sequence] : mappings_) {
        if (sequence <= done || (!mms.empty() && mms.back().get() == record.mm)) continue;
        // One whose last reference is gone has left, or is leaving, its address space: there is nothing to remove from
        // it.
        if (record.mm->TryRef()) mms.push_back(RefPtr<MemoryManager>::Adopt(record.mm));
      }
      done = last_sequence_;
    }
    if (mms.empty()) return;
    for (auto& mm : mms) mm->Invalidate(*this, offset, end, keep_private);
  }
}

}  // namespace sentry

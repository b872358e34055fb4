#include "base/charged_memory.h"

namespace base {

void ChargedMemory::FailFrom(uint64_t first, uint64_t every) {
  failing_.store(false, std::memory_order_relaxed);
  first_.store(first, std::memory_order_relaxed);
  every_.store(every, std::memory_order_relaxed);
  asked_.store(0, std::memory_order_relaxed);
  failed_.store(0, std::memory_order_relaxed);
  failing_.store(first != 0, std::memory_order_relaxed);
}

bool ChargedMemory::Fails() {
  const uint64_t number = asked_.fetch_add(1, std::memory_order_relaxed) + 1;
  const uint64_t first = first_.load(std::memory_order_relaxed), every = every_.load(std::memory_order_relaxed);
  const bool fails = number == first || (number > first && every != 0 && (number - first) % every == 0);
  if (fails) failed_.fetch_add(1, std::memory_order_relaxed);
  return fails;
}

void* Charged::operator new(size_t bytes) {
  void* p = ::operator new(bytes);
  ChargedMemory::Charge(bytes);
  return p;
}

void Charged::operator delete(void* p, size_t bytes) {
  if (p != nullptr) ChargedMemory::Uncharge(bytes);
  ::operator delete(p);
}

}  // namespace base

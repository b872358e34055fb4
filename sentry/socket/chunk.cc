#include "sentry/socket/chunk.h"

#include <algorithm>
#include <atomic>

namespace sentry {
namespace {

constexpr int64_t kPressure = int64_t{256} << 20;
std::atomic<int64_t> queued_bytes{0};

}  // namespace

Chunk::Chunk(size_t capacity) : capacity_(capacity), data_(new std::byte[capacity]) {
  queued_bytes.fetch_add(static_cast<int64_t>(capacity + kOverhead), std::memory_order_relaxed);
  base::ChargedMemory::Charge(capacity);
}

Chunk::~Chunk() {
  queued_bytes.fetch_sub(static_cast<int64_t>(capacity_ + kOverhead), std::memory_order_relaxed);
  base::ChargedMemory::Uncharge(capacity_);
}

int64_t QueuedBytes() { return queued_bytes.load(std::memory_order_relaxed); }

size_t LimitUnderPressure(size_t limit) { return QueuedBytes() < kPressure ? limit : std::min<size_t>(limit, 4096); }

}  // namespace sentry

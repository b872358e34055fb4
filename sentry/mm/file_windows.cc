#include "sentry/mm/file_windows.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>

#include "base/check.h"
#include "base/syscall_unsafe.h"

namespace sentry {
namespace {

// vm.max_map_count of the sentry's own process is 65,530 by default, and fibers, executors and the memory file need
// their share.
constexpr int kMaxKeptWindows = 8192;
std::atomic<int> kept_windows{0};

void Unmap(std::byte* base) {
  // A failing munmap of a whole mapping of ours can only be a bug.
  CHECK(base::Host(SYS_munmap, base, FileWindows::kWindowBytes).ok());
}

}  // namespace

FileWindows::Pin::Pin(Pin&& other) noexcept
    : owner_(std::exchange(other.owner_, nullptr)), base_(other.base_), bytes_(other.bytes_) {}

FileWindows::Pin& FileWindows::Pin::operator=(Pin&& other) noexcept {
  if (this != &other) {
    Reset();
    owner_ = std::exchange(other.owner_, nullptr);
    base_ = other.base_;
    bytes_ = other.bytes_;
  }
  return *this;
}

void FileWindows::Pin::Reset() {
  if (owner_ != nullptr) std::exchange(owner_, nullptr)->Release(base_);
}

FileWindows::~FileWindows() {
  for (const Window& w : windows_) {
    CHECK(w.pins == 0);
    Unmap(w.base);
    if (w.keep) kept_windows.fetch_sub(1, std::memory_order_relaxed);
  }
}

base::Result<FileWindows::Pin> FileWindows::Acquire(int fd, uint64_t offset, uint64_t length, bool writable) {
  const uint64_t index = offset / kWindowBytes;
  const uint64_t within = offset % kWindowBytes;
  Pin pin;
  pin.owner_ = this;
  auto take = [&](Window& w) REQUIRES(mu_) {
    ++w.pins;
    w.last_use = ++clock_;
    pin.base_ = w.base;
    pin.bytes_ = {w.base + within, std::min(length, kWindowBytes - within)};
  };
  auto find = [&]() REQUIRES(mu_) -> Window* {
    for (Window& w : windows_) {
      if (w.fd == fd && w.index == index && (w.writable || !writable)) return &w;
    }
    return nullptr;
  };
  {
    base::MutexLock lock(mu_);
    if (Window* w = find()) {
      take(*w);
      return pin;
    }
  }
  // Mapped without the lock: a host call is too long for it. Two threads may both do it; the loser's mapping goes
  // again.
  auto mapped = base::Host(SYS_mmap, nullptr, kWindowBytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED,
                           fd, index * kWindowBytes);
  if (!mapped.ok()) {
    pin.owner_ = nullptr;
    return mapped.error();
  }
  auto* base = reinterpret_cast<std::byte*>(mapped.value());
  std::byte* unused = nullptr;
  {
    base::MutexLock lock(mu_);
    if (Window* w = find()) {
      take(*w);
      unused = base;
    } else {
      bool keep = true;
      if (windows_.size() >= kMaxWindows) {
        auto oldest = windows_.end();
        for (auto it = windows_.begin(); it != windows_.end(); ++it) {
          if (it->pins == 0 && (oldest == windows_.end() || it->last_use < oldest->last_use)) oldest = it;
        }
        if (oldest != windows_.end()) {
          unused = oldest->base;
          if (oldest->keep) kept_windows.fetch_sub(1, std::memory_order_relaxed);
          windows_.erase(oldest);
        } else {
          keep = false;
        }
      }
      if (keep && kept_windows.fetch_add(1, std::memory_order_relaxed) >= kMaxKeptWindows) {
        kept_windows.fetch_sub(1, std::memory_order_relaxed);
        keep = false;
      }
      windows_.push_back({fd, writable, index, base, 0, 0, keep});
      take(windows_.back());
    }
  }
  if (unused != nullptr) Unmap(unused);
  return pin;
}

void FileWindows::Release(std::byte* base) {
  {
    base::MutexLock lock(mu_);
    auto it = std::find_if(windows_.begin(), windows_.end(), [&](const Window& w) { return w.base == base; });
    CHECK(it != windows_.end() && it->pins > 0);
    if (--it->pins > 0 || it->keep) return;
    windows_.erase(it);
  }
  Unmap(base);
}

}  // namespace sentry

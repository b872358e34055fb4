#include "sentry/syscalls/sys_poll.h"

#include <poll.h>
#include <sys/resource.h>

#include <bit>
#include <deque>

#include "absl/container/inlined_vector.h"
#include "base/time.h"
#include "sentry/time/conversions.h"
#include "sentry/vfs/file_description.h"

namespace sentry {
namespace {

// What a descriptor is asked for, and the answer.
struct Wanted {
  RefPtr<FileDescription> file;  // null: nothing to ask
  base::EventMask events = 0;
  base::EventMask ready = 0;
};
using WantedList = absl::InlinedVector<Wanted, 8>;

int Scan(WantedList& list) {
  int found = 0;
  for (Wanted& wanted : list) {
    if (wanted.file == nullptr) continue;
    wanted.ready = wanted.file->Readiness() & wanted.events;
    if (wanted.ready != 0) ++found;
  }
  return found;
}

// do_poll() and do_select() of fs/select.c. `deadline` in the past: only looks. 0 at the deadline; ERESTARTNOHAND_ for
// a signal.
Result<int> WaitForAny(Task& task, WantedList& list, base::MonotonicNs deadline) {
  int found = Scan(list);
  if (found != 0 || deadline == 0) return found;
  std::deque<base::WaitEntry> entries;
  std::deque<base::ScopedWait> waits;
  for (Wanted& wanted : list) {
    base::WaitQueue* queue = wanted.file != nullptr ? wanted.file->wait_queue() : nullptr;
    if (queue == nullptr) continue;
    entries.emplace_back(wanted.events);
    waits.emplace_back(*queue, entries.back());
  }
  for (;;) {
    found = Scan(list);
    if (found != 0) return found;
    switch (task.ParkInterruptible(deadline)) {
      case Task::Wake::kWoken:
        break;
      case Task::Wake::kTimedOut:
        return Scan(list);
      case Task::Wake::kInterrupted:
        found = Scan(list);
        if (found != 0) return found;
        return Errno(base::ERESTARTNOHAND_);
    }
  }
}

// 0: do not wait; kNever: no limit.
base::MonotonicNs DeadlineAfter(int64_t ns) {
  if (ns == 0) return 0;
  return ns == kMaxNs ? base::kNever : AddSaturated(base::MonotonicNow(), ns);
}

int64_t Remaining(base::MonotonicNs deadline) {
  return deadline == 0 ? 0 : std::max<int64_t>(0, deadline - base::MonotonicNow());
}

// --- poll

Result<int> Poll(Task& task, UserPtr<abi::Pollfd> fds, uint32_t count, base::MonotonicNs deadline) {
  if (count > task.thread_group().Limit(RLIMIT_NOFILE)) return Errno(EINVAL);
  absl::InlinedVector<abi::Pollfd, 8> polls(count);
  size_t bytes = count * sizeof(abi::Pollfd);
  if (bytes != 0 && TRY(task.mm().CopyIn(std::as_writable_bytes(std::span(polls.data(), count)), fds.addr)) != bytes) {
    return Errno(EFAULT);
  }
  WantedList list(count);
  int invalid = 0;
  for (uint32_t i = 0; i < count; ++i) {
    if (polls[i].fd < 0) continue;
    auto file = task.GetFile(polls[i].fd);
    if (!file.ok()) {
      list[i].ready = POLLNVAL;
      ++invalid;
      continue;
    }
    list[i].file = *std::move(file);
    list[i].events = static_cast<uint16_t>(polls[i].events) | base::kEventErr | base::kEventHup;
  }
  int found = TRY(WaitForAny(task, list, invalid != 0 ? 0 : deadline)) + invalid;
  // Only revents is written (do_sys_poll): one copy of the whole is the same, unless another thread changes fd
  // meanwhile.
  for (uint32_t i = 0; i < count; ++i) polls[i].revents = static_cast<int16_t>(list[i].ready);
  TRY(task.mm().WriteArray(fds, std::span<const abi::Pollfd>(polls.data(), count)));
  return found;
}

// --- select

constexpr base::EventMask kSelectIn = POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR;
constexpr base::EventMask kSelectOut = POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR;
constexpr base::EventMask kSelectExcept = POLLPRI;

struct FdSets {
  static constexpr int kSets = 3;
  std::vector<uint64_t> words[kSets];  // in, out, except; empty if the guest gave none
};

// max_select_fd() and the cut at the table's size: bits beyond are neither read nor written. A table starts with 64
// entries and grows to powers of two (fs/file.c, alloc_fdtable).
int CutAtTableSize(Task& task, int count) {
  std::vector<Fd> fds = task.fds().List();
  uint32_t highest = fds.empty() ? 0 : static_cast<uint32_t>(fds.back());
  uint32_t size = highest < 64 ? 64 : std::max(256u, std::bit_ceil(highest + 1));
  return std::min(count, static_cast<int>(size));
}

Result<int> Select(Task& task, int count, const UserPtr<uint64_t> (&pointers)[FdSets::kSets],
                   base::MonotonicNs deadline) {
  if (count < 0) return Errno(EINVAL);
  count = CutAtTableSize(task, count);
  size_t words = (static_cast<size_t>(count) + 63) / 64;
  FdSets asked, answer;
  for (int s = 0; s < FdSets::kSets; ++s) {
    if (!pointers[s]) continue;
    asked.words[s] = TRY(task.mm().ReadArray(pointers[s], words));
    answer.words[s].assign(words, 0);
  }
  WantedList list;
  std::vector<int> numbers;
  constexpr base::EventMask kMeanings[] = {kSelectIn, kSelectOut, kSelectExcept};
  for (int fd = 0; fd < count; ++fd) {
    base::EventMask events = 0;
    for (int s = 0; s < FdSets::kSets; ++s) {
      if (!asked.words[s].empty() && ((asked.words[s][fd / 64] >> (fd % 64)) & 1) != 0) events |= kMeanings[s];
    }
    if (events == 0) continue;
    Wanted wanted;
    wanted.file = TRY(task.GetFile(fd));
    wanted.events = events;
    list.push_back(std::move(wanted));
    numbers.push_back(fd);
  }
  TRY(WaitForAny(task, list, deadline));
  int bits = 0;
  for (size_t i = 0; i < list.size(); ++i) {
    int fd = numbers[i];
    for (int s = 0; s < FdSets::kSets; ++s) {
      if (asked.words[s].empty() || ((asked.words[s][fd / 64] >> (fd % 64)) & 1) == 0) continue;
      if ((list[i].ready & kMeanings[s]) == 0) continue;
      answer.words[s][fd / 64] |= uint64_t{1} << (fd % 64);
      ++bits;
    }
  }
  for (int s = 0; s < FdSets::kSets; ++s) {
    if (pointers[s]) TRY(task.mm().WriteArray(pointers[s], std::span<const uint64_t>(answer.words[s])));
  }
  return bits;
}

// A relative timeout from a Timespec or Timeval; kMaxNs for null.
template <typename T>
Result<int64_t> ReadTimeout(Task& task, UserPtr<T> timeout) {
  if (!timeout) return kMaxNs;
  return ToNs(TRY(task.mm().Read(timeout)));
}

// poll_select_finish(): what is left of the timeout, unless the interrupted call is to be restarted with the old one
// and cannot be told.
void WriteRemaining(Task& task, UserPtr<abi::Timespec> timeout, base::MonotonicNs deadline) {
  if (timeout) (void)task.mm().Write(timeout, ToTimespec(Remaining(deadline)));
}

Result<int> RestartPoll(Task& task, UserPtr<abi::Pollfd> fds, uint32_t count, base::MonotonicNs deadline) {
  Result<int> result = Poll(task, fds, count, deadline);
  if (!result.failed_with(base::ERESTARTNOHAND_)) return result;
  // The deadline stays what it was when the call was made (do_restart_poll).
  task.SetRestartBlock(
      [fds, count, deadline](Task& t) -> Result<int64_t> { return TRY(RestartPoll(t, fds, count, deadline)); });
  return Errno(base::ERESTART_RESTARTBLOCK_);
}

}  // namespace

Result<void> SetMaskForCall(Task& task, UserPtr<uint64_t> mask, size_t mask_size) {
  if (!mask) return {};
  if (mask_size != sizeof(uint64_t)) return Errno(EINVAL);
  task.SetTemporaryMask(SignalSet(TRY(task.mm().Read(mask))).Without(kUnblockable));
  return {};
}

Result<int> SysPoll(Task& task, UserPtr<abi::Pollfd> fds, uint32_t count, int32_t timeout_ms) {
  int64_t timeout_ns = timeout_ms < 0 ? kMaxNs : int64_t{timeout_ms} * 1'000'000;
  return RestartPoll(task, fds, count, DeadlineAfter(timeout_ns));
}

Result<int> SysPpoll(Task& task, UserPtr<abi::Pollfd> fds, uint32_t count, UserPtr<abi::Timespec> timeout,
                     UserPtr<uint64_t> mask, size_t mask_size) {
  base::MonotonicNs deadline = DeadlineAfter(TRY(ReadTimeout(task, timeout)));
  TRY(SetMaskForCall(task, mask, mask_size));
  Result<int> result = Poll(task, fds, count, deadline);
  WriteRemaining(task, timeout, deadline);
  return result;
}

Result<int> SysSelect(Task& task, int32_t count, UserPtr<uint64_t> in, UserPtr<uint64_t> out, UserPtr<uint64_t> except,
                      UserPtr<abi::Timeval> timeout) {
  int64_t timeout_ns = kMaxNs;
  if (timeout) {
    // select takes microseconds beyond a second as well (kern_select).
    abi::Timeval tv = TRY(task.mm().Read(timeout));
    abi::Timespec ts{tv.tv_sec + tv.tv_usec / 1'000'000, tv.tv_usec % 1'000'000 * 1000};
    timeout_ns = TRY(ToNs(ts));
  }
  base::MonotonicNs deadline = DeadlineAfter(timeout_ns);
  Result<int> result = Select(task, count, {in, out, except}, deadline);
  if (timeout) (void)task.mm().Write(timeout, ToTimeval(Remaining(deadline)));
  return result;
}

Result<int> SysPselect6(Task& task, int32_t count, UserPtr<uint64_t> in, UserPtr<uint64_t> out,
                        UserPtr<uint64_t> except, UserPtr<abi::Timespec> timeout, UserPtr<abi::SigsetArgument> mask) {
  abi::SigsetArgument set{};
  if (mask) set = TRY(task.mm().Read(mask));
  base::MonotonicNs deadline = DeadlineAfter(TRY(ReadTimeout(task, timeout)));
  TRY(SetMaskForCall(task, UserPtr<uint64_t>{set.set}, set.size));
  Result<int> result = Select(task, count, {in, out, except}, deadline);
  WriteRemaining(task, timeout, deadline);
  return result;
}

}  // namespace sentry

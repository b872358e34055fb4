// MemoryFile: one memfd per sandbox behind anonymous guest memory, tmpfs files and the page cache.
//
// Offsets are cheap: the file is sparse and 2^62 bytes long, so that a whole mapping reserves its extent at once and
// pages come into being when they are first touched, in the guest by a host fault that the sentry never sees, or
// through the sentry's own mapping. What costs is pages; usage() says how many there are.
#ifndef PLATFORM_MEMORY_FILE_H_
#define PLATFORM_MEMORY_FILE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/errno.h"
#include "base/interval_map.h"
#include "base/mutex.h"
#include "base/reactor.h"
#include "base/time.h"
#include "base/unique_fd.h"

namespace platform {

inline constexpr uint64_t kPageSize = 4096;

// A range of the memory file (offsets).
using FileRange = base::Range;

class MemoryFile {
 public:
  struct Options {
    // Pages in use and base::ChargedMemory beyond it: Allocate fails with ENOMEM.
    uint64_t limit_bytes = UINT64_MAX;
    bool fail_randomly = false;  // test builds: every n-th Allocate fails
  };
  // Makes the memfd. ENOMEM, EMFILE from the host.
  static base::Result<std::unique_ptr<MemoryFile>> Create(Options options);
  // The same in a file of the host instead of a memfd: `fd`, empty, open for reading and writing, used by nobody else.
  // Its pages are the host's page cache, which goes to the disk when memory is wanted. Freed ranges are given back at
  // once, or never used again where the host cannot do that. EFBIG if the host allows only small files.
  static base::Result<std::unique_ptr<MemoryFile>> CreateOn(base::UniqueFd fd, Options options);
  ~MemoryFile();

  // Made by CreateOn: what maps it has to treat it like any file of the host.
  bool on_host_file() const;
  int fd() const { return fd_.get(); }

  // Reserves `length` bytes (pages) that read as zero, with one reference. `congruent_to`: the offset has the same
  // place within 2 MiB as this guest address. `after`, when not 0, is an offset at which the caller would like the
  // range to start so that host mappings merge; taken if it is free. ENOMEM at the limit.
  // `resident`, if given, is set to whether all of its pages are known to exist: mapping them populated costs less than
  // the faults, and no memory.
  base::Result<FileRange> Allocate(uint64_t length, uint64_t congruent_to = 0, uint64_t after = 0,
                                   bool* resident = nullptr) EXCLUDES(mu_);
  // The same, but with contents of whatever was freed before: the caller writes all of it before a guest can see it.
  base::Result<FileRange> AllocateForOverwrite(uint64_t length, uint64_t congruent_to = 0, uint64_t after = 0)
      EXCLUDES(mu_);
  // The same, as a copy of `from`, of which `data` (in order, within it) are the pages that exist. ENOMEM, EFAULT.
  base::Result<FileRange> AllocateCopy(FileRange from, std::span<const FileRange> data, uint64_t congruent_to = 0,
                                       uint64_t after = 0) EXCLUDES(mu_);
  // One more, one fewer reference to every page of the range, which may span allocations. At zero the pages are
  // recycled: nothing may map or read them any more (guest mappings of them have been confirmed gone).
  void IncRef(FileRange range) EXCLUDES(mu_);
  void DecRef(FileRange range) EXCLUDES(mu_);
  // True if every page of the range has exactly one reference: its only owner may write it in place.
  bool IsExclusive(FileRange range) const EXCLUDES(mu_);

  // The sentry's own mapping of the range, readable and writable; valid as long as the caller has a reference. The
  // memory may fault (a memory cgroup at its limit): touch it only through base::SafeCopy. A range that lies in more
  // than one window (the first TiB is one, beyond it each GiB) comes in parts: the span may be shorter than asked,
  // never empty. When the host's address space is used up by windows, the span is a page that faults.
  std::span<std::byte> Map(FileRange range);
  // Reads and writes through the mapping, over window boundaries. EFAULT when the host gives no page.
  base::Result<void> Read(uint64_t offset, std::span<std::byte> out);
  base::Result<void> Write(uint64_t offset, std::span<const std::byte> in);
  // Makes all pages of the range exist, as far as the host has memory; the others come when they are touched.
  void Populate(FileRange range);
  // Gives the pages back to the host; the range reads as zero again and keeps its references.
  void Decommit(FileRange range);
  // The next range at or after `from`, within `range`, that has pages (SEEK_DATA); empty if none has.
  FileRange NextData(FileRange range) const;
  // Appends the ranges within `range` that have pages, until they hold more than `enough` bytes; returns how many they
  // hold. Of ranges up to kSmallBytes all pages are taken to exist: asking costs more than copying them.
  uint64_t FindData(FileRange range, uint64_t enough, std::vector<FileRange>& data) const;
  // Fills fresh pages from the sentry's memory: three times cheaper than through faults in the mapping. ENOMEM, EFAULT.
  base::Result<void> Fill(uint64_t offset, std::span<const std::byte> in);

  // Bytes of pages that exist, from st_blocks.
  uint64_t usage() const;
  // Whether the limit is reached: for whoever is about to make the sentry keep more about the guest. Cheap.
  bool Full() { return AtLimit(0); }

  // Freed ranges of up to 2 MiB keep their pages for the next Allocate (at most kPoolBytes), those of up to 16 MiB for
  // the next one of the same length (as many again): a program that comes back for it uses all of it, and to clear its
  // pages costs a quarter of the faults for new ones. Gives back to the host
  // those that were freed before `freed_before`.
  void TrimPool(base::MonotonicNs freed_before = base::kNever) EXCLUDES(mu_);
  // Trims by itself from now on what has been idle for a second, with a timer that exists only while the pool is not
  // empty. Once, after the scheduler has started; the reactor outlives the file or StopTrimming is called first.
  void StartTrimming(base::Reactor& reactor);
  void StopTrimming();

  static constexpr uint64_t kPoolBytes = 32 << 20;
  static constexpr uint64_t kPoolRangeBytes = 2 << 20, kLargePoolRangeBytes = 16 << 20;
  static constexpr uint64_t kSmallBytes = 16 << 10;
  // cachestat(2), of Linux 6.5: newer than the headers. What older hosts are asked instead takes longer.
  static constexpr int kSysCachestat = 451;

  struct Impl;

 private:
  MemoryFile();
  bool AtLimit(uint64_t more);
  bool TakeFromPool(uint64_t length, uint64_t congruent_to, uint64_t after, FileRange& out) EXCLUDES(mu_);
  void Recycle(FileRange range) EXCLUDES(mu_);
  // Not before `earliest`.
  void ArmTrimming(base::MonotonicNs earliest) REQUIRES(mu_);
  static base::Result<std::unique_ptr<MemoryFile>> Wrap(base::UniqueFd fd, Options options, bool on_host_file);
  bool Punch(FileRange range);
  void PunchAndFree(FileRange range) EXCLUDES(mu_);
  // A range with one reference. `pooled`: its pages may exist, and hold what somebody left there.
  base::Result<FileRange> Reserve(uint64_t length, uint64_t congruent_to, uint64_t after, bool& pooled) EXCLUDES(mu_);
  // How many pages of the range exist, if the host says so in one call that looks at this range alone (SEEK_HOLE goes
  // on to the end of what is behind it).
  std::optional<uint64_t> CountPages(FileRange range) const;
  // NextData of a range that has pages for so many bytes. 0: unknown.
  FileRange NextData(FileRange range, uint64_t bytes) const;
  // Calls `piece` for each part of the range that has pages, in order, until it returns false.
  void ForEachData(FileRange range, const std::function<bool(FileRange)>& piece) const;
  // Makes a pooled range read as zero. `whole` becomes false if not all of its pages exist. False if the host gives no
  // memory.
  bool ZeroData(FileRange range, bool& whole);
  bool Zero(FileRange range);

  base::UniqueFd fd_;
  mutable base::Mutex mu_;
  std::unique_ptr<Impl> impl_;
};

}  // namespace platform

#endif  // PLATFORM_MEMORY_FILE_H_

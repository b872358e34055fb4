// PatchedFiles: the TextPatcher of the systrap platform. Knows the files of which pages were patched (patch/), and
// holds the images and trampolines of all of them in one memfd.
//
// A file is known by what the host says of it (device, inode, size, times), so that all mounts and descriptors of it
// share its images, and one that was written to is another file. A file that was changed a moment ago is not looked at:
// a further change could leave its times as they are.
//
// What a guest can make of this is bounded: the files, the pages that are looked at, the memory of images and of what
// is known about them, and the share of time that analysis may take. Beyond a bound calls trap, as they always can.
#ifndef PLATFORM_SYSTRAP_PATCHED_FILES_H_
#define PLATFORM_SYSTRAP_PATCHED_FILES_H_

#include <atomic>
#include <compare>
#include <cstdint>
#include <map>
#include <memory>

#include "base/fiber_lock.h"
#include "base/mutex.h"
#include "base/time.h"
#include "base/unique_fd.h"
#include "platform/text_patcher.h"

namespace platform::systrap {

class PatchedFile;

class PatchedFiles final : public TextPatcher {
 public:
  static constexpr size_t kMaxFiles = 256;
  // Pages looked at, of files that are known now. Of those with an image: 4 KiB each, and trampolines.
  static constexpr size_t kMaxPages = 8192, kMaxImages = 2048;
  // Sites in all images; each is some 100 bytes to remember.
  static constexpr size_t kMaxSites = 16384;
  // Pages between two images that are looked at as well, so that the host maps both and what is between them as one.
  static constexpr uint64_t kGapPages = 3;

  struct Options {
    // Files changed later than so long ago are left alone: several ticks of the host's clock for timestamps.
    int64_t settled_ns = 50'000'000;
    // The same on file systems that keep seconds alone.
    int64_t coarse_settled_ns = 2'500'000'000;
    // Analysis may take so much time at once, and a sixteenth of all time.
    int64_t burst_ns = 300'000'000;
  };

  // `entry`: where trampolines jump, an address that is the same in every stub. ENOMEM, EMFILE.
  static base::Result<std::unique_ptr<PatchedFiles>> Create(uint64_t entry, Options options);
  ~PatchedFiles() override;

  int fd() const override { return fd_.get(); }
  base::RefPtr<PatchedText> Find(int fd) override EXCLUDES(mu_);
  base::Result<base::RefPtr<PatchedText>> Patch(int fd, uint64_t offset, uint64_t number) override EXCLUDES(mu_);

 private:
  struct Key {
    uint64_t dev, ino, size;
    int64_t mtime_ns, ctime_ns;
    friend auto operator<=>(const Key&, const Key&) = default;
  };
  PatchedFiles(uint64_t entry, Options options, base::UniqueFd fd);
  static base::Result<Key> KeyOf(int fd);
  base::Result<base::RefPtr<PatchedText>> PatchPage(const Key& key, int fd, uint64_t offset, uint64_t number)
      REQUIRES(build_) EXCLUDES(mu_);
  base::Result<base::RefPtr<PatchedFile>> FindOrAdd(const Key& key, int fd) REQUIRES(build_) EXCLUDES(mu_);
  // Drops files that nobody else has a reference to.
  void DropUnused() REQUIRES(build_) EXCLUDES(mu_);
  // Makes the image of a page, if it has call sites. `offset` of the call, 0 without one.
  base::Result<void> Look(PatchedFile& file, int fd, const Key& key, uint64_t page_offset, uint64_t offset,
                          uint64_t number) REQUIRES(build_);

  const uint64_t entry_;
  const Options options_;
  const base::UniqueFd fd_;
  const base::MonotonicNs created_ = base::MonotonicNow();
  // One analysis at a time. Before mu_.
  base::FiberMutex build_;
  int64_t spent_ns_ GUARDED_BY(build_) = 0;
  size_t pages_ GUARDED_BY(build_) = 0, images_ GUARDED_BY(build_) = 0, sites_ GUARDED_BY(build_) = 0;
  uint64_t end_ GUARDED_BY(build_) = 0;  // of what was given to files, in fd_

  mutable base::Mutex mu_;
  std::map<Key, base::RefPtr<PatchedFile>> files_ GUARDED_BY(mu_);
};

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_PATCHED_FILES_H_

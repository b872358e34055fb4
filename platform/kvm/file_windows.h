// FileWindows: where files lie in guest-physical memory. A window is kWindowBytes of a file, mapped shared in a slot of
// the machine (machine.h); every guest address space that maps this part of the file points to it. It is known by
// device and inode, so that a file that is donated twice has one set of windows.
//
// A window stays while page table entries point to it, and some while longer; one that nobody uses is given to another
// part of another file. What was mapped there is gone for the host's KVM as soon as the host has replaced the mapping.
#ifndef PLATFORM_KVM_FILE_WINDOWS_H_
#define PLATFORM_KVM_FILE_WINDOWS_H_

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "base/errno.h"
#include "base/mutex.h"
#include "base/ref_ptr.h"
#include "base/unique_fd.h"
#include "platform/kvm/machine.h"

namespace platform::kvm {

class FileWindows;

// A file of the host that guests have mapped, with a descriptor of our own. The object outlives its references, without
// the descriptor in the end: the next who maps the file finds it.
class MappedFile final : public base::RefCounted {
 public:
  explicit MappedFile(FileWindows& owner) : owner_(owner) { refs_ = 0; }
  ~MappedFile() override;
  // Bytes, now.
  uint64_t Size() const;

 private:
  friend class FileWindows;
  void OnLastUnref() const override;

  FileWindows& owner_;
  // Guarded by the owner's mutex.
  base::UniqueFd fd_;
  bool writable_ = false;
  bool listed_ = false;                   // in the list of files that nobody has mapped
  std::map<uint64_t, uint32_t> windows_;  // by number of the part; an index of FileWindows::windows_
};

class FileWindows {
 public:
  explicit FileWindows(Machine& machine) : machine_(machine) {}
  ~FileWindows();

  // The file behind the descriptor. EBADF, EMFILE.
  base::Result<base::RefPtr<MappedFile>> Open(int fd) EXCLUDES(mu_);
  // The window that holds `offset` of the file, as the physical address of the offset itself. It stays until as many
  // references as were taken (here, `references`) have been dropped. ENOMEM; EACCES: the file is not open for writing.
  base::Result<Physical> Take(MappedFile& file, uint64_t offset, bool write, uint32_t references) EXCLUDES(mu_);
  // What was taken of the window around `physical`. No translation to it is in use.
  void Drop(Physical physical, uint32_t references) EXCLUDES(mu_);
  // The same window, for writing from now on. EACCES: the file is not open for it.
  base::Result<void> MakeWritable(Physical physical) EXCLUDES(mu_);
  // The sentry's own mapping.
  std::byte* Host(Physical physical) EXCLUDES(mu_);

  static constexpr uint64_t kWindowBytes = 2 << 20;
  static constexpr uint64_t kWindowMask = kWindowBytes - 1;

 private:
  friend class MappedFile;
  struct Window {
    MappedFile* file = nullptr;
    uint64_t part = 0;
    std::byte* host = nullptr;
    Physical physical = 0;
    uint32_t references = 0;
    bool writable = false;
    std::list<uint32_t>::iterator idle;  // in idle_, while references is 0
  };
  base::Result<uint32_t> NewWindow() REQUIRES(mu_);
  base::Result<void> MapWindow(Window& window, bool write) REQUIRES(mu_);
  void Detach(Window& window) REQUIRES(mu_);
  uint32_t IndexOf(Physical physical) const REQUIRES(mu_);
  void OnUnused(const MappedFile& file) EXCLUDES(mu_);

  // Windows, and files, that nobody uses and that are kept for the next to come.
  static constexpr size_t kMaxIdleWindows = 1024, kMaxIdleFiles = 128;

  Machine& machine_;
  base::Mutex mu_;
  std::map<std::pair<uint64_t, uint64_t>, MappedFile*> files_ GUARDED_BY(mu_);
  std::list<MappedFile*> idle_files_ GUARDED_BY(mu_);
  std::vector<Window> windows_ GUARDED_BY(mu_);  // in the order of their physical addresses
  std::list<uint32_t> idle_ GUARDED_BY(mu_);
  std::vector<uint32_t> fresh_ GUARDED_BY(mu_);  // never used
  Physical first_ GUARDED_BY(mu_) = 0;
};

}  // namespace platform::kvm

#endif  // PLATFORM_KVM_FILE_WINDOWS_H_

#include "sentry/fs/proc/mem_file.h"

#include <algorithm>

#include "sentry/fs/proc/mm_file.h"

namespace sentry::proc {

namespace {

class MemDescription final : public MmDescription {
 public:
  using MmDescription::MmDescription;
  Result<size_t> PRead(IoBuffer& to, int64_t offset, const IoFlags&) override {
    return Transfer(to, offset, /*write=*/false);
  }
  Result<size_t> PWrite(IoBuffer& from, int64_t offset, const IoFlags&) override {
    return Transfer(from, offset, /*write=*/true);
  }

 private:
  Result<size_t> Transfer(IoBuffer& buffer, int64_t offset, bool write) {
    MemoryManager* const mm = LiveMm();
    if (mm == nullptr) return size_t{0};  // mem_rw
    std::vector<std::byte> bounce(std::min<size_t>(buffer.remaining(), 64 << 10));
    Addr at = static_cast<Addr>(offset);
    size_t total = 0;
    while (buffer.remaining() > 0) {
      std::span<std::byte> piece = std::span(bounce).first(std::min(bounce.size(), buffer.remaining()));
      Result<size_t> n = size_t{0};
      if (write) {
        size_t in = TRY(buffer.CopyIn(piece));
        n = mm->ForceCopyOut(at, piece.first(in));
      } else {
        n = mm->ForceCopyIn(piece, at);
        if (n.ok()) {
          // The reader's own buffer is EFAULT, what the address space lacks EIO.
          n = buffer.CopyOut(piece.first(*n));
          if (!n.ok() && total == 0) return n.error();
        }
      }
      if (!n.ok()) return total != 0 ? Result<size_t>(total) : Errno(EIO);
      total += *n;
      at += *n;
      if (*n != piece.size()) break;
    }
    return total;
  }
};

}  // namespace

RefPtr<Inode> NewMemFile(const TaskRef& ref, uint64_t ino) {
  return base::MakeRef<MmFile<MemDescription>>(ref, 0600, ino);
}

}  // namespace sentry::proc

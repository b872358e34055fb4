// The memory devices of major 1: null, zero, full, random, urandom. (man 4 null, full, random; drivers/char/mem.c)
#ifndef SENTRY_FS_DEV_MEM_DEVICE_H_
#define SENTRY_FS_DEV_MEM_DEVICE_H_

#include "platform/memory_file.h"
#include "sentry/vfs/file_description.h"

namespace sentry {

enum class MemDevice : uint8_t { kNull = 3, kZero = 5, kFull = 7, kRandom = 8, kUrandom = 9 };  // minor numbers

class MemDeviceFile final : public FileDescription {
 public:
  MemDeviceFile(VfsPath path, uint32_t flags, MemDevice device, platform::MemoryFile& memory)
      : FileDescription(std::move(path), flags), device_(device), memory_(memory) {}

  Result<size_t> Read(IoBuffer& to, const IoFlags& flags) override;
  Result<size_t> Write(IoBuffer& from, const IoFlags& flags) override;
  Result<size_t> PRead(IoBuffer& to, int64_t offset, const IoFlags& flags) override { return Read(to, flags); }
  Result<size_t> PWrite(IoBuffer& from, int64_t offset, const IoFlags& flags) override { return Write(from, flags); }
  bool Seekable() const override { return true; }
  Result<int64_t> Seek(int64_t offset, int whence) override { return 0; }
  Result<int64_t> Ioctl(const IoctlArgs& args) override;
  Result<RefPtr<Mappable>> GetMappable(uint8_t prot, bool shared) override;

 private:
  const MemDevice device_;
  platform::MemoryFile& memory_;
};

}  // namespace sentry

#endif  // SENTRY_FS_DEV_MEM_DEVICE_H_

// What the messages of the protocol are made of: limits, ids, the header, attributes, flags.
#ifndef GOFER_PROTOCOL_TYPES_H_
#define GOFER_PROTOCOL_TYPES_H_

#include <cstddef>
#include <cstdint>

namespace gofer {

inline constexpr uint32_t kMagic = 0x52464f47;  // "GOFR"
inline constexpr uint32_t kVersion = 2;

inline constexpr size_t kHeaderBytes = 16;
inline constexpr size_t kMaxMessageBytes = 68 << 10;  // an xattr of 64 KiB and everything around it
inline constexpr size_t kMaxReaddirBytes = 64 << 10;
inline constexpr size_t kMaxWalkNames = 64;
inline constexpr size_t kMaxClosesPerMessage = 256;
inline constexpr uint32_t kMaxInFlight = 64;  // what a server is prepared to have in its socket buffer
inline constexpr size_t kMaxFdsPerReply = 1;

enum class NodeId : uint64_t { kNone = 0 };

enum class MessageType : uint16_t {
  kAttach = 1,
  kWalk = 2,
  kOpen = 3,
  kCreate = 4,
  kMkdir = 5,
  kSymlink = 6,
  kLink = 7,
  kMknod = 8,
  kUnlink = 9,
  kRename = 10,
  kSetAttr = 11,
  kGetAttr = 12,
  kReadLink = 13,
  kReaddir = 14,
  kStatFs = 15,
  kFsync = 16,
  kSyncFs = 17,
  kGetXattr = 18,
  kSetXattr = 19,
  kListXattr = 20,
  kRemoveXattr = 21,
  kConnect = 22,
  kClose = 23,
  kBind = 24,
  kTmpfile = 25,
  kBindPort = 26,
};
inline constexpr uint16_t kReplyBit = 0x8000;

struct Header {
  uint32_t size = 0;
  uint16_t type = 0;
  uint16_t aux = 0;
  uint32_t tag = 0;
  uint16_t error = 0;
  uint16_t cpu = 0;
  template <typename C, typename M>
  static void Code(C& c, M& m) {
    c.Int(m.size);
    c.Int(m.type);
    c.Int(m.aux);
    c.Int(m.tag);
    c.AtMost(m.error, uint16_t{4095});
    c.Int(m.cpu);
  }
};

// What stat would say. Times are nanoseconds since 1970.
struct Attributes {
  uint64_t ino = 0;
  uint64_t dev = 0;  // as statx's major and minor, makedev(3)
  uint64_t rdev = 0;
  uint64_t size = 0;  // at most INT64_MAX
  uint64_t blocks = 0;
  int64_t atime_ns = 0;
  int64_t mtime_ns = 0;
  int64_t ctime_ns = 0;
  int64_t btime_ns = 0;  // 0 where the file system does not know
  uint32_t mode = 0;     // with the file type, which is one of the seven that exist
  uint32_t nlink = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t blksize = 0;
  template <typename C, typename M>
  static void Code(C& c, M& m) {
    c.Int(m.ino);
    c.Int(m.dev);
    c.Int(m.rdev);
    c.AtMost(m.size, uint64_t{INT64_MAX});
    c.Int(m.blocks);
    c.Int(m.atime_ns);
    c.Int(m.mtime_ns);
    c.Int(m.ctime_ns);
    c.Int(m.btime_ns);
    c.Int(m.mode);
    c.Require(ValidMode(m.mode));
    c.Int(m.nlink);
    c.Int(m.uid);
    c.Int(m.gid);
    c.Int(m.blksize);
  }
  // 16 bits, and a file type that exists.
  static bool ValidMode(uint32_t mode);
};
inline constexpr size_t kAttributesBytes = 9 * 8 + 5 * 4;

// uid or gid of a creating request: leave what the host chose.
inline constexpr uint32_t kNoId = 0xffffffff;

// Flags of open that a request may carry; anything else is refused by both ends.
inline constexpr uint32_t kOpenAccessMode = 03;
inline constexpr uint32_t kOpenFlagsMask = kOpenAccessMode | 01000 /*O_TRUNC*/ | 02000 /*O_APPEND*/ |
                                           04000 /*O_NONBLOCK*/ | 010000 /*O_DSYNC*/ | 040000 /*O_DIRECT*/ |
                                           01000000 /*O_NOATIME*/ | 04010000 /*O_SYNC*/;

// Properties of an attached mount.
inline constexpr uint32_t kMountReadOnly = 1;
inline constexpr uint32_t kMountHostUds = 2;        // Connect is allowed
inline constexpr uint32_t kMountHostFifo = 4;       // Open of a FIFO is allowed
inline constexpr uint32_t kMountHostUdsCreate = 8;  // Bind is allowed

}  // namespace gofer

#endif  // GOFER_PROTOCOL_TYPES_H_

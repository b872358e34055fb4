#include "sentry/vfs/attr.h"

namespace sentry {

abi::Timespec FileTimeToTimespec(FileTimeNs ns) {
  int64_t seconds = ns / 1'000'000'000, rest = ns % 1'000'000'000;
  if (rest < 0) {
    rest += 1'000'000'000;
    --seconds;
  }
  return {seconds, rest};
}

abi::Stat Attr::ToStat() const {
  abi::Stat st = {};
  st.st_dev = dev;
  st.st_ino = ino;
  st.st_nlink = nlink;
  st.st_mode = mode;
  st.st_uid = uid;
  st.st_gid = gid;
  st.st_rdev = rdev;
  st.st_size = size;
  st.st_blksize = blksize;
  st.st_blocks = blocks;
  st.st_atim = FileTimeToTimespec(atime);
  st.st_mtim = FileTimeToTimespec(mtime);
  st.st_ctim = FileTimeToTimespec(ctime);
  return st;
}

}  // namespace sentry

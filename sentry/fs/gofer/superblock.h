// GoferSuperblock: one attached tree, and the inodes of it that are known.
#ifndef SENTRY_FS_GOFER_SUPERBLOCK_H_
#define SENTRY_FS_GOFER_SUPERBLOCK_H_

#include <functional>

#include "absl/container/flat_hash_map.h"
#include "gofer/client/client.h"
#include "sentry/fs/gofer/gofer_fs.h"
#include "sentry/fs/gofer/listing_cache.h"
#include "sentry/vfs/inode.h"

namespace sentry::goferfs {

class GoferInode;

class GoferSuperblock final : public Superblock {
 public:
  GoferSuperblock(RefPtr<gofer::Client> client, gofer::Attachment attachment, const Options& options);

  // Linux' word for such a thing; f_type is the host's.
  std::string_view type_name() const override { return "9p"; }
  Result<FsStat> StatFs() override;
  Result<void> Sync() override;
  std::string MountOptions() const override { return shared() ? "cache=none" : "cache=loose"; }
  bool NeedsRevalidation() const override { return shared(); }
  bool RevalidatesByLookup() const override { return true; }

  bool shared() const { return options_.access == Access::kShared; }
  bool host_uds() const { return attachment_.host_uds; }
  bool host_uds_create() const { return attachment_.host_uds_create; }
  bool host_fifo() const { return attachment_.host_fifo; }
  gofer::Client& client() const { return *client_; }
  gofer::Node& root_node() const { return *attachment_.root; }
  ListingCache& listings() { return listings_; }  // exclusive only

  // The inode for a file of the host: the one that is known already (links, walks that are repeated), with its
  // attributes brought up to date, or a new one. `node` null: only a known one, or null.
  RefPtr<GoferInode> Find(RefPtr<gofer::Node> node, const gofer::Attributes& attributes, std::string symlink_target)
      EXCLUDES(mu_);
  // An inode without references leaves.
  void Forget(const GoferInode& inode) EXCLUDES(mu_);

  // Runs a call on the gofer; when it or we are out of nodes or descriptors, drops what is cached and tries once more.
  template <typename Call>
  auto WithRoom(Call&& call) -> decltype(call()) {
    auto result = call();
    if (!result.ok() && (result.failed_with(ENFILE) || result.failed_with(EMFILE))) {
      MakeRoom();
      result = call();
    }
    return result;
  }

 private:
  friend class GoferInode;
  void MakeRoom();
  using Key = std::pair<uint64_t, uint64_t>;  // the host's device and inode number
  uint64_t GuestIno(const Key& key) REQUIRES(mu_);

  const RefPtr<gofer::Client> client_;
  const gofer::Attachment attachment_;
  const Options options_;
  ListingCache listings_;
  base::Mutex mu_;
  absl::flat_hash_map<Key, GoferInode*> inodes_ GUARDED_BY(mu_);     // weak: they leave by Forget
  absl::flat_hash_map<uint64_t, uint64_t> devices_ GUARDED_BY(mu_);  // of the host, in the order seen
};

}  // namespace sentry::goferfs

#endif  // SENTRY_FS_GOFER_SUPERBLOCK_H_

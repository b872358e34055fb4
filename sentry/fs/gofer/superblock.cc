#include "sentry/fs/gofer/superblock.h"

#include "sentry/fs/gofer/file.h"
#include "sentry/fs/gofer/inode.h"
#include "sentry/vfs/dentry_cache.h"

namespace sentry::goferfs {

GoferSuperblock::GoferSuperblock(RefPtr<gofer::Client> client, gofer::Attachment attachment, const Options& options)
    : client_(std::move(client)), attachment_(std::move(attachment)), options_(options) {}

Result<FsStat> GoferSuperblock::StatFs() {
  gofer::StatFsReply reply = TRY(root_node().StatFs());
  FsStat st;
  st.type = static_cast<int64_t>(reply.type);
  st.bsize = static_cast<int64_t>(reply.block_size);
  st.blocks = reply.blocks;
  st.bfree = reply.blocks_free;
  st.bavail = reply.blocks_available;
  st.files = reply.files;
  st.ffree = reply.files_free;
  st.namelen = std::min<int64_t>(reply.name_length, 255);
  return st;
}

Result<void> GoferSuperblock::Sync() { return root_node().SyncFs(); }

uint64_t GoferSuperblock::GuestIno(const Key& key) {
  // The tree may span several file systems of the host, but has one st_dev here: the first device's numbers are kept,
  // those of others get the device's ordinal in the upper bits, where few file systems have any.
  auto it = devices_.try_emplace(key.first, devices_.size()).first;
  return key.second ^ (it->second << 48);
}

RefPtr<GoferInode> GoferSuperblock::Find(RefPtr<gofer::Node> node, const gofer::Attributes& attributes,
                                         std::string symlink_target) {
  Key key{attributes.dev, attributes.ino};
  auto type = static_cast<FileType>(attributes.mode & S_IFMT);
  RefPtr<GoferInode> known;
  uint64_t ino;
  {
    base::MutexLock l(mu_);
    auto it = inodes_.find(key);
    // Our node keeps the host from reusing the number, so the same number is the same file.
    if (it != inodes_.end() && it->second->type() == type && it->second->TryRef()) {
      known = RefPtr<GoferInode>::Adopt(it->second);
    } else if (!node) {
      return nullptr;
    }
    ino = GuestIno(key);
  }
  if (known) {
    known->Update(attributes);
    return known;
  }
  RefPtr<GoferSuperblock> self(this);
  RefPtr<GoferInode> fresh;
  switch (type) {
    case FileType::kDirectory:
      fresh = base::MakeRef<GoferDirectory>(self, ino, key, type, std::move(node), attributes, std::string());
      break;
    case FileType::kRegular:
      fresh = base::MakeRef<GoferFile>(self, ino, key, type, std::move(node), attributes, std::string());
      break;
    default:
      fresh = base::MakeRef<GoferInode>(self, ino, key, type, std::move(node), attributes, std::move(symlink_target));
      break;
  }
  base::MutexLock l(mu_);
  auto [it, inserted] = inodes_.try_emplace(key, fresh.get());
  if (!inserted) {
    if (it->second->type() == type && it->second->TryRef()) return RefPtr<GoferInode>::Adopt(it->second);
    it->second = fresh.get();  // that one is on its way out
  }
  return fresh;
}

void GoferSuperblock::Forget(const GoferInode& inode) {
  base::MutexLock l(mu_);
  auto it = inodes_.find(inode.key_);
  if (it != inodes_.end() && it->second == &inode) inodes_.erase(it);
}

void GoferSuperblock::MakeRoom() {
  HostFileCache::Get().ShrinkTo(HostFileCache::Get().size() / 2);
  DentryCache::Get().Forget(*this);
  client_->FlushCloses();
}

Result<vfs::NewMount> Create(RefPtr<gofer::Client> client, uint32_t index, const Options& options) {
  gofer::Attachment attachment = TRY(client->Attach(index));
  gofer::Attributes attributes = attachment.attributes;
  RefPtr<gofer::Node> root = attachment.root;
  std::string target;
  if ((attributes.mode & S_IFMT) == S_IFLNK) target = TRY(root->ReadLink());
  auto sb = base::MakeRef<GoferSuperblock>(std::move(client), std::move(attachment), options);
  vfs::NewMount mount;
  mount.root = Dentry::MakeRoot(sb->Find(std::move(root), attributes, std::move(target)));
  mount.superblock = std::move(sb);
  return mount;
}

}  // namespace sentry::goferfs

// /proc/<pid>/ns (fs/proc/namespaces.c, fs/nsfs.c).
#include "sentry/fs/proc/process_dir.h"
#include "sentry/kernel/ipc/ipc_namespace.h"
#include "sentry/vfs/vfs.h"

namespace sentry::proc {

namespace {

class NsSuperblock final : public Superblock {
 public:
  std::string_view type_name() const override { return "nsfs"; }
  Result<FsStat> StatFs() override {
    FsStat s;
    s.type = 0x6e736673;  // NSFS_MAGIC
    return s;
  }
  bool CacheDentries() const override { return false; }
};

const RefPtr<NsSuperblock>& Nsfs() {
  static auto* sb = new RefPtr<NsSuperblock>(base::MakeRef<NsSuperblock>());
  return *sb;
}

class NsFile final : public FileDescription {
 public:
  NsFile(VfsPath path, uint32_t flags) : FileDescription(std::move(path), flags) {}
};

// Differs from Linux: it can be opened and compared by its number, but setns(2) does not take it.
class NsInode final : public Inode {
 public:
  explicit NsInode(uint64_t number) : Inode(Nsfs(), number, FileType::kRegular) {}
  Result<Attr> GetAttr() override {
    Attr a;
    a.ino = ino();
    a.dev = superblock().dev();
    a.mode = S_IFREG | 0444;
    a.atime = a.mtime = a.ctime = a.btime = vfs::FileNow();
    return a;
  }
  Result<RefPtr<FileDescription>> Open(const VfsPath& path, uint32_t flags, VfsContext&) override {
    return RefPtr<FileDescription>(TRY(base::TryMakeRef<NsFile>(path, flags)));
  }
};

Result<VfsPath> NsPath(const char* type, uint64_t number) {
  RefPtr<Inode> inode = base::MakeRef<NsInode>(number);
  return VfsPath{nullptr,
                 Dentry::MakeAnonymous(std::move(inode), std::string(type) + ":[" + std::to_string(number) + "]")};
}

// include/linux/proc_ns.h: numbers of the initial namespaces.
constexpr uint64_t kUser = 0xEFFFFFFD, kCgroup = 0xEFFFFFFB, kTime = 0xEFFFFFFA, kNet = 0xF0000000;

Result<VfsPath> IpcNs(const TaskRef& ref) {
  RefPtr<IpcNamespace> ns = ref.task->SnapshotIpc();
  if (!ns) return Errno(ENOENT);
  return NsPath("ipc", ns->number);
}

Result<VfsPath> MntNs(const TaskRef& ref) {
  RefPtr<MountNamespace> ns = ref.task->SnapshotMounts();
  if (!ns) return Errno(ENOENT);
  return NsPath("mnt", ns->number);
}
Result<VfsPath> UtsNs(const TaskRef& ref) {
  RefPtr<UtsNamespace> ns = ref.task->SnapshotUts();
  if (!ns) return Errno(ENOENT);
  return NsPath("uts", ns->number);
}
Result<VfsPath> PidNs(const TaskRef& ref) { return NsPath("pid", ref.task->pid_namespace().number); }

constexpr uint32_t kLink = S_IFLNK | 0777;
constexpr TaskEntry kNamespaces[] = {
    {.name = "net", .mode = kLink, .follow = [](const TaskRef&) { return NsPath("net", kNet); }},
    {.name = "uts", .mode = kLink, .follow = &UtsNs},
    {.name = "ipc", .mode = kLink, .follow = IpcNs},
    {.name = "pid", .mode = kLink, .follow = &PidNs},
    {.name = "pid_for_children", .mode = kLink, .follow = &PidNs},
    {.name = "user", .mode = kLink, .follow = [](const TaskRef&) { return NsPath("user", kUser); }},
    {.name = "mnt", .mode = kLink, .follow = &MntNs},
    {.name = "cgroup", .mode = kLink, .follow = [](const TaskRef&) { return NsPath("cgroup", kCgroup); }},
    {.name = "time", .mode = kLink, .follow = [](const TaskRef&) { return NsPath("time", kTime); }},
    {.name = "time_for_children", .mode = kLink, .follow = [](const TaskRef&) { return NsPath("time", kTime); }},
};

}  // namespace

RefPtr<Inode> NewNamespaceDir(const TaskRef& ref, uint64_t ino) {
  return NewTableDir(ref, kNamespaces, Area::kNamespaces, 0511, ino);
}

}  // namespace sentry::proc

#include "sentry/fs/proc/mount_text.h"

#include <sys/mount.h>
#include <sys/sysmacros.h>

namespace sentry::proc {

namespace {

// Space, tab, newline and backslash as octal (fs/proc_namespace.c, mangle).
std::string Mangle(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == ' ' || c == '\t' || c == '\n' || c == '\\' || c == '#') {
      char octal[5];
      snprintf(octal, sizeof(octal), "\\%03o", static_cast<unsigned char>(c));
      out += octal;
    } else {
      out += c;
    }
  }
  return out;
}

std::string FlagsText(uint64_t flags) {
  std::string out = (flags & MS_RDONLY) ? "ro" : "rw";
  if (flags & MS_NOSUID) out += ",nosuid";
  if (flags & MS_NODEV) out += ",nodev";
  if (flags & MS_NOEXEC) out += ",noexec";
  if (flags & MS_NOATIME) out += ",noatime";
  if (flags & MS_NODIRATIME) out += ",nodiratime";
  if (flags & MS_RELATIME) out += ",relatime";
  return out;
}

struct Line {
  MountNamespace::Entry entry;
  std::string where;
};

std::vector<Line> Lines(Task& task, VfsContext* ctx) {
  std::vector<Line> lines;
  RefPtr<MountNamespace> ns = task.SnapshotMounts();
  RefPtr<FsContext> fs = task.SnapshotFs();
  if (!ns || !fs) return lines;
  ctx->mounts = ns.get();
  ctx->root = fs->root();
  for (MountNamespace::Entry& e : ns->List()) {
    std::string where = e.mountpoint.valid() ? PathName(*ctx, e.mountpoint) : "/";
    if (where.starts_with("(unreachable)")) continue;
    lines.push_back({std::move(e), std::move(where)});
  }
  return lines;
}

std::string SuperOptions(Superblock& sb, uint64_t flags) {
  std::string options = sb.MountOptions();
  std::string out = (flags & MS_RDONLY) ? "ro" : "rw";
  return options.empty() ? out : out + "," + options;
}

}  // namespace

std::string MountsText(Task& task) {
  std::string out;
  VfsContext ctx;
  for (const Line& l : Lines(task, &ctx)) {
    Mount& m = *l.entry.mount;
    const std::string options = m.superblock().MountOptions();
    out += Mangle(m.source().empty() ? "none" : m.source()) + " " + Mangle(l.where) + " " + std::string(m.superblock().type_name()) + " " +
           FlagsText(m.flags()) + (options.empty() ? "" : "," + options) + " 0 0\n";
  }
  return out;
}

std::string MountinfoText(Task& task) {
  std::string out;
  VfsContext ctx;
  for (const Line& l : Lines(task, &ctx)) {
    Mount& m = *l.entry.mount;
    // The root of the mount within its file system.
    VfsContext plain;
    std::string root;
    for (RefPtr<Dentry> d = m.root_ref(); d && !d->IsRoot(); d = d->parent()) root = "/" + d->name() + root;
    if (root.empty()) root = "/";
    out += std::to_string(m.id()) + " " + std::to_string(l.entry.parent_id) + " " + std::to_string(major(m.superblock().dev())) + ":" +
           std::to_string(minor(m.superblock().dev())) + " " + Mangle(root) + " " + Mangle(l.where) + " " + FlagsText(m.flags()) + " - " +
           std::string(m.superblock().type_name()) + " " + Mangle(m.source().empty() ? "none" : m.source()) + " " +
           SuperOptions(m.superblock(), m.flags()) + "\n";
  }
  return out;
}

}  // namespace sentry::proc

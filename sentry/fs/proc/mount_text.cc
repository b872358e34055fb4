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

// show_mnt_opts. relatime is what a mount has that says nothing else (path_mount).
std::string FlagsText(uint64_t flags) {
  std::string out = (flags & MS_RDONLY) ? "ro" : "rw";
  if (flags & MS_NOSUID) out += ",nosuid";
  if (flags & MS_NODEV) out += ",nodev";
  if (flags & MS_NOEXEC) out += ",noexec";
  if (flags & MS_NOATIME) out += ",noatime";
  if (flags & MS_NODIRATIME) out += ",nodiratime";
  if (!(flags & (MS_NOATIME | MS_STRICTATIME))) out += ",relatime";
  return out;
}

struct Line {
  MountNamespace::Entry entry;
  std::string where;
};

// What can be reached from the root (seq_path_root).
std::vector<Line> Lines(MountNamespace& ns, const VfsPath& root) {
  std::vector<Line> lines;
  VfsContext ctx;
  ctx.mounts = &ns;
  ctx.root = root;
  for (MountNamespace::Entry& e : ns.List()) {
    std::string where = PathName(ctx, {e.mount, e.mount->root_ref()});
    if (where.starts_with("(unreachable)")) continue;
    lines.push_back({std::move(e), std::move(where)});
  }
  return lines;
}

std::string SourceOf(const Mount& mount) { return Mangle(mount.source().empty() ? "none" : mount.source()); }

std::string SuperOptions(const Mount& mount) {
  // A bind mount's flags are its own; the superblock of a whole file system was mounted with the mount's.
  const bool read_only = mount.read_only() && mount.root().IsRoot();
  const std::string options = mount.superblock().MountOptions();
  return std::string(read_only ? "ro" : "rw") + (options.empty() ? "" : "," + options);
}

// The directory of its file system that a mount shows.
std::string RootOf(const Mount& mount) {
  std::string root;
  for (RefPtr<Dentry> d = mount.root_ref(); d && !d->IsRoot(); d = d->parent()) root = "/" + d->name() + root;
  if (root.empty()) return "/";
  return mount.root().unlinked() ? root + "//deleted" : root;
}

// Optional fields. A shared mount is alone in its peer group, for nothing propagates here.
std::string PropagationText(const Mount& mount) {
  if (mount.propagation() & MS_SHARED) return " shared:" + std::to_string(mount.id());
  if (mount.propagation() & MS_UNBINDABLE) return " unbindable";
  return "";
}

}  // namespace

std::string MountsText(MountNamespace& ns, const VfsPath& root) {
  std::string out;
  for (const Line& l : Lines(ns, root)) {
    const Mount& m = *l.entry.mount;
    const std::string options = m.superblock().MountOptions();
    out += SourceOf(m) + " " + Mangle(l.where) + " " + std::string(m.superblock().type_name()) + " " +
           FlagsText(m.flags()) + (options.empty() ? "" : "," + options) + " 0 0\n";
  }
  return out;
}

std::string MountinfoText(MountNamespace& ns, const VfsPath& root) {
  std::string out;
  for (const Line& l : Lines(ns, root)) {
    const Mount& m = *l.entry.mount;
    const uint64_t dev = m.superblock().dev();
    out += std::to_string(m.id()) + " " + std::to_string(l.entry.parent_id) + " " + std::to_string(major(dev)) + ":" +
           std::to_string(minor(dev)) + " " + Mangle(RootOf(m)) + " " + Mangle(l.where) + " " + FlagsText(m.flags()) +
           PropagationText(m) + " - " + std::string(m.superblock().type_name()) + " " + SourceOf(m) + " " +
           SuperOptions(m) + "\n";
  }
  return out;
}

std::string MountstatsText(MountNamespace& ns, const VfsPath& root) {
  std::string out;
  for (const Line& l : Lines(ns, root)) {
    const Mount& m = *l.entry.mount;
    out += (m.source().empty() ? "no device" : "device " + SourceOf(m)) + " mounted on " + Mangle(l.where) +
           " with fstype " + std::string(m.superblock().type_name()) + "\n";
  }
  return out;
}

}  // namespace sentry::proc

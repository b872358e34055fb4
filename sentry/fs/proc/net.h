// /proc/<pid>/net. The tables of sockets are socket/'s: boot wires generators for them.
#ifndef SENTRY_FS_PROC_NET_H_
#define SENTRY_FS_PROC_NET_H_

#include <functional>
#include <string>

#include "sentry/fs/proc/process_dir.h"

namespace sentry::proc {

// `net`: Task::net() of the process. Before the first mount. It replaces the text of an empty namespace that is shown
// otherwise.
using NetGenerator = std::function<std::string(base::RefCounted* net)>;
void SetNetFile(std::string name, NetGenerator generate);
RefPtr<Inode> NewNetDir(const TaskRef& ref, uint64_t ino);

}  // namespace sentry::proc

#endif  // SENTRY_FS_PROC_NET_H_

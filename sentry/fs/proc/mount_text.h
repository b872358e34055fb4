// /proc/<pid>/mounts and mountinfo.
#ifndef SENTRY_FS_PROC_MOUNT_TEXT_H_
#define SENTRY_FS_PROC_MOUNT_TEXT_H_

#include <string>

#include "sentry/kernel/task.h"

namespace sentry::proc {

// As seen from the task's root.
std::string MountsText(Task& task);
std::string MountinfoText(Task& task);
std::string MountstatsText(Task& task);

}  // namespace sentry::proc

#endif  // SENTRY_FS_PROC_MOUNT_TEXT_H_

// mqueue, the file system of POSIX message queues (man 7 mq_overview, "Mounting the message queue filesystem"): a
// directory of the queues of an IPC namespace, that of whoever mounts it. The queues are kernel/ipc/mqueue.h's.
#ifndef SENTRY_FS_MQUEUE_MQUEUE_FS_H_
#define SENTRY_FS_MQUEUE_MQUEUE_FS_H_

#include "sentry/kernel/kernel.h"

namespace sentry::mqueue {

// Registers "mqueue".
void Register(Kernel& kernel);

}  // namespace sentry::mqueue

#endif  // SENTRY_FS_MQUEUE_MQUEUE_FS_H_

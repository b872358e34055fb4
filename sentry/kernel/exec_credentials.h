// What execve(2) does to credentials: set-ID bits, file capabilities, root. (man 7 capabilities, "Transformation of
// capabilities during execve"; security/commoncap.c)
#ifndef SENTRY_KERNEL_EXEC_CREDENTIALS_H_
#define SENTRY_KERNEL_EXEC_CREDENTIALS_H_

#include "sentry/vfs/credentials.h"
#include "sentry/vfs/file_description.h"

namespace sentry {

struct ExecCredentials {
  CredentialsRef creds;
  bool secure = false;       // AT_SECURE
  bool ids_changed = false;  // the new program is not dumpable
  bool gains = false;        // any id is another, or it may have a capability that the old program could not have
};

// `executable`: the file that supplies the program. EPERM for file capabilities that could not all be given
// (F(effective) set), EINVAL for a malformed security.capability attribute. `watched`: by a tracer without
// CAP_SYS_PTRACE, which must not get hold of a program that can do more than it could before.
Result<ExecCredentials> CredentialsAfterExec(const Credentials& old, FileDescription& executable, bool watched = false);

}  // namespace sentry

#endif  // SENTRY_KERNEL_EXEC_CREDENTIALS_H_

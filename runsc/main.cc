#include "runsc/cmd/command.h"

int main(int argc, char** argv) {
  runsc::cmd::Kernel kernel;
#ifdef RUNSC_HAVE_KERNEL
  kernel.factory = &sentry::boot::NewKernelSandbox;
  kernel.describe_syscalls = &sentry::boot::DescribeSystemCalls;
#endif
  return runsc::cmd::Main(argc, argv, kernel);
}

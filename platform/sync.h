// Run: the asynchronous Context::Start as a call that parks the fiber.
#ifndef PLATFORM_SYNC_H_
#define PLATFORM_SYNC_H_

#include "platform/platform.h"

namespace platform {

// Starts the context and parks until it completes. Unparks for other reasons are kept for the caller: if one arrived, a
// permit is pending when Run returns. They do not end the run (Interrupt does).
Exit Run(Context& context, AddressSpace& as);

}  // namespace platform

#endif  // PLATFORM_SYNC_H_

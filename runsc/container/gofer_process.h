// What a gofer process does before it serves: it takes a private copy of each mount it is to serve, enters an empty
// root, and gives up all capabilities but those for owning files.
#ifndef RUNSC_CONTAINER_GOFER_PROCESS_H_
#define RUNSC_CONTAINER_GOFER_PROCESS_H_

#include "base/unique_fd.h"
#include "runsc/container/spawn.h"

namespace runsc::container {

// `go`: a byte comes when the id maps are written. Returns the exit code.
int RunGofer(GoferSpawnOptions options, base::UniqueFd go, base::UniqueFd ready);

}  // namespace runsc::container

#endif  // RUNSC_CONTAINER_GOFER_PROCESS_H_

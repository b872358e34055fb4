// sendmsg and recvmsg between a guest and a socket of the host: data goes through the sentry's memory, so that a
// guest's buffers are never the host's business. Descriptors never cross: a message from the host that carries some
// loses them (MSG_CTRUNC), and one to the host that carries some is refused.
#ifndef SENTRY_SOCKET_HOST_TRANSFER_H_
#define SENTRY_SOCKET_HOST_TRANSFER_H_

#include <cstddef>

#include "sentry/socket/socket.h"

namespace sentry {

// `fd` is nonblocking. `max_packet`: of what is not a stream; EMSGSIZE beyond. EINVAL for control messages that are not
// about one packet's addresses and header.
Result<size_t> SendToHost(int fd, bool stream, size_t max_packet, OutgoingMessage& message);
// Fills in the sender's address as the host says it. With `control`, also control messages, and MSG_ERRQUEUE is
// served: for internet sockets only, which cannot carry descriptors.
Result<size_t> ReceiveFromHost(int fd, bool stream, size_t max_packet, bool control, IncomingMessage& message);
// poll(2) now: what Readiness says.
base::EventMask HostSocketReadiness(int fd);

}  // namespace sentry

#endif  // SENTRY_SOCKET_HOST_TRANSFER_H_

// One packet in, one packet out, with the descriptors that belong to it. Knows nothing of what is in a packet.
#ifndef GOFER_PROTOCOL_CHANNEL_H_
#define GOFER_PROTOCOL_CHANNEL_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/errno.h"
#include "base/unique_fd.h"

namespace gofer {

struct Channel {
  base::UniqueFd client;
  base::UniqueFd server;
};
// A connected pair of SOCK_SEQPACKET sockets, close-on-exec, with room for a full packet in each direction. The
// client's end has a receive timeout (SO_RCVTIMEO) of one tick of the host's kernel, 1 to 4 ms: it bounds how long an
// executor may be stuck in ReceivePacket when the gofer has to go to a disk. Set here, where the channel is made,
// because a confined sentry cannot call setsockopt. (A timeout of 200 µs by ppoll was measured: programming the CPU's
// timer and cancelling it again took 3 of 13 µs of every call; the tick's wheel costs nothing.)
base::Result<Channel> MakeChannel();

// Sends `packet`, with `fd` if it is not −1. EAGAIN if `wait` is false and there is no room; EPIPE if the peer is gone
// (never a SIGPIPE); ETOOMANYREFS or EMFILE if the host refuses to pass a descriptor.
base::Result<void> SendPacket(int socket, std::span<const uint8_t> packet, int fd, bool wait);

// Receives one packet into `buffer`. Returns its size; 0 when the peer has hung up (or sent an empty packet). EMSGSIZE
// if it did not fit; EAGAIN if `wait` is false and there is none. A descriptor is put into `fd`; null refuses
// descriptors. EBADMSG if there are more than one, or one where none is wanted: whatever came is closed. `fd_lost` (may
// be null) tells that the packet announced a descriptor that this process had no room for (EMFILE); the packet itself
// is fine.
base::Result<size_t> ReceivePacket(int socket, std::span<uint8_t> buffer, base::UniqueFd* fd, bool* fd_lost, bool wait);

}  // namespace gofer

#endif  // GOFER_PROTOCOL_CHANNEL_H_

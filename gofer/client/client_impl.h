// What Client and Node share.
#ifndef GOFER_CLIENT_CLIENT_IMPL_H_
#define GOFER_CLIENT_CLIENT_IMPL_H_

#include "base/errno.h"
#include "gofer/client/client.h"
#include "gofer/client/multiplexer.h"

namespace gofer {

struct Client::Impl {
  explicit Impl(base::UniqueFd socket) : multiplexer(std::move(socket)) {}
  Multiplexer multiplexer;

  // Sends `request`, waits, decodes. `received` keeps what views in the reply point into. A reply that is malformed, or
  // has a descriptor though `fd` is null (or none though it is not), breaks the connection.
  template <typename RequestT>
  base::Result<typename RequestT::Reply> Call(const RequestT& request, ReceivedReply& received,
                                              base::UniqueFd* fd = nullptr) {
    received = TRY(multiplexer.Exchange(request));
    typename RequestT::Reply reply;
    base::Result<void> parsed = ParseReplyBody(received.packet, reply);
    if (!parsed.ok() || (received.fd.valid() && fd == nullptr)) return Malformed();
    if (fd != nullptr) *fd = std::move(received.fd);
    return reply;
  }
  // For replies without views.
  template <typename RequestT>
  base::Result<typename RequestT::Reply> Call(const RequestT& request, base::UniqueFd* fd = nullptr) {
    ReceivedReply received;
    return Call(request, received, fd);
  }
  // Breaks the connection: the gofer cannot be trusted any more. EIO.
  base::Errno Malformed();
};

// EINVAL or ENAMETOOLONG for what is not a single component.
base::Result<void> CheckName(std::string_view name);

// An errno that came in a reply, as a guest may see it.
int SaneErrno(uint32_t error);

enum class DonatedKind { kFile, kFileOrFifo, kSocket };
// Whether the descriptor is of that kind, and open with the access mode of `open_flags` (files).
bool CheckDonated(const base::UniqueFd& fd, DonatedKind kind, uint32_t open_flags);

}  // namespace gofer

#endif  // GOFER_CLIENT_CLIENT_IMPL_H_

#include "gofer/client/client.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/logging.h"
#include "base/syscall_unsafe.h"
#include "gofer/client/client_impl.h"

namespace gofer {

base::RefPtr<Client> Client::Create(base::UniqueFd socket) { return base::MakeRef<Client>(std::move(socket)); }

Client::Client(base::UniqueFd socket) : impl_(std::make_unique<Impl>(std::move(socket))) {}
Client::~Client() = default;

bool Client::broken() const { return impl_->multiplexer.broken(); }
void Client::Disconnect() { impl_->multiplexer.Break(); }
void Client::FlushCloses() { impl_->multiplexer.FlushCloses(); }

base::Result<Attachment> Client::Attach(uint32_t mount) {
  AttachRequest request;
  request.mount = mount;
  AttachReply reply = TRY(impl_->Call(request));
  if (reply.version != kVersion || reply.max_message_bytes < kMaxMessageBytes || reply.max_in_flight == 0 ||
      reply.root == NodeId::kNone) {
    return impl_->Malformed();
  }
  impl_->multiplexer.LimitInFlight(reply.max_in_flight);
  Attachment attachment;
  attachment.root = base::MakeRef<Node>(base::RefPtr<Client>(this), reply.root);
  attachment.attributes = reply.attributes;
  attachment.read_only = (reply.mount_flags & kMountReadOnly) != 0;
  attachment.host_uds = (reply.mount_flags & kMountHostUds) != 0;
  attachment.host_fifo = (reply.mount_flags & kMountHostFifo) != 0;
  attachment.host_uds_create = (reply.mount_flags & kMountHostUdsCreate) != 0;
  attachment.max_nodes = reply.max_nodes;
  return attachment;
}

base::Result<void> Client::BindPort(int socket, std::string_view address) {
  ReceivedReply received = TRY(impl_->multiplexer.Exchange(BindPortRequest{.address = address}, socket));
  EmptyReply reply;
  if (received.fd.valid() || !ParseReplyBody(received.packet, reply).ok()) return impl_->Malformed();
  return {};
}

base::Errno Client::Impl::Malformed() {
  if (!multiplexer.broken()) LOG_WARNING("The gofer sent a reply that does not fit its request; its files are lost");
  multiplexer.Break();
  return base::Errno(EIO);
}

base::Result<void> CheckName(std::string_view name) {
  if (name.size() > kMaxNameBytes) return base::Errno(ENAMETOOLONG);
  if (!ValidName(name)) return base::Errno(EINVAL);
  return {};
}

int SaneErrno(uint32_t error) { return error <= uint32_t{kLargestErrno} ? static_cast<int>(error) : EIO; }

bool CheckDonated(const base::UniqueFd& fd, DonatedKind kind, uint32_t open_flags) {
  if (!fd.valid()) return false;
  struct stat st {};
  if (!base::Host(SYS_fstat, fd.get(), &st).ok()) return false;
  if (kind == DonatedKind::kSocket) return S_ISSOCK(st.st_mode);
  if (!S_ISREG(st.st_mode) && !(kind == DonatedKind::kFileOrFifo && S_ISFIFO(st.st_mode))) return false;
  const long flags = base::Host(SYS_fcntl, fd.get(), F_GETFL).value_or(O_PATH);
  return (flags & O_PATH) == 0 && (flags & O_ACCMODE) == static_cast<long>(open_flags & kOpenAccessMode);
}

}  // namespace gofer

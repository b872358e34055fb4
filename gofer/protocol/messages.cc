#include "gofer/protocol/messages.h"

#include <sys/stat.h>

#include <utility>

namespace gofer {

namespace {

// Calls `with(std::in_place_type<Request>)` for the request type that `type` names. False if there is none.
template <typename With, size_t... I>
bool DispatchOver(uint16_t type, With&& with, std::index_sequence<I...>) {
  return ((type == static_cast<uint16_t>(std::variant_alternative_t<I, RequestBody>::kType)
               ? (with(std::in_place_type<std::variant_alternative_t<I, RequestBody>>), true)
               : false) ||
          ...);
}

template <typename With>
bool Dispatch(uint16_t type, With&& with) {
  return DispatchOver(type, std::forward<With>(with), std::make_index_sequence<std::variant_size_v<RequestBody>>());
}

}  // namespace

bool Attributes::ValidMode(uint32_t mode) {
  if ((mode & ~0177777u) != 0) return false;
  switch (mode & S_IFMT) {
    case S_IFREG:
    case S_IFDIR:
    case S_IFLNK:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK:
      return true;
    default:
      return false;
  }
}

base::Result<void> ParseRequest(std::span<const uint8_t> packet, ParsedRequest& out) {
  Reader reader(packet);
  Header::Code(reader, out.header);
  if (!reader.ok() || out.header.size != packet.size() || packet.size() > kMaxMessageBytes || out.header.error != 0) {
    return base::Errno(EBADMSG);
  }
  out.closes.clear();
  if (out.header.aux > kMaxClosesPerMessage || out.header.aux > reader.left() / sizeof(NodeId))
    return base::Errno(EPROTO);
  out.closes.resize(out.header.aux);
  for (NodeId& id : out.closes) reader.Int(id);
  bool well_formed = false;
  bool known = Dispatch(out.header.type, [&]<typename T>(std::in_place_type_t<T>) {
    // Reuses the lists of an earlier request of the same type.
    T* body = std::get_if<T>(&out.body);
    if (body == nullptr) body = &out.body.emplace<T>();
    T::Code(reader, *body);
    well_formed = reader.Done();
  });
  if (!known) return base::Errno(ENOSYS);
  if (!well_formed) return base::Errno(EPROTO);
  return {};
}

base::Result<Header> ParseReplyHeader(std::span<const uint8_t> packet) {
  Reader reader(packet);
  Header header;
  Header::Code(reader, header);
  if (!reader.ok() || header.size != packet.size() || (header.type & kReplyBit) == 0 || header.aux > kMaxFdsPerReply ||
      (header.error != 0 && (reader.left() != 0 || header.aux != 0))) {
    return base::Errno(EPROTO);
  }
  return header;
}

base::Result<void> ParseReply(std::span<const uint8_t> packet) {
  Header header = TRY(ParseReplyHeader(packet));
  if (header.error != 0) return {};
  base::Result<void> result = base::Errno(EPROTO);
  Dispatch(static_cast<uint16_t>(header.type & ~kReplyBit), [&]<typename T>(std::in_place_type_t<T>) {
    typename T::Reply reply;
    result = ParseReplyBody(packet, reply);
  });
  return result;
}

void EncodeErrorReply(uint16_t type, uint32_t tag, int error, std::vector<uint8_t>& out) {
  internal::BeginMessage(
      {.type = static_cast<uint16_t>(type | kReplyBit), .tag = tag, .error = static_cast<uint16_t>(error)}, out);
  internal::EndMessage(true, out);
}

namespace internal {

void BeginMessage(Header header, std::vector<uint8_t>& out) {
  out.clear();
  Writer writer(out, kMaxMessageBytes);
  Header::Code(writer, header);
}

bool EndMessage(bool ok, std::vector<uint8_t>& out) {
  if (!ok) return false;
  for (size_t i = 0; i < 4; ++i) out[i] = static_cast<uint8_t>(out.size() >> (8 * i));
  return true;
}

}  // namespace internal

}  // namespace gofer

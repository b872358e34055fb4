#include "sentry/socket/provider.h"

#include <map>

namespace sentry {
namespace {

std::map<int, SocketProvider>& Providers() {
  static auto* providers = new std::map<int, SocketProvider>;
  return *providers;
}

}  // namespace

void RegisterSocketProvider(SocketProvider provider) {
  int family = provider.family;
  Providers()[family] = std::move(provider);
}

Result<const SocketProvider*> FindSocketProvider(int family) {
  auto it = Providers().find(family);
  if (it == Providers().end()) return Errno(EAFNOSUPPORT);
  return &it->second;
}

}  // namespace sentry

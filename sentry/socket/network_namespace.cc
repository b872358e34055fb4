#include "sentry/socket/network_namespace.h"

namespace sentry {

bool NetworkNamespace::AddName(const std::string& name, RefPtr<base::RefCounted> object) {
  base::MutexLock lock(mu_);
  return names_.try_emplace(name, std::move(object)).second;
}

RefPtr<base::RefCounted> NetworkNamespace::FindName(const std::string& name) {
  base::MutexLock lock(mu_);
  auto it = names_.find(name);
  return it != names_.end() ? it->second : nullptr;
}

void NetworkNamespace::RemoveName(const std::string& name, const base::RefCounted* object) {
  RefPtr<base::RefCounted> dropped;
  base::MutexLock lock(mu_);
  auto it = names_.find(name);
  if (it == names_.end() || it->second.get() != object) return;
  dropped = std::move(it->second);
  names_.erase(it);
}

void NetworkNamespace::AddUnix(base::RefCounted* object) {
  base::MutexLock lock(mu_);
  unix_objects_[object] = true;
}

void NetworkNamespace::RemoveUnix(base::RefCounted* object) {
  base::MutexLock lock(mu_);
  unix_objects_.erase(object);
}

std::vector<RefPtr<base::RefCounted>> NetworkNamespace::UnixObjects() {
  std::vector<RefPtr<base::RefCounted>> objects;
  base::MutexLock lock(mu_);
  for (auto& [object, unused] : unix_objects_) {
    if (object->TryRef()) objects.push_back(RefPtr<base::RefCounted>::Adopt(object));
  }
  return objects;
}

}  // namespace sentry

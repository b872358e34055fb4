#include <cxxabi.h>
#include <stdlib.h>

#include <map>
#include <string>
#include <typeinfo>
#include <unordered_set>

#include "base/logging.h"
#include "base/mutex.h"
#include "base/ref_ptr.h"

namespace base {

#ifdef RUNSC_LEAK_REGISTRY
namespace {

struct Registry {
  Mutex mu;
  std::unordered_set<const RefCounted*> live GUARDED_BY(mu);
};

// Never destroyed: objects may outlive static destruction.
Registry& TheRegistry() {
  static Registry* registry = new Registry;
  return *registry;
}

std::string TypeName(const RefCounted& object) {
  int status = 0;
  char* demangled = abi::__cxa_demangle(typeid(object).name(), nullptr, nullptr, &status);
  std::string name = status == 0 ? demangled : typeid(object).name();
  free(demangled);
  return name;
}

}  // namespace

RefCounted::RefCounted() {
  Registry& registry = TheRegistry();
  MutexLock lock(registry.mu);
  registry.live.insert(this);
}

RefCounted::~RefCounted() {
  Registry& registry = TheRegistry();
  MutexLock lock(registry.mu);
  registry.live.erase(this);
}

size_t ReportLeaks() {
  Registry& registry = TheRegistry();
  std::map<std::string, size_t> by_type;
  size_t total = 0;
  {
    // Tests call this when everything has stopped, so an object whose constructor has not finished is not a concern.
    MutexLock lock(registry.mu);
    total = registry.live.size();
    for (const RefCounted* object : registry.live) ++by_type[TypeName(*object)];
  }
  for (const auto& [type, count] : by_type) LOG_WARNING("leaked %zu objects of type %s", count, type.c_str());
  return total;
}

#else

RefCounted::RefCounted() = default;
RefCounted::~RefCounted() = default;
size_t ReportLeaks() { return 0; }

#endif  // RUNSC_LEAK_REGISTRY

}  // namespace base

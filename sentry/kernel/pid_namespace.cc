#include "sentry/kernel/pid_namespace.h"

namespace sentry {

PidNamespace::PidNamespace(base::RefPtr<PidNamespace> parent)
    : parent_(std::move(parent)), level_(parent_ ? parent_->level() + 1 : 0) {}

PidNamespace::~PidNamespace() = default;

}  // namespace sentry

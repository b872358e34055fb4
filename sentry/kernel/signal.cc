#include "sentry/kernel/signal.h"

namespace sentry {

DefaultAction DefaultActionOf(int signo) {
  switch (signo) {
    case kSIGCONT:
      return DefaultAction::kContinue;
    case kSIGCHLD:
    case kSIGURG:
    case kSIGWINCH:
      return DefaultAction::kIgnore;
    case kSIGSTOP:
    case kSIGTSTP:
    case kSIGTTIN:
    case kSIGTTOU:
      return DefaultAction::kStop;
    case kSIGQUIT:
    case kSIGILL:
    case kSIGTRAP:
    case kSIGABRT:
    case kSIGBUS:
    case kSIGFPE:
    case kSIGSEGV:
    case kSIGXCPU:
    case kSIGXFSZ:
    case kSIGSYS:
      return DefaultAction::kCore;
    default:
      return DefaultAction::kTerminate;
  }
}

SignalInfo UserSignal(int signo, int pid, uint32_t uid, int code) {
  SignalInfo info{};
  info.si_signo = signo;
  info.si_code = code;
  info.rt.pid = pid;
  info.rt.uid = uid;
  return info;
}

SignalInfo KernelSignal(int signo) { return UserSignal(signo, 0, 0, kSiKernel); }

bool PendingSignals::Push(const QueuedSignal& signal) {
  int signo = signal.info.si_signo;
  if (signo < kFirstRtSignal && set_.Has(signo)) return false;
  auto& queue = queues_[signo - 1];
  if (!queue) queue = std::make_unique<Queue>();
  queue->push_back(signal);
  set_.Add(signo);
  ++queued_;
  return true;
}

std::optional<QueuedSignal> PendingSignals::Pop(SignalSet deliverable) {
  SignalSet ready = set_ & deliverable;
  if (ready.empty()) return std::nullopt;
  // kernel/signal.c, next_signal: faults of the current instruction come before everything else.
  constexpr SignalSet kSynchronous(SignalSet::Of(kSIGSEGV) | SignalSet::Of(kSIGBUS) | SignalSet::Of(kSIGILL) |
                                   SignalSet::Of(kSIGTRAP) | SignalSet::Of(kSIGFPE) | SignalSet::Of(kSIGSYS));
  SignalSet first = ready & kSynchronous;
  if (first.empty()) first = ready;
  int signo = __builtin_ctzll(first.bits()) + 1;
  auto& queue = *queues_[signo - 1];
  QueuedSignal signal = std::move(queue.front());
  queue.pop_front();
  --queued_;
  if (queue.empty()) {
    set_.Remove(signo);
    queues_[signo - 1].reset();
  }
  return signal;
}

void PendingSignals::Discard(SignalSet signals) {
  SignalSet gone = set_ & signals;
  for (uint64_t bits = gone.bits(); bits != 0; bits &= bits - 1) {
    int signo = __builtin_ctzll(bits) + 1;
    queued_ -= queues_[signo - 1]->size();
    queues_[signo - 1].reset();
    set_.Remove(signo);
  }
}

std::vector<SignalInfo> PendingSignals::Peek(uint64_t offset, size_t count) const {
  std::vector<SignalInfo> found;
  for (const auto& queue : queues_) {
    if (!queue) continue;
    for (const QueuedSignal& s : *queue) {
      if (found.size() == count) return found;
      if (offset != 0) {
        --offset;
      } else {
        found.push_back(s.info);
      }
    }
  }
  return found;
}

QueuedSignal* PendingSignals::FindTimer(const base::RefCounted* timer) {
  for (auto& queue : queues_) {
    if (!queue) continue;
    for (QueuedSignal& s : *queue) {
      if (s.timer.get() == timer) return &s;
    }
  }
  return nullptr;
}

}  // namespace sentry

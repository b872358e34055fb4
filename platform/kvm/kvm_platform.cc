#include "platform/kvm/kvm_platform.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/executor.h"
#include "base/logging.h"
#include "platform/kvm/context.h"
#include "platform/kvm/kick.h"
#include "platform/kvm/platform_impl.h"

namespace platform::kvm {
namespace {

class Idle final : public base::IdleStrategy {
 public:
  explicit Idle(Cpu& cpu) : cpu_(cpu) {}
  ~Idle() override { cpu_.Detach(); }
  void Attach(base::Executor& executor) override { cpu_.Attach(executor); }
  // Nothing of the host's is bound to the thread.
  bool MayMove() const override { return true; }
  void Poll() override { cpu_.Poll(); }
  bool HasWork() const override { return cpu_.HasWork(); }
  void Wait() override { cpu_.Wait(); }
  void Wake() override { cpu_.Wake(); }
  Cpu& cpu() { return cpu_; }

 private:
  Cpu& cpu_;
};

}  // namespace

base::Result<std::unique_ptr<Platform>> New(Options options) {
  std::unique_ptr<KvmPlatform> platform = TRY(KvmPlatform::Create(std::move(options)));
  return std::unique_ptr<Platform>(std::move(platform));
}

base::Result<std::unique_ptr<KvmPlatform>> KvmPlatform::Create(Options options) {
  std::unique_ptr<KvmPlatform> platform(new KvmPlatform());
  TRY(InstallKickHandler());
  platform->machine_ = TRY(Machine::Create(std::move(options.device)));
  platform->windows_ = std::make_unique<FileWindows>(*platform->machine_);
  // The first shows whether the host lets us have any.
  std::unique_ptr<Vcpu> first = TRY(Vcpu::Create(*platform->machine_, 0));
  Machine::Traits traits = TRY(first->Try());
  traits.gate = options.gate && traits.syscall_faults && platform->machine_->can_sync_registers();
  platform->machine_->set_traits(traits);
  LOG_DEBUG("kvm: `syscall` %s; ring 0 goes back by %s; %s; %s",
            traits.gate             ? "stays in ring 3 on this host, and exits by the gate"
            : traits.syscall_faults ? "stays in ring 3 on this host, and is taken as the fault that follows"
                                    : "enters ring 0",
            traits.sysret ? "`sysret` where it can" : "`iretq`",
            traits.vectors ? "it can move vector state" : "vector state is moved by the host",
            traits.pcids ? "address spaces have PCIDs" : "no PCIDs");
  TRY(first->UseTraits());
  if (traits.gate) TRY(first->UseGate());
  platform->cpus_.push_back(std::make_unique<Cpu>(*platform, std::move(first)));
  return platform;
}

KvmPlatform::~KvmPlatform() { CHECK(running_.load() == 0); }

std::unique_ptr<base::IdleStrategy> KvmPlatform::NewIdleStrategy(int index) {
  while (static_cast<size_t>(index) >= cpus_.size()) {
    auto vcpu = Vcpu::Create(*machine_, static_cast<int>(cpus_.size()));
    if (!vcpu.ok()) LOG_ERROR("kvm: no virtual CPU: %s", base::ErrnoName(vcpu.error().value()));
    CHECK(vcpu.ok());
    cpus_.push_back(std::make_unique<Cpu>(*this, std::move(*vcpu)));
  }
  return std::make_unique<Idle>(*cpus_[index]);
}

Cpu& KvmPlatform::CurrentCpu() {
  base::Executor* executor = base::Executor::Current();
  CHECK(executor != nullptr);
  return static_cast<Idle&>(executor->idle()).cpu();
}

Cpu* KvmPlatform::IdleCpu() {
  for (auto& cpu : cpus_) {
    if (cpu->Sleeps() && cpu->Idle()) return cpu.get();
  }
  return nullptr;
}

base::Result<base::RefPtr<AddressSpace>> KvmPlatform::NewAddressSpace() {
  return base::RefPtr<AddressSpace>(TRY(KvmAddressSpace::Create(*this)));
}

base::Result<std::unique_ptr<Context>> KvmPlatform::NewContext() {
  return std::unique_ptr<Context>(std::make_unique<KvmContext>(*this));
}

bool KvmPlatform::OthersWait() {
  if (base::Executor::Current()->queue_length() != 0) return true;
  Cpu& cpu = CurrentCpu();
  base::MutexLock lock(queues_);
  return !cpu.Idle();
}

void KvmPlatform::Interrupt(KvmAddressSpace& as) {
  uint32_t stays[RING0_MAX_CPUS];
  bool in[RING0_MAX_CPUS] = {};
  for (size_t i = 0; i < cpus_.size(); ++i) {
    in[i] = cpus_[i]->IsIn(as, stays[i]);
    if (in[i]) cpus_[i]->KickOut();
  }
  for (size_t i = 0; i < cpus_.size(); ++i) {
    if (in[i]) cpus_[i]->AwaitExit(stays[i]);
  }
}

void KvmPlatform::EndContexts(KvmAddressSpace& as) {
  std::vector<Completion*> ended;
  std::vector<Cpu*> running;
  {
    base::MutexLock lock(queues_);
    for (auto& cpu : cpus_) {
      for (KvmContext* c = cpu->head(); c != nullptr;) {
        KvmContext* next = c->next_;
        if (c->as_ == &as) {
          cpu->Remove(*c);
          c->place_ = KvmContext::Place::kNowhere;
          c->interrupted_ = false;
          running_.fetch_sub(1, std::memory_order_relaxed);
          ended.push_back(std::exchange(c->done_, nullptr));
        }
        c = next;
      }
      if (cpu->current() != nullptr && cpu->current()->as_ == &as) running.push_back(cpu.get());
    }
  }
  for (Cpu* cpu : running) cpu->Wake();
  Interrupt(as);
  for (Completion* done : ended) done->Complete({});
}

}  // namespace platform::kvm

#include "platform/sync.h"

#include "base/fiber.h"

namespace platform {
namespace {

class Waiter final : public Completion {
 public:
  explicit Waiter(base::Fiber& fiber) : fiber_(&fiber) {}

  void Complete(const Exit& exit) override {
    // After the store the fiber may be gone as soon as it sees it (a permit of another kind can wake it): keep it
    // alive.
    base::RefPtr<base::Fiber> fiber = fiber_;
    exit_ = exit;
    done_.store(true, std::memory_order_release);
    fiber->Unpark();
  }

  Exit Wait() {
    bool other_permit = false;
    while (!done_.load(std::memory_order_acquire)) {
      base::Fiber::Park();
      if (!done_.load(std::memory_order_acquire)) other_permit = true;
    }
    if (other_permit) fiber_->Unpark();
    return exit_;
  }

 private:
  base::RefPtr<base::Fiber> fiber_;
  std::atomic<bool> done_{false};
  Exit exit_;
};

}  // namespace

Exit Run(Context& context, AddressSpace& as) {
  Waiter waiter(*base::Fiber::Current());
  context.Start(as, waiter);
  return waiter.Wait();
}

}  // namespace platform

// Long random histories of several address spaces, compared page by page with a model that knows nothing of extents,
// sharing or hosts.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>

#include <map>
#include <memory>
#include <random>

#include "base/safe_copy_unsafe.h"
#include "tests/unit/sentry_mm/fake_host.h"

namespace sentry::testing {
namespace {

constexpr Addr kArena = 0x4000'0000;
constexpr int kPages = 96;
constexpr int kFilePages = 48;

// The first byte of a page is all the model knows of it.
struct ModelFile {
  std::vector<uint8_t> pages = std::vector<uint8_t>(kFilePages);
  RefPtr<DonatedFile> file;  // null: shared anonymous
};
struct ModelPage {
  uint8_t prot = 0;
  bool shared = false;
  std::shared_ptr<ModelFile> file;
  int file_page = 0;
  bool own = false;  // a private copy, or anonymous
  uint8_t value = 0;
};
using Model = std::map<int, ModelPage>;

class RandomMm : public ::testing::TestWithParam<int> {
 protected:
  static void SetUpTestSuite() { base::InstallSafeCopyHandlers(); }
  struct Process {
    RefPtr<MemoryManager> mm;
    Model model;
  };

  int Pick(int n) { return static_cast<int>(random_() % static_cast<unsigned>(n)); }
  std::shared_ptr<ModelFile> NewFile() {
    auto f = std::make_shared<ModelFile>();
    std::string contents(kFilePages * kPageSize, '\0');
    for (int i = 0; i < kFilePages; ++i) contents[i * kPageSize] = static_cast<char>(f->pages[i] = Pick(255) + 1);
    f->file = base::MakeRef<DonatedFile>(contents);
    return f;
  }
  static int Expected(const Model& m, int page, bool write) {
    auto it = m.find(page);
    if (it == m.end()) return -SIGSEGV;
    const ModelPage& p = it->second;
    if (write ? !(p.prot & PROT_WRITE) : p.prot == 0) return -SIGSEGV;
    if (p.own) return p.value;
    return p.file_page < static_cast<int>(p.file->pages.size()) ? p.file->pages[p.file_page] : -SIGBUS;
  }
  static void ModelWrite(Model& m, int page, uint8_t value) {
    ModelPage& p = m[page];
    if (p.own || !p.shared) {
      p.own = true;
      p.value = value;
    } else {
      p.file->pages[p.file_page] = value;
    }
  }
  static Addr At(int page) { return kArena + static_cast<uint64_t>(page) * kPageSize; }

  void Check(Process& p) {
    for (int page = 0; page < kPages; ++page) {
      int want = Expected(p.model, page, false);
      ASSERT_EQ(GuestRead(*p.mm, At(page)), want) << "page " << page << " step " << step_;
      uint8_t byte = 0;
      auto copied = p.mm->CopyIn(std::as_writable_bytes(std::span(&byte, 1)), At(page));
      ASSERT_EQ(copied.ok() ? byte : -1, want < 0 ? -1 : want) << "page " << page << " step " << step_;
    }
  }
  void Mmap(Process& p);
  void Step();

  FakePlatform platform_;
  std::unique_ptr<platform::MemoryFile> memory_file_;
  MmEnvironment env_;
  std::mt19937 random_;
  std::vector<Process> processes_;
  std::vector<std::shared_ptr<ModelFile>> files_;
  int step_ = 0;
};

void RandomMm::Mmap(Process& p) {
  int first = Pick(kPages), n = 1 + Pick(std::min(kPages - first, 24));
  MMapOptions o;
  o.addr = At(first);
  o.fixed = true;
  o.length = n * kPageSize;
  o.prot = std::array<uint8_t, 4>{0, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE}[Pick(4)];
  o.populate = Pick(8) == 0;
  std::shared_ptr<ModelFile> file;
  int offset = 0;
  switch (Pick(4)) {
    case 0:
    case 1:
      break;
    case 2:
      o.shared = true;
      file = std::make_shared<ModelFile>();
      file->pages.resize(n);
      break;
    default:
      file = files_[Pick(static_cast<int>(files_.size()))];
      offset = Pick(kFilePages);
      // A file is mapped either way but not both: whether a private mapping sees later changes is unspecified (man 2
      // mmap), and here depends on what has been copied.
      o.shared = file == files_.back();
      o.mappable = file->file;
      o.offset = offset * kPageSize;
      break;
  }
  ASSERT_EQ(p.mm->MMap(o, {}).value_or(0), At(first));
  for (int i = 0; i < n; ++i) {
    ModelPage m{
        .prot = o.prot, .shared = o.shared, .file = file, .file_page = offset + i, .own = file == nullptr, .value = 0};
    p.model[first + i] = m;
  }
}

void RandomMm::Step() {
  Process& p = processes_[Pick(static_cast<int>(processes_.size()))];
  int first = Pick(kPages), n = 1 + Pick(std::min(kPages - first, 16));
  auto covered = [&] {
    for (int i = first; i < first + n; ++i) {
      if (!p.model.contains(i)) return false;
    }
    return true;
  };
  switch (Pick(16)) {
    case 0:
    case 1:
      Mmap(p);
      break;
    case 2:
      ASSERT_TRUE(p.mm->Munmap(At(first), n * kPageSize).ok());
      for (int i = first; i < first + n; ++i) p.model.erase(i);
      break;
    case 3:
    case 4: {
      uint8_t prot = std::array<uint8_t, 4>{0, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE}[Pick(4)];
      bool all = covered();
      ASSERT_EQ(p.mm->Mprotect(At(first), n * kPageSize, prot, false, false).ok(), all);
      for (int i = first; i < first + n && p.model.contains(i); ++i) p.model[i].prot = prot;
      break;
    }
    case 5: {
      bool all = covered();
      ASSERT_EQ(p.mm->Madvise(At(first), n * kPageSize, MADV_DONTNEED).ok(), all);
      for (int i = first; i < first + n; ++i) {
        auto it = p.model.find(i);
        if (it == p.model.end() || it->second.shared) continue;
        it->second.value = 0;
        it->second.own = it->second.file == nullptr;
      }
      break;
    }
    case 6:
      if (processes_.size() < 5) {
        auto child = p.mm->Fork();
        ASSERT_TRUE(child.ok());
        processes_.push_back({*child, p.model});
      } else if (processes_.size() > 1) {
        int victim = Pick(static_cast<int>(processes_.size()));
        processes_[victim].mm->DropUser();
        processes_.erase(processes_.begin() + victim);
      }
      break;
    case 7: {
      // A move within the arena. One VMA only: what comes from one mmap and was not changed since may still have been
      // split, so failure is allowed, and then nothing has changed.
      int to = Pick(kPages - n + 1);
      if (to < first + n && first < to + n) break;
      // EFAULT leaves the destination alone only if it was found before: compare with a hole there.
      ASSERT_TRUE(p.mm->Munmap(At(to), n * kPageSize).ok());
      for (int i = 0; i < n; ++i) p.model.erase(to + i);
      auto moved = p.mm->Mremap(At(first), n * kPageSize, n * kPageSize, MREMAP_MAYMOVE | MREMAP_FIXED, At(to), {});
      if (!moved.ok()) break;
      for (int i = 0; i < n; ++i) {
        ASSERT_TRUE(p.model.contains(first + i));
        p.model[to + i] = p.model[first + i];
        p.model.erase(first + i);
      }
      break;
    }
    case 8: {
      auto& f = files_[Pick(static_cast<int>(files_.size()))];
      int pages = Pick(3) ? kFilePages : Pick(kFilePages);
      int old = static_cast<int>(f->pages.size());
      f->pages.resize(pages);
      f->file->Resize(pages * static_cast<off_t>(kPageSize));
      if (pages < old) {
        for (Process& q : processes_) {
          for (auto& [page, m] : q.model) {
            if (m.file == f && !m.shared && m.file_page >= pages) m.own = false;
          }
        }
      }
      break;
    }
    default: {
      for (int i = 0; i < 4; ++i) {
        int page = Pick(kPages);
        uint8_t value = Pick(255) + 1;
        int want = Expected(p.model, page, true);
        if (Pick(2)) {
          auto signal = GuestWrite(*p.mm, At(page), value);
          ASSERT_EQ(signal ? -signal->signo : 0, std::min(want, 0)) << "page " << page << " step " << step_;
        } else {
          ASSERT_EQ(p.mm->CopyOut(At(page), std::as_bytes(std::span(&value, 1))).ok(), want >= 0)
              << "page " << page << " step " << step_;
        }
        if (want >= 0) ModelWrite(p.model, page, value);
      }
      break;
    }
  }
}

TEST_P(RandomMm, MatchesTheModel) {
  random_.seed(static_cast<unsigned>(GetParam()));
  memory_file_ = *platform::MemoryFile::Create({});
  env_ = {&platform_, memory_file_.get()};
  for (int i = 0; i < 3; ++i) files_.push_back(NewFile());
  processes_.push_back({*MemoryManager::Create(env_), {}});
  for (step_ = 0; step_ < 1500; ++step_) {
    Step();
    if (HasFatalFailure()) break;
    if (step_ % 10 == 0) {
      Check(processes_[Pick(static_cast<int>(processes_.size()))]);
      if (HasFatalFailure()) break;
    }
  }
  for (Process& p : processes_) {
    if (!HasFatalFailure()) Check(p);
    p.mm->DropUser();
  }
  processes_.clear();
}

// The host refuses now and then, memory runs out now and then: operations fail, nothing crashes, and what is read is
// still what was written or a signal.
TEST_P(RandomMm, SurvivesAFailingHost) {
  random_.seed(static_cast<unsigned>(GetParam()) + 1000);
  memory_file_ = *platform::MemoryFile::Create({.fail_randomly = true});
  env_ = {&platform_, memory_file_.get()};
  auto root = *MemoryManager::Create(env_);
  std::vector<RefPtr<MemoryManager>> mms{root};
  for (int step = 0; step < 1000; ++step) {
    RefPtr<MemoryManager> chosen = mms[Pick(static_cast<int>(mms.size()))];
    MemoryManager& mm = *chosen;
    HostOf(mm).fail_after = Pick(5) == 0 ? Pick(3) : -1;
    Addr at = At(Pick(kPages));
    uint64_t length = (1 + Pick(16)) * kPageSize;
    MMapOptions o;
    switch (Pick(7)) {
      case 0:
        o.addr = at;
        o.fixed = true;
        o.length = length;
        o.prot = PROT_READ | PROT_WRITE;
        o.shared = Pick(3) == 0;
        (void)mm.MMap(o, {}).ok();
        break;
      case 1:
        (void)mm.Munmap(at, length).ok();
        break;
      case 2:
        (void)mm.Mprotect(at, length, Pick(4), false, false).ok();
        break;
      case 3:
        if (mms.size() < 5) {
          auto child = mm.Fork();
          if (child.ok()) mms.push_back(*child);
        } else {
          mms.back()->DropUser();
          mms.pop_back();
        }
        break;
      case 4:
        (void)mm.Mremap(at, length, length * 2, MREMAP_MAYMOVE, 0, {}).ok();
        break;
      default:
        (void)GuestWrite(mm, at, static_cast<uint8_t>(step));
        (void)mm.CopyOut(at, std::as_bytes(std::span("hello", 5))).ok();
        break;
    }
    HostOf(mm).fail_after = -1;
    if (HostOf(mm).released) {
      // What a kernel does with a process whose address space is gone.
      HostOf(mm).released = false;
    }
  }
  for (auto& mm : mms) mm->DropUser();
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomMm, ::testing::Range(0, 12));

}  // namespace
}  // namespace sentry::testing

// kernel/ (Documentation/ABI/testing/sysfs-kernel-mm-*).
#include "sentry/fs/sys/tree.h"

namespace sentry::sys {

void AddKernel(StaticDir& dir) {
  AddLine(dir, "address_bits", "64");
  AddLine(dir, "cpu_byteorder", "little");
  AddLine(dir, "fscaps", "1");
  AddLine(dir, "kexec_crash_loaded", "0");
  AddLine(dir, "kexec_loaded", "0");
  AddLine(dir, "profiling", "0");
  AddLine(dir, "rcu_expedited", "0");
  AddLine(dir, "rcu_normal", "0");
  AddLine(dir, "uevent_seqnum", "0");
  // Mount points.
  for (const char* name : {"cgroup", "config", "debug", "security", "tracing", "iommu_groups", "irq", "slab"})
    dir.Subdir(name);
  RefPtr<StaticDir> mm = dir.Subdir("mm");
  // Huge pages are the host's business: the memory behind the guest's may have them.
  RefPtr<StaticDir> thp = mm->Subdir("transparent_hugepage");
  AddLine(*thp, "enabled", "always [madvise] never");
  AddLine(*thp, "defrag", "always defer defer+madvise [madvise] never");
  AddLine(*thp, "shmem_enabled", "always within_size advise [never] deny force");
  AddLine(*thp, "use_zero_page", "1");
  AddLine(*thp, "hpage_pmd_size", "2097152");
  RefPtr<StaticDir> khugepaged = thp->Subdir("khugepaged");
  AddLine(*khugepaged, "defrag", "1");
  AddLine(*khugepaged, "max_ptes_none", "511");
  AddLine(*khugepaged, "pages_to_scan", "4096");
  AddLine(*khugepaged, "scan_sleep_millisecs", "10000");
  RefPtr<StaticDir> pool = mm->Subdir("hugepages")->Subdir("hugepages-2048kB");
  for (const char* name :
       {"free_hugepages", "nr_hugepages", "nr_overcommit_hugepages", "resv_hugepages", "surplus_hugepages"}) {
    AddLine(*pool, name, "0");
  }
  RefPtr<StaticDir> ksm = mm->Subdir("ksm");
  for (const char* name : {"run", "pages_shared", "pages_sharing"}) AddLine(*ksm, name, "0");
}

}  // namespace sentry::sys

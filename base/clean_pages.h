// What our own program maps and has not changed, given back to the host.
#ifndef BASE_CLEAN_PAGES_H_
#define BASE_CLEAN_PAGES_H_

namespace base {

// Unmaps the pages of code and constants of our program. They stay in the host's page cache, and those that are used
// again come back by faults, sixteen at a time. Most of what a process has mapped when it starts to serve it needed
// only to start. Any thread, at any time; host call: madvise.
void DropCleanPages();

}  // namespace base

#endif  // BASE_CLEAN_PAGES_H_

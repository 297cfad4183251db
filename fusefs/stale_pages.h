// StalePages: held by a request that changes content in a way that the kernel learns only from a
// good answer, upon which it drops its pages: holes, truncations, copies.
//
// Without that answer it keeps them: the request failed midway, or the server died and the program
// that waited was killed. So the volume is marked for the next server, and unless it was answered
// the kernel is told, soon, by the Invalidator.
#ifndef CAIRN_FUSEFS_STALE_PAGES_H_
#define CAIRN_FUSEFS_STALE_PAGES_H_

#include "fusefs/invalidator.h"
#include "fusefs/ops.h"

namespace cairn {

class StalePages {
 public:
  StalePages(const Request& request, InodeId inode) : edge_(request.edge()), inode_(inode) {
    edge_.filesystem().MarkStalePages(inode_);
  }
  ~StalePages();
  StalePages(const StalePages&) = delete;
  StalePages& operator=(const StalePages&) = delete;

  // The kernel has the good answer.
  void Answered() noexcept;
  // Returns `why`. Where that says that nothing was begun, nobody is told.
  Status Failed(Status why);

 private:
  Edge& edge_;
  const InodeId inode_;
  bool answered_ = false;
};

}  // namespace cairn

#endif  // CAIRN_FUSEFS_STALE_PAGES_H_

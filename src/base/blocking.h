// Lets a thread that serves requests learn that what it has called is about to wait for a device,
// so that another can take its place meanwhile. What is told is a hint: calls may wait without
// saying so, and may say so and not wait.
#ifndef CAIRN_SRC_BASE_BLOCKING_H_
#define CAIRN_SRC_BASE_BLOCKING_H_

namespace cairn {

class BlockingListener {
 public:
  virtual ~BlockingListener() = default;
  // On the thread that is about to wait; it may hold locks. Any number of times.
  virtual void OnAboutToBlock() noexcept = 0;
};

namespace internal {
inline constinit thread_local BlockingListener* blocking_listener = nullptr;
}  // namespace internal

// Of the calling thread, and borrowed; nullptr: none, as in the beginning.
inline void SetBlockingListener(BlockingListener* listener) {
  internal::blocking_listener = listener;
}
inline bool HasBlockingListener() { return internal::blocking_listener != nullptr; }

// Before a call that waits for a device, or probably does.
inline void AboutToBlock() noexcept {
  if (internal::blocking_listener != nullptr) internal::blocking_listener->OnAboutToBlock();
}

}  // namespace cairn

#endif  // CAIRN_SRC_BASE_BLOCKING_H_

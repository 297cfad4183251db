#include "fusefs/device_wait.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>

namespace cairn {
namespace {

bool Waits() {
  for (int i = 0; i < 1000; ++i) {
    if (AnyThreadWaitsForDevice()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

TEST(DeviceWait, SeesAThreadThatServesNothing) {
  EXPECT_FALSE(AnyThreadWaitsForDevice());
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  // CLONE_VFORK: the kernel shows a parent that waits for its child as one that waits for a device.
  std::thread waiter([&] {
    const auto child = static_cast<pid_t>(syscall(SYS_clone, 0x4000 | SIGCHLD, 0, 0, 0, 0));
    if (child == 0) {
      close(ends[1]);
      char byte = 0;
      _exit(read(ends[0], &byte, 1) == 0 ? 0 : 1);
    }
    waitpid(child, nullptr, 0);
  });
  EXPECT_TRUE(Waits());
  close(ends[1]);
  waiter.join();
  close(ends[0]);
  EXPECT_FALSE(AnyThreadWaitsForDevice());
}

}  // namespace
}  // namespace cairn

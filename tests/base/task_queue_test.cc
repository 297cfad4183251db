#include "src/base/task_queue.h"

#include <gtest/gtest.h>

#include <memory>
#include <utility>

namespace cairn {
namespace {

TEST(TaskQueueTest, ShutDropsWhatWaitsAndWhatComes) {
  TaskQueue queue;
  const auto held = std::make_shared<int>(0);
  EXPECT_TRUE(queue.Push([held] { ++*held; }));
  EXPECT_EQ(held.use_count(), 2);
  queue.Shut();
  EXPECT_EQ(held.use_count(), 1);
  EXPECT_FALSE(queue.Push([held] { ++*held; }));
  EXPECT_FALSE(queue.RunOne());
  EXPECT_FALSE(queue.WaitAndRunOne());
  queue.WaitIdle();
  EXPECT_EQ(*held, 0);
}

// A captured object whose destructor posts again: a lock held over it would deadlock.
class PostsWhenDestroyed {
 public:
  explicit PostsWhenDestroyed(TaskQueue& queue) : queue_(queue) {}
  ~PostsWhenDestroyed() {
    queue_.Push([] {});
  }
  PostsWhenDestroyed(const PostsWhenDestroyed&) = delete;
  PostsWhenDestroyed& operator=(const PostsWhenDestroyed&) = delete;

 private:
  TaskQueue& queue_;
};

TEST(TaskQueueTest, WhatATaskCapturedMayUseTheQueueWhenDestroyed) {
  TaskQueue queue;
  auto held = std::make_shared<PostsWhenDestroyed>(queue);
  queue.Push([held] {});
  held.reset();
  EXPECT_TRUE(queue.RunOne());
  EXPECT_EQ(queue.size(), 1u);

  held = std::make_shared<PostsWhenDestroyed>(queue);
  queue.Push([held] {});
  held.reset();
  queue.Shut();
  EXPECT_EQ(queue.size(), 0u);
}

TEST(TaskQueueDeathTest, ARunawayPosterStopsTheProcess) {
  TaskQueue queue(2);
  EXPECT_TRUE(queue.Push([] {}));
  EXPECT_TRUE(queue.Push([] {}));
  EXPECT_DEATH(queue.Push([] {}), "CHECK failed");
}

TEST(TaskQueueDeathTest, ATaskMustNotThrow) {
  TaskQueue queue;
  queue.Push([] { throw 1; });
  EXPECT_DEATH(queue.RunOne(), "terminate");
}

}  // namespace
}  // namespace cairn

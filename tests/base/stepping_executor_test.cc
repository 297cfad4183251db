#include "src/base/stepping_executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace cairn {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;

class SteppingExecutorTest : public testing::Test {
 protected:
  Executor::Task Note(const std::string& name) {
    return [this, name] { ran_.push_back(name); };
  }
  std::vector<std::string> ran_;
  SteppingExecutor executor_;
};

TEST_F(SteppingExecutorTest, NothingRunsByItself) {
  executor_.Post(Note("a"));
  executor_.Post(Note("b"));
  EXPECT_THAT(ran_, ElementsAre());
  EXPECT_EQ(executor_.queued_count(), 2u);
  EXPECT_TRUE(executor_.RunOne());
  EXPECT_THAT(ran_, ElementsAre("a"));
  EXPECT_TRUE(executor_.RunOne());
  EXPECT_FALSE(executor_.RunOne());
  EXPECT_THAT(ran_, ElementsAre("a", "b"));
}

TEST_F(SteppingExecutorTest, RunAllAndDrainRunWhatTasksPost) {
  executor_.Post([this] {
    ran_.emplace_back("a");
    executor_.Post(Note("c"));
    executor_.PostAfter(milliseconds(0), Note("d"));
    executor_.PostAfter(milliseconds(1), Note("later"));
  });
  executor_.Post(Note("b"));
  EXPECT_EQ(executor_.RunAll(), 4u);
  EXPECT_THAT(ran_, ElementsAre("a", "b", "c", "d"));
  executor_.Post(Note("e"));
  executor_.Drain();
  EXPECT_THAT(ran_, ElementsAre("a", "b", "c", "d", "e"));
  EXPECT_EQ(executor_.delayed_count(), 1u);
}

TEST_F(SteppingExecutorTest, TimeQueuesWhatIsDueInOrderOfDeadlineThenOfPosting) {
  executor_.PostAfter(milliseconds(20), Note("20"));
  executor_.PostAfter(milliseconds(10), Note("10 first"));
  executor_.PostAfter(milliseconds(10), Note("10 second"));
  executor_.AdvanceTime(milliseconds(9));
  EXPECT_EQ(executor_.RunAll(), 0u);
  executor_.PostAfter(milliseconds(1), Note("10 third"));
  executor_.Post(Note("now"));
  executor_.AdvanceTime(milliseconds(1));
  EXPECT_THAT(ran_, ElementsAre());
  EXPECT_EQ(executor_.delayed_count(), 1u);
  executor_.RunAll();
  EXPECT_THAT(ran_, ElementsAre("now", "10 first", "10 second", "10 third"));
  executor_.AdvanceTime(milliseconds(1000));
  executor_.RunAll();
  EXPECT_EQ(ran_.back(), "20");
}

TEST_F(SteppingExecutorTest, LongDelaysDoNotOverflow) {
  executor_.AdvanceTime(milliseconds(5));
  executor_.PostAfter(milliseconds::max(), Note("never"));
  executor_.AdvanceTime(milliseconds(5));
  EXPECT_EQ(executor_.RunAll(), 0u);
  executor_.AdvanceTime(milliseconds::max());
  EXPECT_EQ(executor_.RunAll(), 1u);
}

TEST_F(SteppingExecutorTest, DestructionDropsEverything) {
  auto executor = std::make_unique<SteppingExecutor>();
  const auto held = std::make_shared<int>(0);
  executor->Post([held] { ++*held; });
  executor->PostAfter(milliseconds(1), [held] { ++*held; });
  executor.reset();
  EXPECT_EQ(*held, 0);
  EXPECT_EQ(held.use_count(), 1);
}

}  // namespace
}  // namespace cairn

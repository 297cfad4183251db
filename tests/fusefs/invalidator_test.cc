#include "fusefs/invalidator.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <future>
#include <thread>

#include "fusefs/protocol.h"
#include "src/base/unique_fd.h"

namespace cairn {
namespace {

// A socket pair that keeps messages apart stands in for /dev/fuse.
class InvalidatorTest : public testing::Test {
 protected:
  void SetUp() override {
    int fds[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
    ours_ = UniqueFd(fds[0]);
    theirs_ = UniqueFd(fds[1]);
  }

  struct Message {
    fuse_out_header header{};
    std::string body;
  };
  Message Next() {
    Message message;
    char buffer[4096];
    const ssize_t got = read(theirs_.get(), buffer, sizeof(buffer));
    EXPECT_GE(got, static_cast<ssize_t>(sizeof(message.header)));
    if (got < static_cast<ssize_t>(sizeof(message.header))) return message;
    std::memcpy(&message.header, buffer, sizeof(message.header));
    EXPECT_EQ(message.header.len, static_cast<uint32_t>(got));
    message.body.assign(buffer + sizeof(message.header), buffer + got);
    return message;
  }
  bool HasNext() {
    pollfd waiting{theirs_.get(), POLLIN, 0};
    return poll(&waiting, 1, 0) > 0;
  }
  template <typename Body>
  static Body As(const Message& message) {
    Body body{};
    EXPECT_GE(message.body.size(), sizeof(body));
    std::memcpy(&body, message.body.data(), std::min(sizeof(body), message.body.size()));
    return body;
  }
  static std::vector<std::byte> Bytes(const std::string& text) {
    const auto bytes = std::as_bytes(std::span(text));
    return {bytes.begin(), bytes.end()};
  }

  UniqueFd ours_;
  UniqueFd theirs_;
  std::vector<InodeId> cleared_;
  const MarkClearer clear_mark_ = [this](InodeId inode) { cleared_.push_back(inode); };
};

TEST_F(InvalidatorTest, TellsTheKernelBeforeItAnswers) {
  Invalidator invalidator(ours_.get(), ForgetPages, clear_mark_);
  ASSERT_TRUE(invalidator.Start().ok());
  Invalidation changed;
  changed.contents = {InodeId(70)};
  changed.attributes = {InodeId(71)};
  const uint64_t unique = protocol::kUniqueResend | 12;
  invalidator.TellAndAnswer(changed, unique, Bytes("answer"), [] {});

  Message message = Next();
  EXPECT_EQ(message.header.unique, 0u);
  EXPECT_EQ(message.header.error, FUSE_NOTIFY_INVAL_INODE);
  EXPECT_EQ(As<fuse_notify_inval_inode_out>(message).ino, 70u);
  EXPECT_EQ(As<fuse_notify_inval_inode_out>(message).off, 0);
  EXPECT_EQ(As<fuse_notify_inval_inode_out>(message).len, 0);
  message = Next();
  EXPECT_EQ(As<fuse_notify_inval_inode_out>(message).ino, 71u);
  EXPECT_LT(As<fuse_notify_inval_inode_out>(message).off, 0);
  message = Next();
  EXPECT_EQ(message.header.unique, unique);
  EXPECT_EQ(message.header.error, 0);
  EXPECT_EQ(message.body, "answer");
}

// Its answer would say that pages were forgotten.
TEST_F(InvalidatorTest, ARequestThatIsStoppedBeforePagesAreForgottenIsLeftToTheNextServer) {
  std::promise<void> begun;
  std::promise<void> go_on;
  Invalidator invalidator(
      ours_.get(),
      [&](int, std::span<const InodeId>) {
        begun.set_value();
        go_on.get_future().wait();
        return Status::Ok();
      },
      clear_mark_);
  ASSERT_TRUE(invalidator.Start().ok());
  Invalidation pages;
  pages.contents = {InodeId(70)};
  Invalidation attributes;
  attributes.attributes = {InodeId(71)};
  const auto never = [] { ADD_FAILURE() << "counts as answered"; };
  invalidator.TellAndAnswer(pages, 1, Bytes("in work"), [] {});
  begun.get_future().wait();
  invalidator.TellAndAnswer(pages, 2, Bytes("queued"), never);
  invalidator.TellAndAnswer(attributes, 3, Bytes("attributes"), [] {});
  std::thread stop([&] { invalidator.Stop(); });
  // Once the stop has begun, the caller itself answers what needs no pages.
  bool stops = false;
  const auto note = [&, caller = std::this_thread::get_id()] {
    if (std::this_thread::get_id() == caller) stops = true;
  };
  for (int tries = 0; !stops && tries < 200; ++tries) {
    invalidator.TellAndAnswer({}, 5, Bytes("does it stop?"), note);
    // The socket has room for these answers, which nobody reads yet.
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_TRUE(stops);
  go_on.set_value();
  stop.join();
  invalidator.TellAndAnswer(pages, 4, Bytes("late"), never);
  std::vector<std::string> answers;
  while (HasNext()) {
    std::string answer = Next().body;
    if (answer != "does it stop?") answers.push_back(std::move(answer));
  }
  EXPECT_EQ(answers, (std::vector<std::string>{"in work", "attributes"}));
  EXPECT_EQ(cleared_, std::vector<InodeId>{InodeId(70)}) << "once, for what was in work";
}

TEST_F(InvalidatorTest, TakesAMarkBackOnceThePagesAreForgotten) {
  bool fails = true;
  {
    Invalidator invalidator(
        ours_.get(),
        [&](int, std::span<const InodeId>) {
          EXPECT_TRUE(cleared_.empty());
          return std::exchange(fails, false) ? Status(Code::kIo, "not told") : Status::Ok();
        },
        clear_mark_);
    ASSERT_TRUE(invalidator.Start().ok());
    const auto tell = [&](uint64_t inode) {
      const auto told = std::make_shared<std::promise<void>>();
      invalidator.TellAndAnswer({.contents = {InodeId(inode)}, .attributes = {}}, 1,
                                Bytes("answer"), [told] { told->set_value(); });
      told->get_future().wait();
      Next();
    };
    tell(70);
    EXPECT_TRUE(cleared_.empty()) << "the next server has to try again";
    tell(71);
    EXPECT_EQ(cleared_, std::vector<InodeId>{InodeId(71)});
    cleared_.clear();
    invalidator.Tell({.contents = {InodeId(72)}, .attributes = {}});
  }
  EXPECT_FALSE(HasNext());
}

TEST_F(InvalidatorTest, QueuesTheSamePagesOnce) {
  std::promise<void> begun;
  std::promise<void> go_on;
  std::atomic<int> forgotten = 0;
  Invalidator invalidator(
      ours_.get(),
      [&](int, std::span<const InodeId>) {
        if (forgotten++ == 0) {
          begun.set_value();
          go_on.get_future().wait();
        }
        return Status::Ok();
      },
      clear_mark_);
  ASSERT_TRUE(invalidator.Start().ok());
  const Invalidation pages{.contents = {InodeId(70)}, .attributes = {}};
  invalidator.Tell(pages);
  begun.get_future().wait();
  for (int i = 0; i < 10'000; ++i) invalidator.Tell(pages);
  EXPECT_EQ(cleared_.size(), 9'999u) << "all but the one in work, and the one behind it";
  const auto last = std::make_shared<std::promise<void>>();
  invalidator.TellAndAnswer({.contents = {}, .attributes = {InodeId(71)}}, 1, Bytes("last"),
                            [last] { last->set_value(); });
  go_on.set_value();
  last->get_future().wait();
  EXPECT_EQ(forgotten, 2);
  EXPECT_EQ(cleared_.size(), 10'001u);
}

TEST_F(InvalidatorTest, ARequestIsAnsweredAlsoWhenItIsStopped) {
  Invalidator invalidator(ours_.get(), ForgetPages, clear_mark_);
  Invalidation changed;
  changed.attributes = {InodeId(70)};
  invalidator.TellAndAnswer(changed, 1, Bytes("never started"), [] {});
  EXPECT_EQ(Next().body, "never started");
  ASSERT_TRUE(invalidator.Start().ok());
  invalidator.Stop();
  invalidator.TellAndAnswer(changed, 2, Bytes("stopped"), [] {});
  EXPECT_EQ(Next().body, "stopped");
  invalidator.Tell(changed);
  EXPECT_FALSE(HasNext()) << "the workers that it may need are about to end";
}

// Else the record of the request could go, and the server die, before the program has its answer.
TEST_F(InvalidatorTest, SaysThatARequestIsAnsweredWhenItIsAndNotBefore) {
  Invalidator invalidator(ours_.get(), ForgetPages, clear_mark_);
  Invalidation changed;
  changed.attributes = {InodeId(72)};
  int answered = 0;
  const auto note = [&] {
    EXPECT_TRUE(HasNext()) << "the answer is on its way";
    ++answered;
  };
  invalidator.TellAndAnswer(changed, 1, Bytes("never started"), note);
  EXPECT_EQ(answered, 1);
  EXPECT_EQ(Next().header.unique, 1u);
  ASSERT_TRUE(invalidator.Start().ok());
  changed = {};
  invalidator.TellAndAnswer(changed, 2, Bytes("started"), note);
  invalidator.Stop();
  EXPECT_EQ(answered, 2);
  EXPECT_EQ(Next().header.unique, 2u);
}

}  // namespace
}  // namespace cairn

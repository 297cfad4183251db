#include "fusefs/control_channel.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fusefs/fd_passing.h"
#include "fusefs/mount.h"

namespace cairn {
namespace {

struct Pair {
  ControlChannel left;
  ControlChannel right;
};

Pair NewPair() {
  auto ends = ControlChannel::CreatePair();
  EXPECT_TRUE(ends.ok());
  return {std::move(ends->first), std::move(ends->second)};
}

TEST(ControlChannel, KeepsMessagesWholeAndInOrder) {
  Pair pair = NewPair();
  ASSERT_TRUE(pair.left.Send(ControlKind::kOpened).ok());
  ASSERT_TRUE(pair.left.SendText(ControlKind::kFailed, "store is damaged").ok());
  Result<ControlMessage> first = pair.right.Receive();
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(first->kind, ControlKind::kOpened);
  EXPECT_TRUE(first->payload.empty());
  EXPECT_FALSE(first->fd.valid());
  Result<ControlMessage> second = pair.right.Receive();
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(second->kind, ControlKind::kFailed);
  EXPECT_EQ(second->text(), "store is damaged");
}

TEST(ControlChannel, CarriesADescriptor) {
  Pair pair = NewPair();
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  const std::byte payload[] = {std::byte{1}, std::byte{2}};
  ASSERT_TRUE(pair.left.Send(ControlKind::kAttach, payload, read_end.get()).ok());
  read_end.Reset();
  Result<ControlMessage> message = pair.right.Receive();
  ASSERT_TRUE(message.ok());
  EXPECT_EQ(message->payload.size(), 2u);
  ASSERT_TRUE(message->fd.valid());
  ASSERT_EQ(write(write_end.get(), "x", 1), 1);
  char byte = 0;
  EXPECT_EQ(read(message->fd.get(), &byte, 1), 1);
  EXPECT_EQ(byte, 'x');
}

TEST(ControlChannel, HearsTheLastWordsOfASideThatLeftMessagesUnread) {
  Pair pair = NewPair();
  ASSERT_TRUE(pair.right.Send(ControlKind::kPing).ok());
  ASSERT_TRUE(pair.left.SendText(ControlKind::kFailed, "store is damaged").ok());
  pair.left.Close();
  const Result<ControlMessage> words = pair.right.Receive();
  ASSERT_TRUE(words.ok());
  EXPECT_EQ(words->text(), "store is damaged");
  const Result<ControlMessage> end = pair.right.Receive();
  ASSERT_TRUE(end.ok());
  EXPECT_EQ(end->kind, ControlKind::kClosed);
}

TEST(ControlChannel, TellsThatTheOtherSideIsGone) {
  Pair pair = NewPair();
  ASSERT_TRUE(pair.left.Send(ControlKind::kServing).ok());
  pair.left.Close();
  EXPECT_EQ(pair.right.Receive()->kind, ControlKind::kServing);
  EXPECT_EQ(pair.right.Receive()->kind, ControlKind::kClosed);
  EXPECT_FALSE(pair.right.Send(ControlKind::kStop).ok());
}

// A server that is killed before it read its last message.
TEST(ControlChannel, DeathWithUnreadMessagesIsTheSame) {
  Pair pair = NewPair();
  ASSERT_TRUE(pair.right.Send(ControlKind::kStop).ok());
  pair.left.Close();
  const Result<ControlMessage> message = pair.right.Receive();
  ASSERT_TRUE(message.ok()) << message.status().ToString();
  EXPECT_EQ(message->kind, ControlKind::kClosed);
}

TEST(ControlChannel, RefusesWhatIsNoMessage) {
  Pair pair = NewPair();
  const std::byte tiny[] = {std::byte{1}};
  ASSERT_TRUE(SendWithFd(pair.left.fd(), tiny, -1).ok());
  EXPECT_EQ(pair.right.Receive().status().code(), Code::kInvalid);
  const uint32_t unknown = 99;
  ASSERT_TRUE(SendWithFd(pair.left.fd(), std::as_bytes(std::span(&unknown, 1)), -1).ok());
  EXPECT_EQ(pair.right.Receive().status().code(), Code::kInvalid);
  EXPECT_FALSE(pair.left.Send(ControlKind::kAttach, std::vector<std::byte>(1 << 20), -1).ok());
}

TEST(Mountinfo, UnescapesNames) {
  EXPECT_EQ(UnescapeMountinfo(R"(/mnt/with\040space\134and\011tab)"), "/mnt/with space\\and\ttab");
  EXPECT_EQ(UnescapeMountinfo(R"(/short\04)"), R"(/short\04)");
  EXPECT_EQ(UnescapeMountinfo(R"(/odd\049)"), R"(/odd\049)");
}

}  // namespace
}  // namespace cairn

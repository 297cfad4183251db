#include "fusefs/init_reply.h"

#include <gtest/gtest.h>

#include <cstring>

namespace cairn {
namespace {

constexpr uint64_t kUnique = 77;

std::vector<std::byte> Request(uint32_t minor, uint64_t flags, size_t body_size) {
  fuse_init_in body{};
  body.major = 7;
  body.minor = minor;
  body.max_readahead = 131072;
  body.flags = static_cast<uint32_t>(flags);
  body.flags2 = static_cast<uint32_t>(flags >> 32);
  fuse_in_header header{};
  header.len = static_cast<uint32_t>(sizeof(header) + body_size);
  header.opcode = FUSE_INIT;
  header.unique = kUnique;
  std::vector<std::byte> request(header.len);
  std::memcpy(request.data(), &header, sizeof(header));
  std::memcpy(request.data() + sizeof(header), &body, std::min(body_size, sizeof(body)));
  return request;
}

// Linux 6.18: 7.45, every flag that exists.
std::vector<std::byte> NewKernel() { return Request(45, ~uint64_t{0}, sizeof(fuse_init_in)); }
// Linux 5.4: 7.31, the short structure, no second word of flags.
std::vector<std::byte> OldKernel() {
  return Request(31, 0x03ffffff, offsetof(fuse_init_in, flags2));
}

TEST(InitReply, TakesWhatANewKernelOffers) {
  const Result<InitReply> reply = NegotiateInit(NewKernel());
  ASSERT_TRUE(reply.ok()) << reply.status().ToString();
  EXPECT_EQ(reply->header.len, 80u);
  EXPECT_EQ(reply->header.error, 0);
  EXPECT_EQ(reply->header.unique, kUnique);
  EXPECT_EQ(reply->body.major, 7u);
  EXPECT_EQ(reply->body.minor, protocol::kMinorSpoken) << "no newer than what we know";
  EXPECT_EQ(reply->body.max_readahead, 131072u);
  EXPECT_EQ(reply->body.max_write, 1u << 20);
  EXPECT_EQ(reply->body.max_pages, 256u);
  EXPECT_EQ(reply->body.time_gran, 1u);
  EXPECT_EQ(reply->body.max_background, 512u);
  EXPECT_EQ(reply->body.congestion_threshold, 384u);
  const uint64_t flags = reply->flags();
  for (const uint64_t wanted :
       {uint64_t{FUSE_ASYNC_READ}, uint64_t{FUSE_ASYNC_DIO}, uint64_t{FUSE_PARALLEL_DIROPS},
        uint64_t{FUSE_EXPLICIT_INVAL_DATA}, uint64_t{FUSE_HANDLE_KILLPRIV_V2},
        uint64_t{FUSE_INIT_EXT}, uint64_t{FUSE_MAX_PAGES}, protocol::kDirectIoAllowMmap,
        protocol::kHasResend}) {
    EXPECT_TRUE(flags & wanted) << std::hex << wanted;
  }
  // With these, the kernel would acknowledge writes for us, keep locks with us, drop pages that
  // are right, or lay messages out otherwise.
  for (const uint64_t refused :
       {uint64_t{FUSE_WRITEBACK_CACHE}, uint64_t{FUSE_POSIX_LOCKS}, uint64_t{FUSE_FLOCK_LOCKS},
        uint64_t{FUSE_AUTO_INVAL_DATA}, uint64_t{FUSE_SETXATTR_EXT}, uint64_t{FUSE_POSIX_ACL},
        uint64_t{FUSE_DONT_MASK}, uint64_t{FUSE_EXPORT_SUPPORT}, uint64_t{FUSE_HANDLE_KILLPRIV},
        uint64_t{FUSE_SPLICE_READ}, uint64_t{FUSE_NO_OPEN_SUPPORT}, uint64_t{FUSE_SECURITY_CTX}}) {
    EXPECT_FALSE(flags & refused) << std::hex << refused;
  }
}

TEST(InitReply, TakesNoMoreThanAnOldKernelOffers) {
  const std::vector<std::byte> request = OldKernel();
  const Result<InitReply> reply = NegotiateInit(request);
  ASSERT_TRUE(reply.ok()) << reply.status().ToString();
  EXPECT_EQ(reply->body.minor, 31u);
  EXPECT_EQ(reply->flags() & ~uint64_t{0x03ffffff}, 0u);
  EXPECT_TRUE(reply->flags() & FUSE_PARALLEL_DIROPS);
}

// Without INIT_EXT the second word is no word of flags.
TEST(InitReply, IgnoresTheSecondWordWithoutInitExt) {
  const uint64_t flags = ~uint64_t{0} & ~uint64_t{FUSE_INIT_EXT};
  const Result<InitReply> reply = NegotiateInit(Request(38, flags, sizeof(fuse_init_in)));
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply->body.flags2, 0u);
}

TEST(InitReply, RefusesWhatIsNotForIt) {
  EXPECT_EQ(NegotiateInit(Request(28, ~0u, sizeof(fuse_init_in))).status().code(),
            Code::kUnsupported);
  EXPECT_EQ(NegotiateInit({}).status().code(), Code::kInvalid);
  std::vector<std::byte> cut = NewKernel();
  cut.resize(cut.size() - 1);
  EXPECT_EQ(NegotiateInit(cut).status().code(), Code::kInvalid);
  std::vector<std::byte> other = NewKernel();
  other[4] = std::byte{FUSE_LOOKUP};
  EXPECT_EQ(NegotiateInit(other).status().code(), Code::kInvalid);
}

TEST(RestrictInit, OffersLibfuseExactlyWhatWasTaken) {
  for (const std::vector<std::byte>& request : {NewKernel(), OldKernel()}) {
    const InitReply reply = *NegotiateInit(request);
    const std::vector<std::byte> restricted = RestrictInit(request, reply);
    ASSERT_EQ(restricted.size(), request.size());
    const InitReply again = *NegotiateInit(restricted);
    EXPECT_EQ(again.flags(), reply.flags());
    fuse_init_in body{};
    std::memcpy(&body, restricted.data() + sizeof(fuse_in_header),
                restricted.size() - sizeof(fuse_in_header));
    EXPECT_EQ(body.flags, reply.body.flags);
    EXPECT_EQ(body.flags2, reply.body.flags2);
    EXPECT_EQ(body.max_readahead, 131072u);
  }
}

}  // namespace
}  // namespace cairn

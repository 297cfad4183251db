#include <gtest/gtest.h>

#include "fusefs/cairn_ioctl.h"
#include "fusefs/ioctl_call.h"

extern "C" unsigned CairnStatusCommandInC(void);

namespace cairn {
namespace {

// ioctl_abi_test.c checks the layout when it is compiled; here, that C and C++ agree.
TEST(Ioctl, CommandIsTheSameInCAndCxx) {
  EXPECT_EQ(CairnStatusCommandInC(), static_cast<unsigned>(CAIRN_IOC_STATUS));
  EXPECT_EQ(sizeof(cairn_ioc_status), 512u);
}

// FUSE hands over at most this much of a restricted ioctl.
TEST(Ioctl, FitsTheSizeBitsOfACommand) {
  EXPECT_EQ(_IOC_SIZE(CAIRN_IOC_STATUS), sizeof(cairn_ioc_status));
  EXPECT_LT(sizeof(cairn_ioc_status), 1u << _IOC_SIZEBITS);
}

TEST(Ioctl, FieldsWithoutAMeaningMustBeZero) {
  cairn_ioc_snapshot_create create{};
  EXPECT_TRUE(CheckReserved(create).ok());
  create.reserved_word = 1;
  EXPECT_EQ(CheckReserved(create).code(), Code::kInvalid);
  cairn_ioc_clone clone{};
  EXPECT_TRUE(CheckReserved(clone).ok());
  clone.reserved[7] = 1;
  EXPECT_EQ(CheckReserved(clone).code(), Code::kInvalid);
}

}  // namespace
}  // namespace cairn

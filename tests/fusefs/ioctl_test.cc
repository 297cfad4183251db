#include <gtest/gtest.h>

#include "fusefs/cairn_ioctl.h"

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

}  // namespace
}  // namespace cairn

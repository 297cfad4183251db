#include "src/base/status.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "src/base/result.h"

namespace cairn {
namespace {

constexpr auto kLastCode = Code::kInternal;

std::vector<Code> AllErrors() {
  std::vector<Code> codes;
  for (int code = 1; code <= static_cast<int>(kLastCode); ++code) {
    codes.push_back(static_cast<Code>(code));
  }
  return codes;
}

TEST(StatusTest, OkIsEmpty) {
  const Status status;
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(status.code(), Code::kOk);
  EXPECT_EQ(status.sys_errno(), 0);
  EXPECT_EQ(status.ToErrno(), 0);
  EXPECT_EQ(status.context(), "");
  EXPECT_EQ(status.ToString(), "ok");
  EXPECT_TRUE(Status::Ok().ok());
}

TEST(StatusTest, EveryCodeHasItsOwnWordAndAnErrno) {
  std::set<std::string_view> words{CodeName(Code::kOk)};
  for (const Code code : AllErrors()) {
    EXPECT_NE(CodeName(code), "unknown") << static_cast<int>(code);
    EXPECT_TRUE(words.insert(CodeName(code)).second) << CodeName(code);
    EXPECT_GT(Status(code, "").ToErrno(), 0) << CodeName(code);
  }
}

TEST(StatusTest, AbsentDamagedAndForgedStayApart) {
  EXPECT_EQ(Status(Code::kNotFound, "").ToErrno(), ENOENT);
  EXPECT_EQ(Status(Code::kCorrupt, "").ToErrno(), EIO);
  EXPECT_EQ(Status(Code::kForged, "").ToErrno(), EIO);
  EXPECT_NE(Status(Code::kCorrupt, "").code(), Status(Code::kForged, "").code());
}

TEST(StatusTest, ErrnoGoesInAndComesOutTheSame) {
  for (const int value :
       {ENOENT, EEXIST, EINVAL, ENOSPC, EIO, EROFS, EBUSY, EPERM, EACCES, ENOTEMPTY, ENOTDIR,
        EISDIR, ENAMETOOLONG, EFBIG, EOPNOTSUPP, ENODATA, ERANGE, ENXIO, ESTALE}) {
    const Status status = Status::FromErrno(value, "path");
    EXPECT_EQ(status.ToErrno(), value);
    EXPECT_EQ(status.sys_errno(), value);
  }
}

TEST(StatusTest, UnlistedErrnoIsAnIoErrorThatKeepsItsNumber) {
  const Status status = Status::FromErrno(EMFILE, "path");
  EXPECT_EQ(status.code(), Code::kIo);
  EXPECT_EQ(status.sys_errno(), EMFILE);
  EXPECT_EQ(Status::FromErrno(EDQUOT, "").code(), Code::kNoSpace);
}

TEST(StatusTest, TextNamesCodeContextAndReason) {
  EXPECT_EQ(Status::FromErrno(ENOSPC, "store/a: write").ToString(),
            "no space: store/a: write: No space left on device");
  EXPECT_EQ(Status(Code::kBusy, "").ToString(), "in use");
}

TEST(StatusTest, PrefixStandsBeforeTheContext) {
  EXPECT_EQ(Status(Code::kIo, "b").WithPrefix("a").context(), "a: b");
  EXPECT_TRUE(Status().WithPrefix("a").ok());
}

TEST(StatusTest, CopiesAreIndependent) {
  Status original(Code::kIo, "b", EIO);
  const Status copy = original;
  Status assigned;
  assigned = original;
  original = std::move(original).WithPrefix("a");
  EXPECT_EQ(copy.context(), "b");
  EXPECT_EQ(assigned.context(), "b");
  EXPECT_EQ(original.context(), "a: b");
  const Status& same = assigned;
  assigned = same;
  EXPECT_EQ(assigned.context(), "b");
  EXPECT_EQ(assigned.sys_errno(), EIO);
}

TEST(StatusDeathTest, AnErrorCannotBeOk) {
  EXPECT_DEATH(Status(Code::kOk, "nothing").ok(), "CHECK failed");
}

Status Fail(bool fail) { return fail ? Status(Code::kIo, "inner") : Status(); }

Result<std::unique_ptr<int>> Make(int value) {
  if (value < 0) return Status(Code::kInvalid, "negative");
  return std::make_unique<int>(value);
}

Status Chain(bool fail, int value, int* reached) {
  *reached = 0;
  CAIRN_RETURN_IF_ERROR(Fail(fail));
  *reached = 1;
  CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<int> made, Make(value));
  *reached = 2;
  CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<int> again, Make(*made));
  *reached = 3;
  return *again == value ? Status() : Status(Code::kInternal, "");
}

TEST(ResultTest, MacrosReturnTheFirstError) {
  int reached = 0;
  EXPECT_TRUE(Chain(false, 5, &reached).ok());
  EXPECT_EQ(reached, 3);
  EXPECT_EQ(Chain(true, 5, &reached).context(), "inner");
  EXPECT_EQ(reached, 0);
  EXPECT_EQ(Chain(false, -1, &reached).code(), Code::kInvalid);
  EXPECT_EQ(reached, 1);
}

TEST(ResultTest, HoldsAValueOrAStatus) {
  Result<std::string> good(std::string("x"));
  ASSERT_TRUE(good.ok());
  EXPECT_TRUE(good.status().ok());
  EXPECT_EQ(*good, "x");
  EXPECT_EQ(good->size(), 1u);
  EXPECT_EQ(std::move(good).value(), "x");

  const Result<std::string> bad(Status(Code::kNotFound, "y"));
  EXPECT_FALSE(bad.ok());
  EXPECT_EQ(bad.status().code(), Code::kNotFound);
}

TEST(ResultDeathTest, ValueOfAFailureStops) {
  const Result<int> bad(Status(Code::kNotFound, "y"));
  EXPECT_DEATH(bad.value(), "CHECK failed");
}

TEST(ResultDeathTest, OkIsNotAnError) {
  EXPECT_DEATH(Result<int>(Status::Ok()).ok(), "CHECK failed");
}

}  // namespace
}  // namespace cairn

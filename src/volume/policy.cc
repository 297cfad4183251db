#include "src/volume/policy.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <set>
#include <string>

#include "src/volume/policy_values.h"

namespace cairn {
namespace {

constexpr std::string_view kUserPrefix = "user.";
constexpr std::string_view kCairnPrefix = "user.cairn.";
constexpr std::array kPolicies = {kRoleAttribute,   kTieringAttribute, kForwardingAttribute,
                                  kRecallAttribute, kColdAttribute,    kEncryptAttribute};
constexpr std::array<std::string_view, 4> kTriggers = {"user.cairn.snapshot", "user.cairn.clone",
                                                       "user.cairn.push", "user.cairn.pull"};
constexpr std::array kStates = {kStatusAttribute, kErrorAttribute};

constexpr std::array<std::string_view, 3> kForwardings = {"direct", "replicated", "indirect"};
constexpr std::array<std::string_view, 4> kRecalls = {"promote", "read-through", "refuse", "async"};
constexpr std::array<std::string_view, 3> kWholeTierings = {"none", "pin", "manual"};
constexpr std::string_view kTieringValues =
    "none, pin, manual, or a comma list of age=30d, idle=7d, warm-max=10G, hits=3/7d, snapshots";
constexpr std::string_view kColdValues =
    "a comma list of compression=zstd:3, store=NAME, pack=16M, window=22:00-06:00, rate=50M, "
    "retention=365d";

template <typename Names>
bool Contains(const Names& names, std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

Status Refuse(std::string_view value, std::string_view expected) {
  return Status(Code::kInvalid, fmt::format("'{}' is not {}", value, expected));
}

template <typename Names>
Status OneOf(std::string_view value, const Names& names) {
  if (Contains(names, value)) return Status::Ok();
  return Refuse(value, fmt::format("one of {}", fmt::join(names, ", ")));
}

Status Word(std::string_view value, std::string_view what) {
  if (IsWord(value)) return Status::Ok();
  return Refuse(value, fmt::format("{}: 1 to {} of A-Z a-z 0-9 _ . -", what, kMaxWordBytes));
}

// What parsing an item's value said, naming the item.
template <typename T>
Status OnlyStatus(const ListItem& item, Result<T> result) {
  if (result.ok()) return Status::Ok();
  return std::move(result).status().WithPrefix(item.name);
}

Result<uint64_t> ParsePositive(std::string_view value) {
  auto size = ParseByteCount(value);
  if (size.ok() && *size == 0) return Refuse(value, "a size above 0");
  return size;
}

Status TieringItem(const ListItem& item) {
  if (item.name == "snapshots" && !item.has_value) return Status::Ok();
  if (item.has_value) {
    if (item.name == "age" || item.name == "idle")
      return OnlyStatus(item, ParseDuration(item.value));
    if (item.name == "warm-max") return OnlyStatus(item, ParseByteCount(item.value));
    if (item.name == "hits") return OnlyStatus(item, ParseHitRate(item.value));
  }
  return Refuse(item.name, kTieringValues);
}

Status ColdItem(const ListItem& item) {
  if (item.has_value) {
    if (item.name == "compression") return OnlyStatus(item, ParseCompression(item.value));
    if (item.name == "store") return Word(item.value, "a store's name").WithPrefix(item.name);
    if (item.name == "pack") return OnlyStatus(item, ParsePositive(item.value));
    if (item.name == "window") return OnlyStatus(item, ParseDayWindow(item.value));
    if (item.name == "rate") return OnlyStatus(item, ParseRate(item.value));
    if (item.name == "retention") return OnlyStatus(item, ParseDuration(item.value));
  }
  return Refuse(item.name, kColdValues);
}

// Every item by `check`, and none twice: which of two should count would be anyone's guess.
Status List(std::string_view value, Status (*check)(const ListItem&)) {
  std::set<std::string_view> seen;
  for (const ListItem& item : SplitList(value)) {
    CAIRN_RETURN_IF_ERROR(check(item));
    if (!seen.insert(item.name).second) {
      return Status(Code::kInvalid, fmt::format("'{}' is given twice", item.name));
    }
  }
  return Status::Ok();
}

Status Tiering(std::string_view value) {
  if (Contains(kWholeTierings, value)) return Status::Ok();
  return List(value, TieringItem);
}

}  // namespace

XattrClass ClassifyXattr(std::string_view name) {
  if (Contains(kPolicies, name)) return XattrClass::kPolicy;
  if (Contains(kTriggers, name)) return XattrClass::kTrigger;
  if (Contains(kStates, name)) return XattrClass::kState;
  if (name.starts_with(kCairnPrefix)) return XattrClass::kUnknownCairn;
  if (name.starts_with(kUserPrefix) && name.size() > kUserPrefix.size()) return XattrClass::kUser;
  return XattrClass::kForeign;
}

std::span<const std::string_view> PolicyAttributes() { return kPolicies; }

Status ValidatePolicy(std::string_view name, std::string_view value) {
  Status status;
  if (name == kRoleAttribute) {
    status = Word(value, "a role");
  } else if (name == kTieringAttribute) {
    status = Tiering(value);
  } else if (name == kForwardingAttribute) {
    status = OneOf(value, kForwardings);
  } else if (name == kRecallAttribute) {
    status = OneOf(value, kRecalls);
  } else if (name == kColdAttribute) {
    status = List(value, ColdItem);
  } else if (name == kEncryptAttribute) {
    status = Word(value, "a key id");
  } else {
    status = Refuse(name, fmt::format("a policy, which are {}", fmt::join(kPolicies, ", ")));
  }
  return std::move(status).WithPrefix(name);
}

}  // namespace cairn

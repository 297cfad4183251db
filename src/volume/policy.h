// Policy attributes: which extended attributes exist, and which values each takes.
//
// Pure functions, any thread. The values' own parsers are in policy_values.h.
#ifndef CAIRN_SRC_VOLUME_POLICY_H_
#define CAIRN_SRC_VOLUME_POLICY_H_

#include <span>
#include <string_view>

#include "src/base/status.h"

namespace cairn {

inline constexpr std::string_view kRoleAttribute = "user.cairn.role";
inline constexpr std::string_view kTieringAttribute = "user.cairn.tiering";
inline constexpr std::string_view kForwardingAttribute = "user.cairn.forwarding";
inline constexpr std::string_view kRecallAttribute = "user.cairn.recall";
inline constexpr std::string_view kColdAttribute = "user.cairn.cold";
inline constexpr std::string_view kEncryptAttribute = "user.cairn.encrypt";
inline constexpr std::string_view kStatusAttribute = "user.cairn.status";
inline constexpr std::string_view kErrorAttribute = "user.cairn.error";

enum class XattrClass {
  kPolicy,        // stored, listed, inherited; see ValidatePolicy
  kTrigger,       // write-only: setting it starts something
  kState,         // read-only, never listed
  kUnknownCairn,  // "user.cairn." and no name of ours: refused, it is a slip of the pen
  kUser,          // any other "user.": stored as given
  kForeign,       // security., system., trusted. and all else: not kept here
};
// `name` is the whole name, "user." included.
XattrClass ClassifyXattr(std::string_view name);

// The names of class kPolicy.
std::span<const std::string_view> PolicyAttributes();

// OK when the policy attribute `name` takes `value`; else kInvalid, with the values it takes.
Status ValidatePolicy(std::string_view name, std::string_view value);

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_POLICY_H_

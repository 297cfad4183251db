// What the verbs of the command line share.
//
// Each verb lives in its own file and adds itself to the parser with a Register function. Its
// result goes to `exit_code`: 0 done, 1 failed. Wrong use (2) is the parser's. Results go to
// stdout, for people or as one JSON document; errors to stderr, with what to do next.
#ifndef CAIRN_TOOLS_CAIRN_COMMAND_H_
#define CAIRN_TOOLS_CAIRN_COMMAND_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace cairn::cli {

inline constexpr int kDone = 0;
inline constexpr int kFailed = 1;
inline constexpr int kWrongUse = 2;

// In the order of the help.
void RegisterSnapshot(CLI::App& app, int& exit_code);
void RegisterClone(CLI::App& app, int& exit_code);
void RegisterDiff(CLI::App& app, int& exit_code);
void RegisterStatus(CLI::App& app, int& exit_code);
void RegisterDu(CLI::App& app, int& exit_code);
void RegisterFsck(CLI::App& app, int& exit_code);
void RegisterUnmount(CLI::App& app, int& exit_code);
void RegisterRestart(CLI::App& app, int& exit_code);
void RegisterUpgrade(CLI::App& app, int& exit_code);

// The text as a terminal may show it: control characters, which the names of files can have, as
// \xNN. JSON has its own way with them.
std::string Printable(std::string_view text);

// "cairn: MESSAGE" to stderr, printable; returns kFailed.
int Fail(std::string_view message);

// One JSON document on stdout. Bytes that are not UTF-8, as names may have, are replaced.
void PrintJson(const nlohmann::ordered_json& document);

// "1.5 GiB"; bytes below 1 KiB as they are.
std::string HumanBytes(uint64_t bytes);

// Adds "--json".
void AddJsonFlag(CLI::App& verb, bool& json);

}  // namespace cairn::cli

#endif  // CAIRN_TOOLS_CAIRN_COMMAND_H_

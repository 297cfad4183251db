#include "tools/cairn/command.h"

#include <array>
#include <cstdio>
#include <iostream>

namespace cairn::cli {

std::string Printable(std::string_view text) {
  constexpr unsigned char kDelete = 0x7f;
  std::string printable;
  for (const char each : text) {
    const auto byte = static_cast<unsigned char>(each);
    if (byte >= ' ' && byte != kDelete) {
      printable += each;
      continue;
    }
    std::array<char, 8> escaped{};
    std::snprintf(escaped.data(), escaped.size(), "\\x%02x", byte);
    printable += escaped.data();
  }
  return printable;
}

int Fail(std::string_view message) {
  std::cout.flush();
  std::cerr << "cairn: " << Printable(message) << '\n';
  return kFailed;
}

void PrintJson(const nlohmann::ordered_json& document) {
  std::cout << document.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace)
            << '\n';
}

std::string HumanBytes(uint64_t bytes) {
  constexpr std::array<const char*, 5> kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB"};
  if (bytes < 1024) return std::to_string(bytes) + " B";
  double number = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  while (number >= 1024 && unit + 1 < kUnits.size()) {
    number /= 1024;
    ++unit;
  }
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.1f %s", number, kUnits[unit]);
  return text.data();
}

void AddJsonFlag(CLI::App& verb, bool& json) {
  verb.add_flag("--json", json, "print one JSON document instead of text for people");
}

}  // namespace cairn::cli

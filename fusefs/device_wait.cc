#include "fusefs/device_wait.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

namespace cairn {
namespace {

// `stat` holds "id (name) state ...": the name may hold anything.
bool IsInDeviceWait(const std::string& stat) {
  const size_t name_end = stat.rfind(") ");
  return name_end != std::string::npos && name_end + 2 < stat.size() && stat[name_end + 2] == 'D';
}

}  // namespace

bool AnyThreadWaitsForDevice() {
  std::error_code error;
  std::filesystem::directory_iterator task("/proc/self/task", error);
  for (; !error && task != std::filesystem::directory_iterator(); task.increment(error)) {
    std::ifstream file(task->path() / "stat");
    std::string line;
    std::getline(file, line);
    if (IsInDeviceWait(line)) return true;
  }
  return false;
}

}  // namespace cairn

// cairn restart and cairn upgrade: another server process for a mount that is in use.
#include <string.h>

#include <filesystem>
#include <iostream>

#include "tools/cairn/command.h"
#include "tools/cairn/mounts.h"
#include "tools/cairnfs/control_socket.h"
#include "tools/cairnfs/program_copy.h"

namespace cairn::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  std::string mountpoint;
  std::string binary;
  bool upgrade = false;
  bool json = false;
};

// The cairnfs that was installed with this program.
std::string OwnCairnfs() {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  return (self.parent_path() / "cairnfs").string();
}

struct Question {
  std::string text = "restart";
  UniqueFd program;
};

Result<Question> NewQuestion(const Options& options) {
  Question question;
  if (!options.upgrade) return question;
  std::error_code error;
  const std::string binary = options.binary.empty() ? OwnCairnfs() : options.binary;
  const std::string path = std::filesystem::absolute(binary, error).string();
  CAIRN_ASSIGN_OR_RETURN(question.program, CopyProgram(path));
  question.text = "upgrade " + path;
  return question;
}

int FailToAsk(const Options& options, const Status& status) {
  const int error = status.sys_errno();
  if (error == EACCES || error == EPERM) {
    return Fail(options.mountpoint + ": only root and who mounted may do that");
  }
  if (error == ENOENT || error == ECONNREFUSED) {
    return Fail(options.mountpoint + ": its supervisor cannot be reached (" + status.context() +
                "): unmount and mount again to change the program");
  }
  return Fail(options.mountpoint + ": " + status.context());
}

int Run(const Options& options) {
  const std::string path = AbsolutePath(options.mountpoint);
  const auto mount = MountAt(path);
  if (!mount || !mount->is_cairn()) {
    return Fail(options.mountpoint + " is not a Cairn mount" + KnownMounts());
  }
  const Result<Question> question = NewQuestion(options);
  if (!question.ok()) return Fail(options.mountpoint + ": " + question.status().context());
  const Result<std::string> answer =
      AskSupervisor(mount->source, question->text, question->program.get());
  if (!answer.ok()) return FailToAsk(options, answer.status());
  const size_t space = answer->find(' ');
  const std::string rest = space == std::string::npos ? "" : answer->substr(space + 1);
  if (answer->substr(0, space) != "ok") return Fail(options.mountpoint + ": " + rest);
  const Json document = Json::parse(rest, nullptr, /*allow_exceptions=*/false);
  if (!document.is_object()) return Fail(options.mountpoint + ": an answer that is no JSON");
  if (options.json) {
    PrintJson(document);
  } else {
    std::cout << path << " is served by process " << document.value("server_pid", 0)
              << "; programs waited " << document.value("pause_ms", 0.0) << " ms\n";
  }
  return kDone;
}

CLI::App* Register(CLI::App& app, int& exit_code, const char* name, const char* help,
                   const std::shared_ptr<Options>& options) {
  CLI::App* const verb = app.add_subcommand(name, help);
  verb->add_option("MOUNTPOINT", options->mountpoint, "the mount")->required();
  AddJsonFlag(*verb, options->json);
  verb->callback([options, &exit_code] { exit_code = Run(*options); });
  return verb;
}

}  // namespace

void RegisterRestart(CLI::App& app, int& exit_code) {
  Register(app, exit_code, "restart", "Start a mount's server anew while volumes are in use",
           std::make_shared<Options>());
}

void RegisterUpgrade(CLI::App& app, int& exit_code) {
  const auto options = std::make_shared<Options>();
  options->upgrade = true;
  Register(app, exit_code, "upgrade",
           "Let another cairnfs program serve a mount while volumes are in use", options)
      ->add_option("--binary", options->binary,
                   "the cairnfs to use; default: the one beside this program");
}

}  // namespace cairn::cli

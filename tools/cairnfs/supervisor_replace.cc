// How a Supervisor replaces its server: one that died, one that hangs, and one that somebody wants
// to restart or to upgrade.
#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "src/base/log.h"
#include "tools/cairnfs/program_copy.h"
#include "tools/cairnfs/supervisor.h"

namespace cairn {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// A server that crashes sooner than this after it began to serve is likely to do it again, by a
// request that each is sent. One that somebody kills is given less time: it did nothing wrong.
constexpr milliseconds kShortLife{5000};
constexpr milliseconds kShortLifeIfKilled{50};
constexpr int kMostCrashes = 10;
constexpr int kMostKills = 100;
// Whoever kills servers now and then may well hit each before it serves, for a while.
constexpr int kMostKillsBeforeServing = 300;
// After so many short lives each next server waits twice as long.
constexpr int kFreeRestarts = 2;
constexpr milliseconds kFirstDelay{10};
constexpr milliseconds kLongestDelay{1000};
constexpr milliseconds kLongestDelayIfKilled{200};

// How long a program may take to say whether it fits, and a server to end in order. One that takes
// longer is killed, which nothing acknowledged is lost by.
constexpr seconds kProbeLimit{10};
constexpr seconds kDrainLimit{60};
// How long a server may take to serve: another program that has a clean store to open, which
// programs wait for and which can be taken back; and any other, which may have a journal to carry
// out and a disk that is slow.
constexpr seconds kTrialLimit{15};
constexpr seconds kOpenLimit{600};

// How often a process that cannot be had is asked for before the mount ends, about once a second;
// and how often a server that only saves what is acknowledged is started.
constexpr int kMostFailedStarts = 600;
constexpr int kMostRescues = 3;

// A server is asked so often within its time. As many answers must be missing in a row, counted by
// the supervisor's own turns, so that a machine that was stopped raises no alarm.
constexpr int kPingsInTime = 5;

bool WasKilled(int wait_state) {
  return WIFSIGNALED(wait_state) && WTERMSIG(wait_state) == SIGKILL;
}

// The delay before the try after `failures` in a row.
milliseconds BackOff(int failures) {
  return std::min(kFirstDelay * (1 << std::clamp(failures - 1, 0, 10)), kLongestDelay);
}

}  // namespace

bool Supervisor::ReplaceDeadServer(int wait_state) {
  // A server that said why it ended would only say so again.
  if (!session_.options.replace_server || !server_failure_.empty()) return false;
  const bool killed = WasKilled(wait_state) && !ended_late_;
  const TimePoint now = SteadyClock::now();
  // Kills before serving are a count of their own: they say nothing about the requests.
  int& count = killed && !has_served_ ? killed_openings_ : short_lives_;
  const int most = !killed ? kMostCrashes : has_served_ ? kMostKills : kMostKillsBeforeServing;
  const bool was_short =
      !has_served_ || now - served_since_ < (killed ? kShortLifeIfKilled : kShortLife);
  count = was_short ? count + 1 : 0;
  if (count > most) {
    LogError("{} servers in a row died before or soon after they began to serve: giving up", count);
    return false;
  }
  ++session_.restarts;
  restart_at_ = now;
  if ((!killed || !has_served_) && count > kFreeRestarts) {
    const milliseconds delay = BackOff(count - kFreeRestarts);
    restart_at_ += killed ? std::min(delay, kLongestDelayIfKilled) : delay;
  }
  return true;
}

void Supervisor::StartNextServer() {
  restart_at_ = kNever;
  on_trial_ =
      replacement_ && replacement_->upgrade && replacement_->stage == Replacement::Stage::kStarting;
  const Status started = StartServer(on_trial_ ? replacement_->binary : session_.binary);
  if (started.ok()) {
    failed_starts_ = 0;
    server_deadline_ = SteadyClock::now() + (on_trial_ && store_clean_ ? kTrialLimit : kOpenLimit);
    return LogWarn("server {} takes over", session_.generation);
  }
  LogError("no new server: {}", started.context());
  if (++failed_starts_ > kMostFailedStarts) {
    AbandonMount();
    return End(1, started.context());
  }
  restart_at_ = SteadyClock::now() + BackOff(failed_starts_);
}

bool Supervisor::BeginRescue(int exit_code, const std::string& reason) {
  // A server that said why it ended would only say so again.
  if (!server_failure_.empty()) return false;
  if (!rescue_) rescue_ = Rescue{.exit_code = exit_code, .reason = reason};
  if (++rescue_->tries > kMostRescues) return false;
  LogWarn("another server makes durable what was acknowledged");
  phase_ = Phase::kStopping;
  ending_ = true;
  if (replacement_) FinishReplacement(reason);
  ++session_.restarts;
  restart_at_ = SteadyClock::now();
  return true;
}

void Supervisor::OnClient() {
  Result<ControlRequest> request = control_socket_.Accept();
  if (!request.ok()) return LogWarn("{}", request.status().context());
  const auto refuse = [&](std::string_view reason) {
    AnswerClient(request->client, fmt::format("failed {}", reason));
  };
  const bool upgrade = request->verb == "upgrade";
  if (!upgrade && request->verb != "restart") return refuse("the supervisor does not know that");
  if (phase_ != Phase::kServing || !IsServerNeeded()) return refuse("the mount is ending");
  if (!session_.options.replace_server) return refuse("this mount's server cannot be replaced");
  if (replacement_) return refuse("the server is being replaced already");
  Replacement replacement;
  replacement.upgrade = upgrade;
  if (upgrade) {
    const Status copied = CheckProgramCopy(request->fd.get());
    if (!copied.ok()) return refuse(copied.context());
    replacement.binary = std::move(request->fd);
    Result<ProbeProcess> probe = StartProbe(session_, replacement.binary);
    if (!probe.ok()) return refuse(probe.status().context());
    replacement.probe = std::move(*probe);
    replacement.stage = Replacement::Stage::kProbing;
    replacement.deadline = SteadyClock::now() + kProbeLimit;
  }
  replacement.client = std::move(request->client);
  replacement_ = std::move(replacement);
  LogInfo("{} asked for{}", request->verb, upgrade ? ": " + request->path : std::string());
  if (!upgrade) BeginDrain();
}

void Supervisor::OnProbeEnd(int wait_state) {
  const Status fits = JudgeProbe(session_, replacement_->probe, wait_state);
  replacement_->probe.pid = -1;
  if (!fits.ok()) return FinishReplacement(fits.context());
  BeginDrain();
}

void Supervisor::BeginDrain() {
  replacement_->deadline = kNever;
  replacement_->stage = Replacement::Stage::kWaiting;
  if (!serving_) return;
  const Status sent = server_.control.Send(ControlKind::kDrain);
  if (!sent.ok()) return;  // it is dead: its successor drains
  serving_ = false;
  draining_ = true;
  replacement_->stage = Replacement::Stage::kDraining;
  replacement_->drained_at = SteadyClock::now();
  server_deadline_ = replacement_->drained_at + kDrainLimit;
}

bool Supervisor::OnDrained(bool clean) {
  if (!replacement_ || replacement_->stage != Replacement::Stage::kDraining) return false;
  if (!clean) {
    LogError("the server did not end in order{}{}", server_failure_.empty() ? "" : ": ",
             server_failure_);
    ++session_.restarts;
  }
  replacement_->stage = Replacement::Stage::kStarting;
  if (replacement_->upgrade) ++session_.upgrades;
  StartNextServer();
  return true;
}

bool Supervisor::OnNewServerFailed(const std::string& reason) {
  if (!replacement_ || replacement_->stage != Replacement::Stage::kStarting) return false;
  if (!replacement_->upgrade) return false;
  LogError("the new program does not serve ({}): the old one goes on", reason);
  --session_.upgrades;
  replacement_->trouble = reason;
  replacement_->stage = Replacement::Stage::kFallingBack;
  StartNextServer();
  return true;
}

void Supervisor::OnNewServerServes() {
  LogInfo("server {} has taken over", session_.generation);
  if (!replacement_) return;
  switch (replacement_->stage) {
    case Replacement::Stage::kWaiting:
      return BeginDrain();
    case Replacement::Stage::kStarting:
      if (replacement_->upgrade) session_.binary = std::move(replacement_->binary);
      return FinishReplacement({});
    case Replacement::Stage::kFallingBack:
      return FinishReplacement("the new program does not serve, and the old one goes on: " +
                               replacement_->trouble);
    case Replacement::Stage::kProbing:
    case Replacement::Stage::kDraining:
      return;
  }
}

// An empty `trouble`: it is done.
void Supervisor::FinishReplacement(std::string_view trouble) {
  if (replacement_->probe.pid > 0) kill(replacement_->probe.pid, SIGKILL);
  if (trouble.empty()) {
    const auto pause =
        std::chrono::duration<double, std::milli>(SteadyClock::now() - replacement_->drained_at);
    AnswerClient(replacement_->client,
                 fmt::format(R"(ok {{"server_pid":{},"supervisor_pid":{},"server_generation":{},)"
                             R"("restarts":{},"upgrades":{},"pause_ms":{:.1f}}})",
                             server_.pid, getpid(), session_.generation, session_.restarts,
                             session_.upgrades, pause.count()));
  } else {
    LogError("the server was not replaced: {}", trouble);
    AnswerClient(replacement_->client, fmt::format("failed {}", trouble));
  }
  replacement_.reset();
}

Supervisor::TimePoint Supervisor::NextTick() const {
  TimePoint next = std::min(restart_at_, server_deadline_);
  if (replacement_) next = std::min(next, replacement_->deadline);
  if (serving_) next = std::min(next, next_ping_);
  if (!serving_ && systemd_.watchdog().count() > 0) next = std::min(next, next_sign_);
  return next;
}

void Supervisor::Tick() {
  const TimePoint now = SteadyClock::now();
  if (now >= restart_at_) StartNextServer();
  if (now >= server_deadline_ && server_.pid > 0) {
    server_deadline_ = kNever;
    LogError("the server does not {}: it is killed", draining_ ? "end in order" : "come up");
    ended_late_ = true;
    kill(server_.pid, SIGKILL);
  }
  if (replacement_ && now >= replacement_->deadline) {
    FinishReplacement("the new program does not say whether it fits");
  }
  if (serving_ && now >= next_ping_) Watch(now);
  if (!serving_) WatchSelf(now);
}

void Supervisor::WatchSelf(TimePoint now) {
  if (systemd_.watchdog().count() == 0 || now < next_sign_) return;
  next_sign_ = now + systemd_.watchdog() / 2;
  systemd_.Tell("WATCHDOG=1");
}

void Supervisor::Watch(TimePoint now) {
  using std::chrono::microseconds;
  const microseconds limit = session_.options.watchdog;
  microseconds interval = limit / kPingsInTime;
  if (systemd_.watchdog().count() > 0) {
    const microseconds half = systemd_.watchdog() / 2;
    interval = interval.count() > 0 ? std::min(interval, half) : half;
  }
  if (interval.count() == 0) {
    next_ping_ = kNever;
    return;
  }
  next_ping_ = now + interval;
  if (!IsConnected(session_.fuse.get())) {
    // Unmounted: nobody waits for the server any more, and it has all to make durable.
    serving_ = false;
    return;
  }
  if (ping_unanswered_) ++missed_pings_;
  if (limit.count() > 0 && interval * missed_pings_ >= limit) {
    LogError("the server answers nothing any more: it is killed");
    serving_ = false;
    kill(server_.pid, SIGKILL);
    return;
  }
  ping_unanswered_ = true;
  const Status sent = server_.control.Send(ControlKind::kPing);
  if (!sent.ok()) LogError("{}", sent.context());  // its end follows
}

}  // namespace cairn

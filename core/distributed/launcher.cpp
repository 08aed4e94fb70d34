#include "core/distributed/launcher.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <limits>
#include <netinet/in.h>
#include <optional>
#include <poll.h>
#include <sstream>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "core/error.h"

namespace exactmamba::core {
namespace {

using Clock = std::chrono::steady_clock;
using Assignments = std::vector<std::pair<std::string, std::string>>;

constexpr const char* kHost = "127.0.0.1";
constexpr Clock::time_point kNever = Clock::time_point::max();
/// Asks a rank to stop, also when this process dies: the one signal that may come several times, or beside
/// others, and never counts as "again" (core/stop_signal.h). A rank without a handler is ended by it.
constexpr int kAskToStop = SIGHUP;

IoError system_failure(const std::string& doing) {
  return IoError(fmt::format("{}: {}", doing, std::strerror(errno)));
}

/// Made once and never closed: a handler may still run in another thread when its launch() has returned.
struct SignalPipe {
  int read_end = -1, write_end = -1;
};
SignalPipe signal_pipe;

void make_signal_pipe() {
  if (signal_pipe.read_end >= 0) return;
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) throw system_failure("no pipe for signals");
  signal_pipe = {ends[0], ends[1]};
}

void on_signal(int signal) {
  const int error_before = errno;
  const auto byte = static_cast<unsigned char>(signal);
  // Where the pipe is full there is enough to read.
  [[maybe_unused]] const ssize_t written = ::write(signal_pipe.write_end, &byte, 1);
  errno = error_before;
}

/// The signals that launch() waits for, as bytes of a pipe: a signal comes to any thread of the process, and
/// one that was blocked in this thread only could be lost in another. Those that were ignored or blocked
/// (that is inherited) are heard too, but for SIGHUP, which nohup ignores.
class HeardSignals {
 public:
  HeardSignals() {
    make_signal_pipe();
    while (next() != 0) continue;  // what came too late for an earlier launch()
    struct sigaction action = {};
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    for (size_t i = 0; i < kSignals.size(); ++i) {
      sigaction(kSignals[i], nullptr, &before_[i]);
      const bool nohup = kSignals[i] == SIGHUP && before_[i].sa_handler == SIG_IGN;
      if (!nohup) sigaction(kSignals[i], &action, nullptr);
    }
    const sigset_t signals = set_of_signals();
    pthread_sigmask(SIG_UNBLOCK, &signals, &mask_before_);
  }
  ~HeardSignals() { restore(); }
  HeardSignals(const HeardSignals&) = delete;
  HeardSignals& operator=(const HeardSignals&) = delete;

  /// fork(); the new process is ended by the signals and tells this one of none. It ignores none that this
  /// process found ignored: that is for this process to honour, and the new one must hear of its death.
  pid_t fork() const {
    const sigset_t signals = set_of_signals();
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    const pid_t process = ::fork();
    if (process == 0) set_to_default();
    pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
    return process;
  }
  /// The next signal; 0: none until `deadline`, or look again.
  int wait(Clock::time_point deadline) const {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd readable = {signal_pipe.read_end, POLLIN, 0};
    const int milliseconds =
        deadline == kNever ? -1
                           : static_cast<int>(std::clamp<int64_t>(left, 0, std::numeric_limits<int>::max()));
    return ::poll(&readable, 1, milliseconds) == 1 ? next() : 0;
  }

 private:
  static constexpr std::array kSignals = {SIGINT, SIGTERM, SIGHUP, SIGCHLD};

  static sigset_t set_of_signals() {
    sigset_t signals;
    sigemptyset(&signals);
    for (const int signal : kSignals) sigaddset(&signals, signal);
    return signals;
  }
  /// 0: none.
  static int next() {
    unsigned char byte = 0;
    return ::read(signal_pipe.read_end, &byte, 1) == 1 ? byte : 0;
  }
  static void set_to_default() {
    for (const int signal : kSignals) std::signal(signal, SIG_DFL);
  }
  /// As they were found.
  void restore() const {
    for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &before_[i], nullptr);
    pthread_sigmask(SIG_SETMASK, &mask_before_, nullptr);
  }

  std::array<struct sigaction, kSignals.size()> before_ = {};
  sigset_t mask_before_ = {};
};

struct Rank {
  pid_t process = -1;
  int messages = -1;  // its stderr, as a file in memory; -1: this process's
  bool running = false;
  bool killed_here = false;
  int status = 0;  // of wait()

  bool failed() const { return !running && status != 0; }
  /// Lost the others, or ended because of them or of this process: not the first to fail.
  bool is_victim() const {
    const bool lost_others = WIFEXITED(status) && WEXITSTATUS(status) == static_cast<int>(ExitCode::kPeer);
    return killed_here || lost_others || signal() == kAskToStop;
  }
  /// Ended as one does that was asked to stop.
  bool stopped() const { return signal() == SIGINT || signal() == SIGTERM || signal() == kAskToStop; }
  /// That ended it, or that it says it was stopped by (agreed_stop()).
  int signal() const { return WIFEXITED(status) ? WEXITSTATUS(status) - 128 : WTERMSIG(status); }
};

std::string status_text(int status) {
  if (WIFEXITED(status)) return fmt::format("ended with exit code {}", WEXITSTATUS(status));
  return fmt::format("was ended by signal {} ({})", WTERMSIG(status), strsignal(WTERMSIG(status)));
}

/// Of a rank that was not the only one to end.
std::string end_text(const Rank& rank) {
  if (WIFEXITED(rank.status) && rank.stopped())
    return fmt::format("was asked to stop by signal {} ({}), and the others with it", rank.signal(),
                       strsignal(rank.signal()));
  return status_text(rank.status) + "; the others were ended";
}

std::string content_of(int file) {
  std::string text;
  char chunk[4096];
  off_t offset = 0;
  for (ssize_t n = 0; (n = ::pread(file, chunk, sizeof chunk, offset)) > 0; offset += n)
    text.append(chunk, static_cast<size_t>(n));
  return text;
}

/// The processes of one job.
class Ranks {
 public:
  explicit Ranks(const Launch& launch) : launch_(launch) {}
  /// What was started is ended with this object, also when a later one cannot be.
  void start(const HeardSignals& signals) {
    const std::string port = std::to_string(free_port());
    for (int rank = 0; rank < launch_.processes; ++rank) start(rank, variables_of(rank, port), signals);
  }
  ~Ranks() {
    send(SIGKILL);
    for (Rank& rank : ranks_) {
      if (rank.running) ::waitpid(rank.process, &rank.status, 0);
      if (rank.messages >= 0) ::close(rank.messages);
    }
  }
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  bool any_running() const {
    return std::any_of(ranks_.begin(), ranks_.end(), [](const Rank& rank) { return rank.running; });
  }
  void send(int signal) {
    for (Rank& rank : ranks_) {
      if (!rank.running) continue;
      rank.killed_here = rank.killed_here || signal == SIGKILL;
      ::kill(rank.process, signal);
    }
  }
  /// Notes who has ended; true when a signal ended one of them.
  bool look() {
    bool signalled = false;
    for (size_t i = 0; i < ranks_.size(); ++i) {
      Rank& rank = ranks_[i];
      if (!rank.running || ::waitpid(rank.process, &rank.status, WNOHANG) != rank.process) continue;
      rank.running = false;
      if (rank.failed()) failed_.push_back(i);
      signalled = signalled || WIFSIGNALED(rank.status);
    }
    return signalled;
  }
  /// In the order in which they were found.
  const std::vector<size_t>& failed() const { return failed_; }
  const Rank& operator[](size_t rank) const { return ranks_[rank]; }
  size_t size() const { return ranks_.size(); }

 private:
  Assignments variables_of(int rank, const std::string& port) const {
    const auto cores = static_cast<int>(std::thread::hardware_concurrency());
    const std::string size = std::to_string(launch_.processes), index = std::to_string(rank);
    Assignments variables = launch_.environment;
    variables.insert(variables.end(), {{"RANK", index},
                                       {"LOCAL_RANK", index},
                                       {"WORLD_SIZE", size},
                                       {"MASTER_ADDR", kHost},
                                       {"MASTER_PORT", port}});
    if (std::getenv("OMP_NUM_THREADS") == nullptr)
      variables.emplace_back("OMP_NUM_THREADS", std::to_string(std::max(cores / launch_.processes, 1)));
    return variables;
  }

  void start(int index, const Assignments& variables, const HeardSignals& signals) {
    Rank& rank = ranks_.emplace_back();
    rank.messages = index == 0 ? -1 : ::memfd_create("messages", MFD_CLOEXEC);
    if (index > 0 && rank.messages < 0) throw system_failure("no room for a process's messages");
    std::vector<char*> arguments;
    for (const std::string& word : launch_.command) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    const pid_t parent = ::getpid();
    rank.process = signals.fork();
    if (rank.process < 0) throw system_failure("cannot start a process");
    if (rank.process == 0) become(rank, variables, parent, arguments.data());
    rank.running = true;
  }

  /// In the new process.
  [[noreturn]] static void become(const Rank& rank, const Assignments& variables, pid_t parent,
                                  char* const* arguments) {
    ::setpgid(0, 0);                        // a terminal's Ctrl-C comes once, from launch()
    ::prctl(PR_SET_PDEATHSIG, kAskToStop);  // may come once for each thread of launch()'s process
    if (::getppid() != parent) ::_exit(static_cast<int>(ExitCode::kPeer));
    for (const auto& [name, value] : variables) ::setenv(name.c_str(), value.c_str(), 1);
    if (rank.messages >= 0) ::dup2(rank.messages, STDERR_FILENO);
    ::execv(arguments[0], arguments);
    ::_exit(127);
  }

  const Launch& launch_;
  std::vector<Rank> ranks_;
  std::vector<size_t> failed_;
};

/// The rank whose failure brought the others down: the first that a signal ended; else rank 0 where it failed
/// by itself, for its messages have been seen; else the first that neither merely lost the others nor ended
/// as it was asked to, where `stop` was asked for.
std::optional<size_t> cause_of(const Ranks& ranks, bool stop) {
  const auto is_cause = [&](size_t i) { return !ranks[i].is_victim() && !(stop && ranks[i].stopped()); };
  const auto first = [&ranks](const auto& condition) -> std::optional<size_t> {
    const auto found = std::find_if(ranks.failed().begin(), ranks.failed().end(), condition);
    return found != ranks.failed().end() ? std::optional(*found) : std::nullopt;
  };
  if (const auto signalled = first([&](size_t i) { return WIFSIGNALED(ranks[i].status) && is_cause(i); }))
    return signalled;
  if (ranks[0].failed() && is_cause(0)) return 0;
  return first(is_cause);
}

void show_messages(size_t index, const Rank& rank) {
  if (rank.messages < 0) return;
  std::istringstream lines(content_of(rank.messages));
  for (std::string line; std::getline(lines, line);)
    std::fputs(fmt::format("rank {}: {}\n", index, line).c_str(), stderr);
}

[[noreturn]] void throw_failure(const Ranks& ranks, size_t cause) {
  const Rank& rank = ranks[cause];
  show_messages(cause, rank);
  throw Error(WIFEXITED(rank.status) ? WEXITSTATUS(rank.status) : static_cast<int>(ExitCode::kPeer),
              fmt::format("rank {} of {} {}", cause, ranks.size(),
                          ranks.size() > 1 ? end_text(rank) : status_text(rank.status)));
}

/// Of ranks that did not all end well; `stop`: the signal by which they were asked to, 0: none.
[[noreturn]] void throw_end(const Ranks& ranks, int stop) {
  if (const std::optional<size_t> cause = cause_of(ranks, stop != 0)) throw_failure(ranks, *cause);
  const size_t first = ranks.failed().front();
  if (stop == 0 && ranks[first].stopped()) stop = ranks[first].signal();
  const bool any_stopped = std::any_of(ranks.failed().begin(), ranks.failed().end(),
                                       [&](size_t i) { return ranks[i].stopped() || ranks[i].killed_here; });
  if (stop == 0 || !any_stopped) throw_failure(ranks, first);  // they only lost each other
  throw Interrupted(stop, fmt::format("all {} processes have stopped", ranks.size()));
}

/// What was asked of launch().
class Requests {
 public:
  void hear(int signal) {
    if (first_ == 0) first_ = signal;
    if (signal != SIGHUP) ++repeatable_;
  }
  /// 0: none.
  int first() const { return first_; }
  bool stop_now() const { return repeatable_ > 1; }

 private:
  int first_ = 0, repeatable_ = 0;
};

}  // namespace

int free_port() {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* any = reinterpret_cast<sockaddr*>(&address);
  const bool bound =
      listener >= 0 && ::bind(listener, any, size) == 0 && ::getsockname(listener, any, &size) == 0;
  const IoError failure = system_failure("no port for the processes to meet at");
  if (listener >= 0) ::close(listener);
  if (!bound) throw failure;
  return ntohs(address.sin_port);
}

void launch(const Launch& launch) {
  const HeardSignals signals;
  Ranks ranks(launch);
  ranks.start(signals);
  Requests requests;
  Clock::time_point deadline = kNever;
  while (ranks.any_running()) {
    const int signal = signals.wait(deadline);
    if (signal != 0 && signal != SIGCHLD) {
      requests.hear(signal);
      ranks.send(requests.stop_now() ? SIGKILL : kAskToStop);
    }
    // The others would wait for it where they still meet. After an exit code they may have found the same,
    // and are given time to say so.
    if (ranks.look()) ranks.send(kAskToStop);
    if (deadline == kNever && !ranks.failed().empty()) deadline = Clock::now() + launch.patience;
    if (Clock::now() < deadline) continue;
    ranks.send(SIGKILL);
    deadline = kNever;
  }
  if (ranks.failed().empty()) return;
  throw_end(ranks, requests.first());
}

}  // namespace exactmamba::core

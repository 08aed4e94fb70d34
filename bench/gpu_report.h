// What the GPU benchmarks measure, against what the same card does in the same run: a table, and JSON.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/distributed/communicator.h"
#include "core/json.h"

namespace exactmamba::bench {

/// Times of repetitions, in seconds.
struct Times {
  std::vector<double> seconds;  // ascending

  explicit Times(std::vector<double> values);
  double median() const { return seconds[seconds.size() / 2]; }
  double least() const { return seconds.front(); }
  double most() const { return seconds.back(); }
};

/// Of kernels, between two events that enclose as many launches as take a few milliseconds (an event between
/// two launches costs as much as a short kernel's last tenth); the queue is kept full.
Times time_kernels(const std::function<void()>& launch, int repetitions = 30);
/// Of whatever ends with an idle GPU, by the clock.
Times time_work(const std::function<void()>& work, int repetitions, int warm_up);

/// One line of the table. Bytes and operations are those that the work cannot do without.
struct Measurement {
  std::string name;
  Times times;
  double bytes = 0, operations = 0;  // 0: not stated
  double tokens = 0;                 // made or trained on; 0: not a matter of tokens
  double peak_bytes = 0;             // of memory; 0: not measured
  double scaling = 0;                // tokens a second, of as many GPUs without sums between them; 0: one GPU
};

class Report {
 public:
  /// Measures the ceilings. `filter`: only measurements whose names contain it. `baseline`: an earlier
  /// report, or reference.py's, whose measurements of the same names are compared. `file`: gets the report
  /// after every measurement (empty: none).
  Report(std::string filter, std::optional<core::Json> baseline, std::string file);

  bool wants(const std::string& name) const { return name.find(filter_) != std::string::npos; }
  /// Prints its line.
  void add(const Measurement& measurement);

 private:
  /// Device, date, ceilings and all measurements.
  core::Json json() const;

  std::string filter_;
  std::optional<core::Json> baseline_;
  std::string file_;
  double copy_rate_ = 0, product_rate_ = 0;  // bytes and operations a second
  core::Json results_ = core::Json::array();
};

/// The subjects. Each adds its measurements.
void measure_operators(Report& report);
void measure_training(Report& report);
void measure_generation(Report& report);
/// Of all processes of a job, with a GPU each.
void measure_scaling(Report& report, core::Communicator& communicator);

}  // namespace exactmamba::bench

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <torch/version.h>
#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 9
#include <ATen/DeviceAccelerator.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <vector>

#include "apps/bench.h"
#include "apps/command.h"
#include "sememe/base/error.h"
#include "sememe/base/json.h"
#include "sememe/base/progress.h"
#include "sememe/base/threads.h"
#include "sememe/features/activation_store.h"
#include "sememe/features/architectures.h"
#include "sememe/features/semi_nmf.h"
#include "sememe/network/tensors.h"

namespace sememe {

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double Measured::median() const {
  std::vector<double> sorted = rates;
  std::sort(sorted.begin(), sorted.end());
  return sorted[sorted.size() / 2];
}

double peak_memory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024.0;
}

std::string output_of(const std::string& command) {
  FILE* const pipe = popen(command.c_str(), "r");
  if (!pipe) fail("cannot start: {}", command);
  std::string text;
  char block[4096];
  for (size_t count; (count = fread(block, 1, sizeof block, pipe)) > 0;) text.append(block, count);
  const int status = pclose(pipe);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) fail("failed: {}", command);
  return text;
}

namespace {

/// The most that LibTorch held at once on the CUDA device, MiB; 0 where this LibTorch does not tell.
double peak_device_memory() {
#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 9
  const auto stats = at::accelerator::getDeviceStats(at::accelerator::getDeviceIndex());
  return static_cast<double>(stats.allocated_bytes[0].peak) / (1 << 20);
#else
  return 0.0;
#endif
}

namespace fs = std::filesystem;
struct TrainingBench {
  CommonOptions common;
  int64_t width = 768, latents = 16384, k = 32, batch = 4096, steps = 6, rounds = 3;
  std::string architecture = "topk";
  fs::path python = ".venv-peers/bin/python", script = "bench/peers/dictionary_train.py";

  void run() {
    apply(common);
    if (k > latents) fail_usage("--k {}: is larger than the number of latents, {}", k, latents);
    std::vector<Measured> measured(2);
    measured[0].name = "sememe " + architecture;
    measured[1].name = "limit: one float32 encoder product";
    std::vector<std::string> peers;
    if (fs::exists(python) && fs::exists(script)) {
      const Json found = parse_json(output_of(fmt::format("{} {} --list", python.string(), script.string())), script.string());
      for (const Json& peer : found) peers.push_back(peer.get<std::string>());
    }
    if (peers.empty())
      note(fmt::format("no peers found: ./setup --peers installs them for {}", python.string()));
    for (const std::string& peer : peers) measured.push_back({peer, {}, 0.0});
    const std::unique_ptr<DictionaryLearner> learner = make_learner();
    for (int64_t round = 0; round < rounds; ++round) {
      measured[0].rates.push_back(measure_ours(*learner, round == 0));
      if (round == 0) measured[0].memory = common.device == "cpu" ? peak_memory() : peak_device_memory();  // before the product below, whose output is large
      measured[1].rates.push_back(measure_product());
      for (size_t i = 0; i < peers.size(); ++i) {
        const std::string line = output_of(fmt::format(
            "{} {} --peer {} --width {} --latents {} --k {} --batch {} --steps {} --threads {} --device {}", python.string(),
            script.string(), peers[i], width, latents, k, batch, steps, thread_count(), common.device));
        const Json peer = parse_json(line, peers[i]);
        measured[2 + i].rates.push_back(json_member<double>(peer, "tokens_per_second", peers[i]));
        measured[2 + i].memory = std::max(measured[2 + i].memory, json_member<double>(peer, "peak_mib", peers[i]));
      }
      note(fmt::format("round {} of {} done", round + 1, rounds));
    }
    print(measured);
  }

  ActivationRows rows() const {
    const auto random = [this] { return torch::randn({batch, width}).to(torch::Device(common.device)); };
    return {random(), find_architecture(architecture).needs_gradients ? random() : torch::Tensor()};
  }

  std::unique_ptr<DictionaryLearner> make_learner() const {
    torch::manual_seed(common.seed);
    LearnerOptions options;
    options.width = width;
    options.latents = latents;
    options.k = k;
    options.seed = common.seed;
    options.device = torch::Device(common.device);
    return find_architecture(architecture).learn(options, measure_activations(rows().activations.cpu()));
  }

  double measure_ours(DictionaryLearner& learner, bool first) const {
    const ActivationRows batch_rows = rows();
    if (first) learner.step(batch_rows, 1e-4);
    wait();
    const auto start = Clock::now();
    for (int64_t step = 0; step < steps; ++step) learner.step(batch_rows, 1e-4);
    wait();
    return static_cast<double>(batch * steps) / seconds_since(start);
  }

  void wait() const {
    if (common.device == "cuda") torch::cuda::synchronize();
  }

  double measure_product() const {
    const torch::Device device(common.device);
    const torch::Tensor x = torch::randn({batch, width}, device), encoder = torch::randn({latents, width}, device);
    torch::Tensor product = torch::mm(x, encoder.t());
    wait();
    const auto start = Clock::now();
    torch::mm_out(product, x, encoder.t());
    wait();
    return static_cast<double>(batch) / seconds_since(start);
  }

  void print(const std::vector<Measured>& measured) const {
    fmt::print("width {}, {} latents, k {}, batch {}, {} threads, {} rounds of {} steps; tokens per second\n", width, latents, k, batch,
               thread_count(), rounds, steps);
    fmt::print("{:<38} {:>9} {:>9} {:>9}  {:>11}  {}\n", "", "least", "median", "most", "ours / this", "memory, MiB");
    Json list = Json::array();
    for (const Measured& one : measured) {
      const auto [least, most] = std::minmax_element(one.rates.begin(), one.rates.end());
      const double ratio = measured[0].median() / one.median();
      fmt::print("{:<38} {:>9.0f} {:>9.0f} {:>9.0f}  {:>11.2f}  {}\n", one.name, *least, one.median(), *most, ratio,
                 one.memory > 0 ? fmt::format("{:.0f}", one.memory) : "-");
      list.push_back({{"name", one.name}, {"tokens_per_second", one.rates}, {"median", one.median()}, {"ours_over_this", ratio},
                      {"peak_mib", one.memory > 0 ? Json(one.memory) : Json()}});
    }
    if (!common.json.empty())
      write_json(common.json, {{"width", width}, {"latents", latents}, {"k", k}, {"batch", batch}, {"threads", thread_count()},
                               {"steps", steps}, {"measured", list}});
  }
};

struct SemiNmfBench {
  CommonOptions common;
  int64_t width = 3072, rows = 10'000, features = 100, iterations = 20, rounds = 3;
  double kept = 0.01;
  fs::path activations;  ///< rows to factorise; empty: random ones
  fs::path python = ".venv/bin/python", script = "bench/peers/semi_nmf.py";

  void run() {
    apply(common);
    torch::manual_seed(common.seed);
    const torch::Tensor x = rows_to_factorise(), beginning = torch::rand({rows, features});
    const fs::path data = fs::temp_directory_path() / fmt::format("sememe-bench-{}.safetensors", getpid());
    save_tensors(data, {{"activations", x}, {"coefficients", beginning}});
    const SemiNmfOptions options{
        .features = features, .kept = kept, .coefficients = beginning, .iterations = iterations, .patience = iterations + 1};
    const bool has_peer = fs::exists(python) && fs::exists(script);
    if (!has_peer) note(fmt::format("no NumPy found at {}: ./setup --tests installs it", python.string()));
    std::vector<Measured> measured{{"sememe", {}, 0.0}, {"limit: one float32 product", {}, 0.0}};
    if (has_peer) measured.push_back({"NumPy, the published iteration", {}, 0.0});
    std::vector<double> ours, theirs;
    for (int64_t round = 0; round < rounds; ++round) {
      const auto start = Clock::now();
      ours = semi_nmf(x, options).losses;
      measured[0].rates.push_back(static_cast<double>(iterations) / seconds_since(start));
      measured[1].rates.push_back(measure_product(x, beginning));
      if (!has_peer) continue;
      const Json peer = run_peer(data, "");
      measured[2].rates.push_back(static_cast<double>(iterations) / json_member<double>(peer, "seconds", script.string()));
      theirs = json_member<std::vector<double>>(peer, "losses", script.string());
    }
    std::vector<double> exact;
    if (has_peer) exact = json_member<std::vector<double>>(run_peer(data, " --exact"), "losses", script.string());
    fs::remove(data);
    print(measured, ours, theirs, exact);
  }

  torch::Tensor rows_to_factorise() {
    if (activations.empty()) return torch::randn({rows, width}).relu();
    const ActivationStore store = ActivationStore::open(activations);
    rows = std::min(rows, store.rows());
    width = store.width();
    return store.read(0, rows).activations;
  }

  double measure_product(const torch::Tensor& x, const torch::Tensor& coefficients) const {
    const torch::Tensor by_feature = coefficients.t().contiguous();
    torch::Tensor product = torch::mm(by_feature, x);
    const auto start = Clock::now();
    torch::mm_out(product, by_feature, x);
    return 1.0 / seconds_since(start);
  }

  Json run_peer(const fs::path& data, const std::string& more) const {
    return parse_json(output_of(fmt::format("OPENBLAS_NUM_THREADS={} {} {} {} --kept {} --iterations {}{}", thread_count(), python.string(),
                                            script.string(), data.string(), kept, iterations, more)),
                      script.string());
  }

  static double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
    double largest = 0;
    for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) largest = std::max(largest, std::abs(a[i] / b[i] - 1));
    return largest;
  }

  void print(const std::vector<Measured>& measured, const std::vector<double>& ours, const std::vector<double>& theirs,
             const std::vector<double>& exact) const {
    fmt::print("rows {}, width {}, {} features, kept {}, {} threads, {} rounds of {} iterations; iterations per second\n", rows, width,
               features, kept, thread_count(), rounds, iterations);
    fmt::print("{:<38} {:>9} {:>9} {:>9}  {:>11}\n", "", "least", "median", "most", "ours / this");
    Json list = Json::array();
    for (const Measured& one : measured) {
      const auto [least, most] = std::minmax_element(one.rates.begin(), one.rates.end());
      const double ratio = measured[0].median() / one.median();
      fmt::print("{:<38} {:>9.2f} {:>9.2f} {:>9.2f}  {:>11.2f}\n", one.name, *least, one.median(), *most, ratio);
      list.push_back({{"name", one.name}, {"iterations_per_second", one.rates}, {"median", one.median()}, {"ours_over_this", ratio}});
    }
    Json result = {{"rows", rows},    {"width", width}, {"features", features}, {"kept", kept}, {"threads", thread_count()},
                   {"measured", list}};
    if (!theirs.empty()) {
      const double from_float32 = largest_difference(ours, theirs), from_float64 = largest_difference(ours, exact);
      const double of_numpy = largest_difference(theirs, exact);
      fmt::print(
          "loss curves differ by at most: ours from NumPy {:.1e}, from NumPy in float64 {:.1e}; NumPy from itself in float64 {:.1e}\n",
          from_float32, from_float64, of_numpy);
      result["largest_loss_difference"] = {
          {"ours_numpy", from_float32}, {"ours_numpy_float64", from_float64}, {"numpy_numpy_float64", of_numpy}};
    }
    if (!common.json.empty()) write_json(common.json, result);
  }
};

void add_semi_nmf_bench(CLI::App& group) {
  const auto command = std::make_shared<SemiNmfBench>();
  CLI::App* const app = add_command(group, "semi-nmf", "Iterations of semi-NMF a second, beside the published iteration in NumPy",
                                    "sememe bench semi-nmf --rows 10000 --width 3072 --features 100");
  CLI::Option* const activations = app->add_option("--activations", command->activations,
                                                   "Rows to factorise: folder made by capture, .npy or .safetensors (else random)");
  app->add_option("--width", command->width, "Size of a random row")
      ->check(CLI::PositiveNumber)
      ->excludes(activations)
      ->capture_default_str();
  app->add_option("--rows", command->rows, "Number of rows")->check(CLI::PositiveNumber)->capture_default_str();
  app->add_option("--features", command->features, "Number of features")->check(CLI::PositiveNumber)->capture_default_str();
  app->add_option("--kept", command->kept, "Share of a feature's units that are kept")->capture_default_str();
  app->add_option("--iterations", command->iterations, "Iterations a round")->check(CLI::PositiveNumber)->capture_default_str();
  app->add_option("--rounds", command->rounds, "Rounds")->check(CLI::PositiveNumber)->capture_default_str();
  app->add_option("--python", command->python, "Python that has NumPy and safetensors")->capture_default_str();
  add_common_options(*app, command->common);
  app->callback([command] { command->run(); });
}

void add_training_bench(CLI::App& group) {
  const auto command = std::make_shared<TrainingBench>();
  CLI::App* const app = add_command(group, "dictionary-train", "Training steps a second, beside every peer that is installed",
                                    "sememe bench dictionary-train --latents 16384 --k 32 --batch 4096");
  app->add_option("--width", command->width, "Size of a row")->check(CLI::PositiveNumber)->capture_default_str();
  app->add_option("--latents", command->latents, "Number of latents")->check(CLI::PositiveNumber)->capture_default_str();
  app->add_option("--k", command->k, "Latents that are active for a token")->check(CLI::PositiveNumber)->capture_default_str();
  app->add_option("--batch", command->batch, "Rows a step")->check(CLI::PositiveNumber)->capture_default_str();
  app->add_option("--steps", command->steps, "Steps a round")->check(CLI::PositiveNumber)->capture_default_str();
  app->add_option("--rounds", command->rounds, "Rounds, in each of which everything is measured once")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app->add_option("--architecture", command->architecture, "Ours")->capture_default_str();
  app->add_option("--python", command->python, "Python that has the peers")->capture_default_str();
  add_common_options(*app, command->common);
  app->callback([command] { command->run(); });
}

}  // namespace

void add_bench_commands(CLI::App& program) {
  CLI::App* const group = program.add_subcommand("bench", "Measured workloads, with the limit and the peers' figures beside ours");
  group->require_subcommand(1);
  add_training_bench(*group);
  add_semi_nmf_bench(*group);
  add_ranks_bench(*group);
  add_decode_bench(*group);
  add_sparse_bench(*group);
}

}  // namespace sememe

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>
#include <vector>

#include "apps/command.h"
#include "sememe/base/error.h"
#include "sememe/base/json.h"
#include "sememe/base/progress.h"
#include "sememe/base/threads.h"
#include "sememe/features/architectures.h"
#include "sememe/features/semi_nmf.h"
#include "sememe/network/tensors.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// Tokens per second of something, one figure a round.
struct Measured {
  std::string name;
  std::vector<double> rates;
  double memory = 0.0;  ///< most that the process held at once, MiB; 0 if that says nothing

  double median() const {
    std::vector<double> sorted = rates;
    std::sort(sorted.begin(), sorted.end());
    return sorted[sorted.size() / 2];
  }
};

/// The most memory that this process held at once so far, MiB.
double peak_memory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024.0;
}

/// What a command prints. @throws Error if it fails
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
    if (common.device == "cpu" && fs::exists(python) && fs::exists(script)) {
      const Json found = parse_json(output_of(fmt::format("{} {} --list", python.string(), script.string())), script.string());
      for (const Json& peer : found) peers.push_back(peer.get<std::string>());
    }
    if (common.device != "cpu")
      note("peers are measured on the cpu only");
    else if (peers.empty())
      note(fmt::format("no peers found: ./setup --peers installs them for {}", python.string()));
    for (const std::string& peer : peers) measured.push_back({peer, {}, 0.0});
    const std::unique_ptr<DictionaryLearner> learner = make_learner();
    for (int64_t round = 0; round < rounds; ++round) {
      measured[0].rates.push_back(measure_ours(*learner, round == 0));
      if (round == 0) measured[0].memory = peak_memory();  // before the product below, whose output is large
      measured[1].rates.push_back(measure_product());
      for (size_t i = 0; i < peers.size(); ++i) {
        const std::string line = output_of(fmt::format(
            "{} {} --peer {} --width {} --latents {} --k {} --batch {} --steps {} --threads {}", python.string(), script.string(), peers[i],
            width, latents, k, batch, steps, thread_count()));
        const Json peer = parse_json(line, peers[i]);
        measured[2 + i].rates.push_back(json_member<double>(peer, "tokens_per_second", peers[i]));
        measured[2 + i].memory = std::max(measured[2 + i].memory, json_member<double>(peer, "peak_mib", peers[i]));
      }
      note(fmt::format("round {} of {} done", round + 1, rounds));
    }
    print(measured);
  }

  ActivationRows rows() const {
    return {torch::randn({batch, width}), find_architecture(architecture).needs_gradients ? torch::randn({batch, width}) : torch::Tensor()};
  }

  std::unique_ptr<DictionaryLearner> make_learner() const {
    torch::manual_seed(common.seed);
    LearnerOptions options;
    options.width = width;
    options.latents = latents;
    options.k = k;
    options.seed = common.seed;
    options.device = torch::Device(common.device);
    return find_architecture(architecture).learn(options, measure_activations(rows().activations));
  }

  double measure_ours(DictionaryLearner& learner, bool first) const {
    const ActivationRows batch_rows = rows();
    if (first) learner.step(batch_rows, 1e-4);
    const auto start = Clock::now();
    for (int64_t step = 0; step < steps; ++step) learner.step(batch_rows, 1e-4);
    return static_cast<double>(batch * steps) / seconds_since(start);
  }

  double measure_product() const {
    const torch::Device device(common.device);
    const torch::Tensor x = torch::randn({batch, width}, device), encoder = torch::randn({latents, width}, device);
    torch::Tensor product = torch::mm(x, encoder.t());
    const auto wait = [&] { return product[0][0].item<float>(); };  // for a device that works on its own
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
  fs::path python = ".venv/bin/python", script = "bench/peers/semi_nmf.py";

  void run() {
    apply(common);
    torch::manual_seed(common.seed);
    const torch::Tensor x = torch::randn({rows, width}).relu(), beginning = torch::rand({rows, features});
    const fs::path data = fs::temp_directory_path() / fmt::format("sememe-bench-{}.safetensors", getpid());
    save_tensors(data, {{"activations", x}, {"coefficients", beginning}});
    SemiNmfOptions options{.features = features, .kept = kept, .coefficients = beginning, .iterations = iterations, .patience = iterations + 1};
    const bool has_peer = fs::exists(python) && fs::exists(script);
    if (!has_peer) note(fmt::format("no NumPy found at {}: ./setup --tests installs it", python.string()));
    std::vector<double> ours, theirs;
    double largest_difference = 0;
    for (int64_t round = 0; round < rounds; ++round) {
      const auto start = Clock::now();
      const SemiNmf found = semi_nmf(x, options);
      ours.push_back(static_cast<double>(iterations) / seconds_since(start));
      if (!has_peer) continue;
      const Json peer = parse_json(output_of(fmt::format("OPENBLAS_NUM_THREADS={} {} {} {} --kept {} --iterations {}", thread_count(), python.string(),
                                                         script.string(), data.string(), kept, iterations)), script.string());
      theirs.push_back(static_cast<double>(iterations) / json_member<double>(peer, "seconds", script.string()));
      const auto losses = json_member<std::vector<double>>(peer, "losses", script.string());
      for (size_t i = 0; i < losses.size() && i < found.losses.size(); ++i)
        largest_difference = std::max(largest_difference, std::abs(found.losses[i] / losses[i] - 1));
    }
    fs::remove(data);
    const Measured us{"sememe", ours, 0.0}, them{"NumPy", theirs, 0.0};
    fmt::print("rows {}, width {}, {} features, kept {}, {} threads; iterations per second, medians of {} rounds\n", rows, width, features, kept,
               thread_count(), rounds);
    fmt::print("sememe {:.2f}\n", us.median());
    Json result = {{"sememe", ours}, {"numpy", theirs}};
    if (has_peer) {
      fmt::print("NumPy, the published iteration {:.2f}; ours / this {:.2f}; loss curves differ by at most {:.1e}\n", them.median(),
                 us.median() / them.median(), largest_difference);
      result["ratio"] = us.median() / them.median();
      result["largest_loss_difference"] = largest_difference;
    }
    if (!common.json.empty()) write_json(common.json, result);
  }
};

void add_semi_nmf_bench(CLI::App& group) {
  const auto command = std::make_shared<SemiNmfBench>();
  CLI::App* const app = add_command(group, "semi-nmf", "Iterations of semi-NMF a second, beside the published iteration in NumPy",
                                    "sememe bench semi-nmf --rows 10000 --width 3072 --features 100");
  app->add_option("--width", command->width, "Size of a row")->check(CLI::PositiveNumber)->capture_default_str();
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
}

}  // namespace sememe

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "apps/bench.h"
#include "apps/command.h"
#include "sememe/base/error.h"
#include "sememe/base/json.h"
#include "sememe/base/progress.h"
#include "sememe/base/threads.h"
#include "sememe/features/architectures.h"
#include "sememe/features/rank_grid.h"
#include "sememe/ranks/ranks.h"

namespace sememe {
namespace {


double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

double seconds_of(int64_t repetitions, const std::function<void()>& work) {
  std::vector<double> seconds;
  for (int64_t i = 0; i < repetitions; ++i) {
    const auto start = Clock::now();
    work();
    seconds.push_back(seconds_since(start));
  }
  return median(seconds);
}

/// A network that a projection is made for.
struct NamedNetwork {
  const char* name;
  RankNetwork network;
};
constexpr NamedNetwork kNetworks[] = {{"10 Gbit/s, 30 us", {30e-6, 1.25e9}}, {"100 Gbit/s, 5 us", {5e-6, 12.5e9}}};

struct RanksBench {
  CommonOptions common;
  int64_t width = 768, latents = 16384, k = 32, batch = 4096, steps = 4, rounds = 3;

  void run() {
    apply(common);
    if (common.device != "cpu") fail_usage("--device {}: several ranks learn on the cpu", common.device);
    if (k > latents) fail_usage("--k {}: is larger than the number of latents, {}", k, latents);
    const Ranks& all = Ranks::of_run();
    Json result{{"width", width}, {"latents", latents}, {"k", k}, {"batch", batch}, {"ranks", all.size()}, {"threads", thread_count()}};
    say("width {}, {} latents, k {}, batch {}; {} ranks of {} threads; medians of {} rounds of {} steps\n", width, latents, k, batch, all.size(),
        thread_count(), rounds, steps);
    if (all.alone())
      say("one rank exchanges nothing; start it with mpirun -n 2 to check the cost model\n");
    else
      check_model(all, result);
    project(result);
    if (!common.json.empty() && all.first()) write_json(common.json, result);
  }

 private:
  template <class... Args>
  static void say(fmt::format_string<Args...> format, Args&&... args) {
    if (Ranks::of_run().first()) fmt::print(format, std::forward<Args>(args)...);
  }

  StepSizes sizes() const { return {batch, width, latents, k}; }

  RankNetwork measure_network(const Ranks& all) const {
    std::vector<float> one(1), many(std::max(batch, latents) * width);  // as large as the largest of a step
    const double small = seconds_of(2000, [&] { all.sum(one); });
    const double large = seconds_of(10, [&] { all.sum(many); });
    const auto n = static_cast<double>(all.size());
    const double bytes = 4.0 * static_cast<double>(many.size());
    return {small / std::log2(n), 2.0 * (n - 1.0) / n * bytes / std::max(large - small, 1e-9)};
  }

  std::unique_ptr<DictionaryLearner> make_learner(const RankGrid& ranks, int64_t of_latents) const {
    torch::manual_seed(common.seed);
    LearnerOptions options;
    options.width = width;
    options.latents = of_latents;
    options.k = std::min(k, of_latents);
    options.seed = common.seed;
    options.ranks = ranks;
    return find_architecture("topk").learn(options, measure_activations(torch::randn({4096, width})));
  }

  /// Seconds of a step, and how many of them went into exchanges.
  std::pair<double, double> measure_steps(const RankGrid& ranks, int64_t of_latents, int64_t rows) const {
    const std::unique_ptr<DictionaryLearner> learner = make_learner(ranks, of_latents);
    const ActivationRows some{torch::randn({rows, width}), {}};
    learner->step(some, 1e-4);
    std::vector<double> whole, exchanging;
    for (int64_t i = 0; i < rounds * steps; ++i) {
      Ranks::of_run().meet();
      const double before = Ranks::spent().seconds;
      const auto start = Clock::now();
      learner->step(some, 1e-4);
      whole.push_back(seconds_since(start));
      exchanging.push_back(Ranks::spent().seconds - before);
    }
    return {median(whole), median(exchanging)};
  }

  void check_model(const Ranks& all, Json& result) const {
    const RankNetwork network = measure_network(all);
    say("\nbetween these ranks: latency {:.1f} us, bandwidth {:.2f} GB/s\n", 1e6 * network.latency, 1e-9 * network.bandwidth);
    result["latency"] = network.latency;
    result["bandwidth"] = network.bandwidth;
    say("{:>10} {:>8} {:>11} {:>14} {:>14} {:>14}\n", "row groups", "shards", "step, ms", "exchanges, ms", "by the model", "tokens/s");
    for (int64_t shards = 1; shards <= all.size(); ++shards) {
      const int64_t groups = all.size() / shards;
      if (all.size() % shards != 0 || batch % groups != 0) continue;
      const auto [whole, exchanging] = measure_steps(RankGrid(all, shards), latents, batch / groups);
      const double modelled = exchange_seconds(sizes(), groups, shards, network);
      say("{:>10} {:>8} {:>11.1f} {:>14.2f} {:>14.2f} {:>14.0f}\n", groups, shards, 1e3 * whole, 1e3 * exchanging, 1e3 * modelled,
          static_cast<double>(batch) / whole);
      result["measured"].push_back({{"row_groups", groups}, {"shards", shards}, {"step_seconds", whole}, {"exchange_seconds", exchanging},
                                    {"modelled_exchange_seconds", modelled}});
    }
  }

  /// What a rank computes is measured here, what it exchanges is by the model.
  void project(Json& result) const {
    say("\nprojection: a machine a rank, each as this one with {} threads; exchanges by the model; tokens per second (share of perfect scaling)\n",
        thread_count());
    say("{:>6} {:>11} {:>7} {:>14}", "ranks", "row groups", "shards", "computing, ms");
    for (const NamedNetwork& each : kNetworks) say(" {:>24}", each.name);
    say("\n");
    double alone = 0.0;
    std::vector<std::pair<int64_t, int64_t>> grids{{1, 1}};
    for (const int64_t ranks : {4, 16, 64}) {
      const auto side = static_cast<int64_t>(std::sqrt(ranks));
      for (const int64_t shards : {ranks, fewest_bytes_shards(sizes(), ranks), side, int64_t{1}})
        if (std::find(grids.begin(), grids.end(), std::pair(ranks / shards, shards)) == grids.end()) grids.emplace_back(ranks / shards, shards);
    }
    for (const auto& [groups, shards] : grids) {
      if (shards > latents || batch % groups != 0) continue;
      const int64_t ranks = groups * shards;
      const double computing = measure_steps(RankGrid(), latents / shards, batch / groups).first;
      if (ranks == 1) alone = computing;
      say("{:>6} {:>11} {:>7} {:>14.1f}", ranks, groups, shards, 1e3 * computing);
      Json line{{"ranks", ranks}, {"row_groups", groups}, {"shards", shards}, {"computing_seconds", computing}};
      for (const NamedNetwork& each : kNetworks) {
        const double step = computing + exchange_seconds(sizes(), groups, shards, each.network);
        say(" {:>16.0f} ({:>3.0f} %)", static_cast<double>(batch) / step, 100.0 * alone / step / static_cast<double>(ranks));
        line["tokens_per_second"][each.name] = static_cast<double>(batch) / step;
      }
      say("{}\n", ranks > 1 && shards == fewest_bytes_shards(sizes(), ranks) ? "  fewest bytes" : "");
      result["projected"].push_back(line);
    }
  }
};

}  // namespace

void add_ranks_bench(CLI::App& group) {
  const auto command = std::make_shared<RanksBench>();
  CLI::App* const app = add_command(group, "ranks", "Training on several ranks: exchanges beside their cost model, and a projection to 64 machines",
                                    "mpirun -n 2 sememe bench ranks --latents 16384 --k 32 --batch 4096");
  app->add_option("--width", command->width, "Size of a row")->check(CLI::PositiveNumber)->capture_default_str();
  app->add_option("--latents", command->latents, "Number of latents")->check(CLI::PositiveNumber)->capture_default_str();
  app->add_option("--k", command->k, "Latents that are active for a token")->check(CLI::PositiveNumber)->capture_default_str();
  app->add_option("--batch", command->batch, "Rows a step")->check(CLI::PositiveNumber)->capture_default_str();
  app->add_option("--steps", command->steps, "Steps a round")->check(CLI::PositiveNumber)->capture_default_str();
  app->add_option("--rounds", command->rounds, "Rounds")->check(CLI::PositiveNumber)->capture_default_str();
  command->common.on_ranks = true;
  add_common_options(*app, command->common);
  app->callback([command] { command->run(); });
}

}  // namespace sememe

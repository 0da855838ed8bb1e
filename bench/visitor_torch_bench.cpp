// What visiting a network costs: a forward pass of the shipped model's shape with visitors of several kinds, turn by turn.
//   visitor_torch_bench [rounds]
// Prints the median ratio to a pass that visits nothing: of doing nothing, of stopping at the last site wanted, and of edits, whose limit
// is what the dictionary's encoder product takes.

#include <fmt/format.h>
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <vector>

#include "sememe/base/threads.h"
#include "sememe/features/intervention.h"
#include "sememe/features/top_k.h"
#include "sememe/language/transformer.h"

namespace {

using namespace sememe;

/// The default of SiteVisitor, behind a virtual call that the compiler cannot see through.
class Idle : public SiteVisitor {
 public:
  torch::Tensor visit(const Site& site, torch::Tensor value) override { return SiteVisitor::visit(site, std::move(value)); }
  bool finished() const override { return false; }
};

class StopAt : public SiteVisitor {
 public:
  explicit StopAt(std::string site) : site_(std::move(site)) {}
  torch::Tensor visit(const Site& site, torch::Tensor value) override {
    finished_ = site.name == site_;
    return value;
  }
  bool finished() const override { return finished_; }

 private:
  std::string site_;
  bool finished_ = false;
};

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::max(1, std::atoi(argv[1])) : 25;
  torch::manual_seed(1);
  torch::set_num_threads(thread_count());
  const torch::NoGradGuard no_grad;
  Transformer network((TransformerConfig()));
  network.initialize(1);
  const Batch batch{torch::randint(4096, {8, 256}, torch::kInt64), {}};
  const auto seconds = [&](SiteVisitor& visitor) {
    const auto start = std::chrono::steady_clock::now();
    network.forward(batch, visitor);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  constexpr int64_t kLatents = 2048, kWidth = 256, kK = 16;
  const torch::Tensor directions = random_directions(kLatents, kWidth, 1, "bench");
  const TopKDictionary dictionary({directions, torch::zeros({kLatents}), directions, torch::zeros({kWidth})}, kK, Json::object());
  Intervention addition("blocks.1.output", "bench", dictionary), change = addition;
  addition.edits = {Edit::add(1, 2.0)};
  change.edits = {Edit::clamp(1, 2.0), Edit::ablate(2), Edit::swap(3, 4)};
  const torch::Tensor rows = torch::randn({batch.inputs.numel(), kWidth});
  const auto encoder_product = [&] {
    const auto start = std::chrono::steady_clock::now();
    torch::mm(rows, directions.t());
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  SiteVisitor plain;
  std::vector<double> idle_ratios, stop_ratios, add_ratios, change_ratios, product_ratios, noise;
  for (int round = -1; round < rounds; ++round) {
    Idle idle;
    StopAt stop("blocks.1.output");
    const double without = seconds(plain), with = seconds(idle), stopped = seconds(stop), again = seconds(plain);
    InterveneSite adds(addition, dictionary, Passes::kWholeContexts), changes(change, dictionary, Passes::kWholeContexts);
    const double added = seconds(adds), changed = seconds(changes), product = encoder_product();
    if (round < 0) continue;
    idle_ratios.push_back(with / without);
    stop_ratios.push_back(stopped / without);
    add_ratios.push_back(added / without);
    change_ratios.push_back(changed / without);
    product_ratios.push_back(product / without);
    noise.push_back(again / without);
  }
  fmt::print("{} threads, batch 8 x 256, medians of {} rounds, time over that of a plain pass\n", thread_count(), rounds);
  fmt::print("the plain pass again (noise)          {:.3f}\n", median(noise));
  fmt::print("a visitor that does nothing           {:.3f}\n", median(idle_ratios));
  fmt::print("stopped at blocks.1.output, of four   {:.3f}\n", median(stop_ratios));
  fmt::print("a latent's direction added            {:.3f}\n", median(add_ratios));
  fmt::print("clamp, ablate and swap of latents     {:.3f}\n", median(change_ratios));
  fmt::print("limit of these: an encoder product    {:.3f} more\n", median(product_ratios));
}

#include "sememe/features/logit_lens.h"

namespace sememe {

torch::Tensor logit_lens(const LanguageModel& model, const Site& site, const torch::Tensor& directions) {
  const DecoderNetwork& network = *model.network;
  // Only what is added to the residual stream is read by the head.
  if (site.width != network.head().size(1) || site.name.ends_with(".act")) return {};
  const torch::Tensor rows = directions.to(network.head().device());
  const bool behind_norm = site.name == "norm";
  // A norm's additive part says nothing about the direction.
  const torch::Tensor read = behind_norm ? rows : network.final_norm(rows) - network.final_norm(torch::zeros_like(rows.narrow(0, 0, 1)));
  const torch::Tensor lens = torch::nn::functional::normalize(read).to(torch::kCPU);
  return torch::mm(lens, network.head().narrow(0, 0, model.tokenizer.size()).to(torch::kCPU).t());
}

}  // namespace sememe

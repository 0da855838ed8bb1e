#include "sememe/features/architectures.h"

#include <algorithm>
#include <array>

#include "sememe/base/error.h"
#include "sememe/features/attribution.h"
#include "sememe/features/batch_top_k.h"
#include "sememe/features/crosscoder.h"
#include "sememe/features/gated.h"
#include "sememe/features/gated_dictionary.h"
#include "sememe/features/gradient_top_k.h"
#include "sememe/features/ica.h"
#include "sememe/features/interchange/format.h"
#include "sememe/features/jump_relu.h"
#include "sememe/features/kmeans.h"
#include "sememe/features/matryoshka.h"
#include "sememe/features/pca.h"
#include "sememe/features/relu.h"
#include "sememe/features/semi_nmf_dictionary.h"
#include "sememe/features/threshold_dictionary.h"
#include "sememe/features/top_k.h"
#include "sememe/features/transcoder.h"

namespace sememe {
namespace {

constexpr double kWithoutMomentum = 0.3;  // Adam with beta1 = 0 takes larger steps at the same rate
constexpr double kNoRate = 0.0;           // nothing is learnt by gradients

}  // namespace

bool Architecture::takes(std::string_view option) const {
  return std::find(options.begin(), options.end(), option) != options.end();
}

std::span<const Architecture> architectures() {
  static const std::array all{
      Architecture{"topk", "the k largest latents of each row (Gao et al. 2024)", false, {"k", "auxiliary-k", "multi-topk"}, 1.0, Sharing::kRowsAndLatents,
                   load_top_k, learn_top_k},
      Architecture{"gsae", "as topk, selecting also by influence on the loss (Olmo et al. 2024)", true,
                   {"k", "auxiliary-k", "beta", "score", "gradient-scaling"}, 1.0, Sharing::kRowsAndLatents, load_gradient_top_k, learn_gradient_top_k},
      Architecture{"batchtopk", "k latents a row on average, the largest of a batch (Bussmann et al. 2024)", false,
                   {"k", "auxiliary-k"}, 1.0, Sharing::kRowsAndLatents, load_threshold, learn_batch_top_k},
      Architecture{"matryoshka", "as batchtopk, where the first latents must do without the later (Bussmann et al. 2025)", false,
                   {"k", "auxiliary-k", "prefixes"}, 1.0, Sharing::kRowsAndLatents, load_threshold, learn_matryoshka},
      Architecture{"relu", "all positive latents, under an L1 penalty (Bricken et al. 2023)", false, {"sparsity", "target-l0", "penalty"}, 1.0, Sharing::kRows,
                   load_threshold, learn_relu},
      Architecture{"gated", "latents behind gates that the penalty acts on (Rajamanoharan et al. 2024)", false, {"sparsity", "target-l0"}, kWithoutMomentum, Sharing::kRows,
                   load_gated, learn_gated},
      Architecture{"jumprelu", "latents above learnt thresholds, under an L0 penalty (Rajamanoharan et al. 2024)", false,
                   {"sparsity", "penalty", "target-l0"}, kWithoutMomentum, Sharing::kRows, load_threshold, learn_jump_relu},
      Architecture{"attribution", "as relu, penalised also by influence on the loss (Anthropic 2024)", true,
                   {"sparsity", "target-l0", "attribution", "unexplained"}, 1.0, Sharing::kRows, load_threshold, learn_attribution},
      Architecture{"crosscoder", "as relu, one code for several sites at once (Lindsey et al. 2024)", false, {"sparsity", "target-l0"}, 1.0, Sharing::kRows,
                   load_threshold, learn_crosscoder},
      Architecture{"transcoder", "as relu, from what enters a part of the network to what leaves it (Dunefsky et al. 2024)", false,
                   {"sparsity", "target-l0"}, 1.0, Sharing::kRows, load_threshold, learn_transcoder},
      Architecture{"kmeans", "the nearest of spherical k-means' centroids (Coates & Ng 2012)", false, {}, kNoRate, Sharing::kNothing, load_top_k, learn_kmeans},
      Architecture{"pca", "the k largest principal components of each row (Pearson 1901)", false, {"k"}, kNoRate, Sharing::kNothing, load_top_k, learn_pca},
      Architecture{"ica", "the k largest independent components of each row (Hyvarinen 1999)", false, {"k"}, kNoRate, Sharing::kNothing, load_top_k, learn_ica},
      Architecture{"snmf", "features of few units, by dictionary factorize, not here (Shafran et al. 2025)", false, {}, 1.0, Sharing::kNothing, load_semi_nmf,
                   learn_semi_nmf},
  };
  return all;
}

const Architecture& find_architecture(std::string_view name) {
  std::string names;
  for (const Architecture& architecture : architectures()) {
    if (architecture.name == name) return architecture;
    names += (names.empty() ? "" : ", ") + std::string(architecture.name);
  }
  fail_usage("--architecture {}: there is no such architecture; choose one of {}", name, names);
}

std::shared_ptr<Dictionary> load_dictionary(const std::filesystem::path& folder) {
  if (const DictionaryFormat* const format = recognise_format(folder)) return put_together(format->read(folder, {}));
  const std::filesystem::path config_path = folder / "config.json";
  if (!std::filesystem::exists(config_path))
    fail("{}: is not a dictionary (there is no config.json in it, and no file of another tool's)", folder.string());
  const Json config = read_json(config_path);
  const auto name = json_member<std::string>(config, "architecture", config_path.string());
  for (const Architecture& architecture : architectures())
    if (architecture.name == name) return architecture.load(config, SafetensorsFile(folder / "dictionary.safetensors"));
  fail("{}: the architecture \"{}\" is not known here", config_path.string(), name);
}

}  // namespace sememe

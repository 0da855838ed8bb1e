#include "studies/snmf/baselines.h"

#include <vector>

#include "sememe/base/random.h"
#include "sememe/features/activation_store.h"
#include "sememe/features/capture.h"
#include "sememe/features/dictionary_training.h"

namespace sememe::snmf {

namespace fs = std::filesystem;

torch::Tensor random_sparse_directions(int64_t count, int64_t width, int64_t units, uint64_t seed) {
  RandomStream stream(seed, "snmf/random-directions");
  torch::Tensor directions = torch::zeros({count, width});
  for (int64_t i = 0; i < count; ++i) {
    const std::vector<int64_t> order = permutation(width, stream);
    for (int64_t j = 0; j < units; ++j) directions[i][order[j]] = stream.normal();
  }
  return directions;
}

torch::Tensor difference_of_means(const LabelledTokens& tokens, int64_t label) {
  const torch::Tensor of_label = torch::tensor(tokens.labels, torch::kInt64) == label;
  return tokens.activations.index({of_label}).mean(0) - tokens.activations.index({~of_label}).mean(0);
}

std::shared_ptr<Dictionary> train_top_k(const LanguageModel& model, const std::string& site, const fs::path& text, const fs::path& folder,
                                        const TopKPlan& plan, uint64_t seed) {
  const fs::path out = folder / fmt::format("topk-seed{}", seed);
  if (!fs::exists(out / "config.json")) {
    CaptureOptions capture_options;
    capture_options.site = site;
    capture_options.tokens = plan.captured;
    capture(model, text, capture_options, folder / "activations");
    DictionaryTrainingOptions training;
    training.architecture = "topk";
    training.latents = 2048;
    training.k = 16;
    training.tokens = plan.trained;
    training.seed = seed;
    training.resume = true;
    train_dictionary(ActivationStore::open(folder / "activations"), training, out);
  }
  return load_dictionary(out);
}

torch::Tensor dense_codes(const Dictionary& dictionary, const LabelledTokens& tokens) {
  const SparseCodes codes = dictionary.encode(tokens.activations);
  torch::Tensor values = torch::zeros({codes.rows(), dictionary.size()});
  const torch::Tensor counts = codes.offsets.narrow(0, 1, codes.rows()) - codes.offsets.narrow(0, 0, codes.rows());
  values.index_put_({torch::repeat_interleave(counts), codes.atoms.to(torch::kInt64)}, codes.values);
  return values;
}

}  // namespace sememe::snmf

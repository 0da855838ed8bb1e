#pragma once
// What all dictionaries here share once learnt: linear pre-activations of which some are selected, a gather over the selected atoms to
// decode, and a folder. A kind adds how codes are selected, and the tensors and settings that this takes.

#include <functional>

#include "sememe/features/autoencoder_weights.h"
#include "sememe/features/dictionary.h"
#include "sememe/features/sparse_codes.h"

namespace sememe {

class Autoencoder : public Dictionary {
 public:
  int64_t size() const override { return weights_.latents(); }
  int64_t width() const override { return weights_.width(); }
  torch::Tensor decode(const SparseCodes& codes) const override;
  torch::Tensor atoms() const override { return weights_.decoder; }
  Columns written() const override { return written_; }
  void save(const std::filesystem::path& folder) const override;
  const AutoencoderWeights& weights() const { return weights_; }
  /// What save() writes besides architecture, sizes and settings.
  const Json& config() const { return config_; }

 protected:
  /// @param config what save() writes besides architecture, sizes and settings(), e.g. where the dictionary was learnt; its "written", if
  ///               there, is [begin, count] of written()
  /// @throws Error if they cannot be
  Autoencoder(AutoencoderWeights weights, Json config);

  /// `select` turns pre-activations [rows, latents] of rows [begin, begin + rows) into codes; it may change them.
  using Select = std::function<void(torch::Tensor& pre_activations, int64_t begin, SelectedCodes& codes)>;
  /// At most 64 MiB of pre-activations exist at a time.
  /// @throws Error if x is not [n, width], and what `select` throws
  SparseCodes encode_in_parts(const torch::Tensor& x, const Select& select) const;

  /// What a kind writes into config.json and dictionary.safetensors beside the shared.
  virtual Json settings() const { return Json::object(); }
  virtual NamedTensors own_tensors() const { return {}; }

  AutoencoderWeights weights_;

 private:
  Json config_;
  Columns written_;
};

}  // namespace sememe

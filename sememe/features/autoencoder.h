#pragma once
// What all dictionaries here share once learnt: linear pre-activations of which some are selected, a gather over the selected atoms to
// decode, and a folder. A kind adds how codes are selected, and the tensors and settings that this takes. Inputs are encoded, and codes
// decoded, on the device where they are: on the CPU by kernels, elsewhere by tensor operations.

#include <functional>

#include "sememe/features/autoencoder_weights.h"
#include "sememe/features/device_copies.h"
#include "sememe/features/dictionary.h"
#include "sememe/features/sparse_codes.h"

namespace sememe {

class Autoencoder : public Dictionary {
 public:
  int64_t size() const override { return weights_.latents(); }
  int64_t width() const override { return weights_.width(); }
  torch::Tensor decode(const SparseCodes& codes) const override;
  /// encode() as it is done for inputs that are not on the CPU: by tensor operations, on the device of x.
  /// @param gradients [n, width] on the same device, or undefined for plain selection
  /// @throws Error as encode()
  SparseCodes encode_by_tensors(const torch::Tensor& x, const torch::Tensor& gradients = {}) const;
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

  /// Selects by tensor operations.
  /// @param pre_activations [rows, latents] on any device, of rows [begin, begin + rows)
  /// @param gradients       [rows, width] or undefined
  virtual SparseCodes select_by_tensors(const torch::Tensor& pre_activations, const torch::Tensor& gradients, int64_t begin) const = 0;
  /// A tensor of the dictionary, copied to the device of `other` where it is not there.
  torch::Tensor beside(const torch::Tensor& other, const torch::Tensor& tensor) const { return copies_.get(tensor, other.device()); }

  /// What a kind writes into config.json and dictionary.safetensors beside the shared.
  virtual Json settings() const { return Json::object(); }
  virtual NamedTensors own_tensors() const { return {}; }

  AutoencoderWeights weights_;

 private:
  Json config_;
  Columns written_;
  DeviceCopies copies_;
};

}  // namespace sememe

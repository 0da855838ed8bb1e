#pragma once
// A dictionary: atoms (directions), a sparse code for each input, and the reconstruction that the code stands for.

#include <torch/torch.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace sememe {

/// n sparse rows, compressed: row i holds entries [offsets[i], offsets[i + 1]) of atoms and values, atoms ascending. On one device.
struct SparseCodes {
  torch::Tensor offsets;  ///< [n + 1] int64
  torch::Tensor atoms;    ///< [entries] int32
  torch::Tensor values;   ///< [entries] float32
  int64_t rows() const { return offsets.size(0) - 1; }
  SparseCodes to(torch::Device device) const { return {offsets.to(device), atoms.to(device), values.to(device)}; }
};

/// A range of a row's columns.
struct Columns {
  int64_t begin = 0, count = 0;
  bool operator==(const Columns&) const = default;
};

class Dictionary {
 public:
  virtual ~Dictionary() = default;
  /// The name in the registry, e.g. "topk".
  virtual std::string architecture() const = 0;
  virtual int64_t size() const = 0;   ///< number of latents
  virtual int64_t width() const = 0;  ///< size of an input row
  /// x [n, width] float32 on any device -> codes, there or on the CPU
  virtual SparseCodes encode(const torch::Tensor& x) const = 0;
  /// As encode, where selection may also look at `gradients` [n, width] of the loss at the site; the default ignores them.
  virtual SparseCodes encode(const torch::Tensor& x, const torch::Tensor& gradients) const { return encode(x); }
  /// codes -> reconstruction [n, width] float32, on the device of the codes
  virtual torch::Tensor decode(const SparseCodes& codes) const = 0;
  /// The columns that a reconstruction stands for: all, or of a transcoder those of the site that it predicts. decode() leaves 0 elsewhere.
  virtual Columns written() const { return {0, width()}; }
  /// Directions [size, width] in the input's space.
  virtual torch::Tensor atoms() const = 0;
  /// Writes config.json and dictionary.safetensors into an existing folder.
  virtual void save(const std::filesystem::path& folder) const = 0;
};

/// Reads a folder that save() wrote; the "architecture" in its config.json picks the kind. A folder of another tool is read as its format says
/// (sememe/features/interchange/format.h).
/// @throws Error naming file and key
std::shared_ptr<Dictionary> load_dictionary(const std::filesystem::path& folder);

}  // namespace sememe

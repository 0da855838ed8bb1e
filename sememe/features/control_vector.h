#pragma once
// Control vectors: one direction for each of some layers, added to the residual stream behind it. In GGUF files as llama.cpp and repeng write and
// apply them: a tensor "direction.i" of float32 [width] belongs to block i, i at least 1.

#include <torch/torch.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "sememe/features/intervention.h"

namespace sememe {

struct ControlVector {
  std::string model_hint;                      ///< the architecture it was made for, "llama"; not checked
  std::map<int64_t, torch::Tensor> directions;  ///< by block, [width]; all of one width

  /// @throws Error naming the file and the tensor that is no direction, not finite, or of another width than the others
  static ControlVector load(const std::filesystem::path& path);
  /// @throws Error if there is no direction, or one of block 0, which the format has no place for
  void save(const std::filesystem::path& path) const;
};

/// What an intervention adds, as a control vector.
/// @throws UsageError if it does anything but add, or is not behind a block of 1 or more ("blocks.i.output")
ControlVector control_vector_of(const Intervention& intervention, const Dictionary& dictionary);

}  // namespace sememe

#pragma once
// Guesses from an MLP's input which of its neurons will fire: for each layer logits = up (down x) + offset, of low rank (Liu et al. 2023, "Deja
// Vu", section 4; Song et al. 2023, "PowerInfer"). Unlike there it reads the input of the same layer's MLP: on a CPU there is nothing to hide
// behind a look ahead.

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

namespace sememe {

class NeuronPredictor {
 public:
  NeuronPredictor() = default;
  /// @param down   [rank, width of the stream]
  /// @param up     [neurons, rank]
  /// @param offset [neurons]
  /// @throws Error if the sizes do not fit or a value is not finite
  NeuronPredictor(int64_t width, int64_t rank, std::span<const float> down, std::span<const float> up, std::vector<float> offset);

  int64_t neurons() const { return static_cast<int64_t>(offset_.size()); }
  int64_t rank() const { return rank_; }
  /// @param input [width of the stream]
  /// @param hidden [rank rounded up to 16], room
  /// @param logits [neurons rounded up to 16]
  void predict(const float* input, float* hidden, float* logits) const;

  /// Writes those of all layers into one file. @throws Error if it cannot be written
  static void save(const std::filesystem::path& path, std::span<const NeuronPredictor> layers);
  /// @throws Error naming the file and what is wrong with it or does not fit the sizes
  static std::vector<NeuronPredictor> load(const std::filesystem::path& path, int64_t layers, int64_t width, int64_t neurons);

 private:
  int64_t width_ = 0, rank_ = 0;
  std::vector<float> down_, up_, offset_;  ///< matrices in panels of 16 rows, [width, 16] each
};

}  // namespace sememe

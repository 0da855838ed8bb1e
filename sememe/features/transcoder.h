#pragma once
// Transcoders (Dunefsky, Chlenski & Nanda 2024, arXiv 2406.11944): a sparse code of what enters a part of a network predicts what leaves it.
// A row holds the rows of both sites side by side, x and y; with f = relu((x - b_x) encoder^T + encoder_bias) the loss, a mean over rows, is
//   ||y - f decoder - b_y||^2 + sparsity sum_i f_i ||d_i||
// Encoder and decoder are kept at the width of whole rows, the encoder 0 in the columns of y, the decoder in those of x.

#include "sememe/features/relu.h"

namespace sememe {

class TranscoderLearner : public ReluLearner {
 public:
  /// @throws UsageError unless options.parts are two sites
  TranscoderLearner(const LearnerOptions& options, const ActivationStatistics& statistics);

  std::shared_ptr<Dictionary> dictionary(const Json& origin) const override;

 protected:
  Terms terms(const torch::Tensor& x, const torch::Tensor& gradients) override;
  std::string architecture() const override { return "transcoder"; }

 private:
  Columns read_, written_;
};

std::unique_ptr<DictionaryLearner> learn_transcoder(const LearnerOptions& options, const ActivationStatistics& statistics);

}  // namespace sememe

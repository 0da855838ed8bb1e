#pragma once
// A small random language model, a text and dictionaries of known behaviour, for the tests of this room.

#include <filesystem>
#include <string>

#include "sememe/base/files.h"
#include "sememe/features/top_k.h"
#include "sememe/language/language_model.h"
#include "tests/language/small_model.h"

namespace sememe {

inline LanguageModel small_language_model() {
  return {testing::small_transformer(testing::small_llama()), testing::small_tokenizer(), "small-model"};
}

/// Documents of several lengths, some of them longer than the model's context.
inline std::filesystem::path write_text(const std::filesystem::path& path, int documents = 12) {
  const char* const words[] = {"the", "cat", "sat", "on", "a", "mat", "and", "dog", "ran", "up"};
  std::string text;
  for (int i = 0; i < documents; ++i) {
    for (int j = 0; j < 3 + 7 * (i % 4); ++j) text += std::string(words[(i * 7 + j * j + j / 3) % 10]) + " ";
    text += "\n<|endoftext|>\n";
  }
  write_file(path, text);
  return path;
}

/// Reconstructs every row of `width` numbers exactly: an atom for each axis and each of its two directions.
inline AutoencoderWeights perfect_weights(int64_t width) {
  AutoencoderWeights weights = AutoencoderWeights::zeros(2 * width, width);
  weights.encoder.copy_(torch::cat({torch::eye(width), -torch::eye(width)}));
  weights.decoder.copy_(weights.encoder);
  return weights;
}

/// Makes every row zero.
inline AutoencoderWeights silent_weights(int64_t width) { return AutoencoderWeights::zeros(4, width); }

}  // namespace sememe

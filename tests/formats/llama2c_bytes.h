#pragma once
// Checkpoints and tokenizers of llama2.c, byte by byte.

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "sememe/formats/llama2c.h"

namespace sememe {

template <class Number>
void append_number(std::string& bytes, Number number) {
  bytes.append(reinterpret_cast<const char*>(&number), sizeof number);
}

inline std::string llama2c_header(const Llama2cSizes& sizes) {
  std::string bytes;
  for (const int64_t size : {sizes.width, sizes.hidden_width, sizes.layers, sizes.heads, sizes.key_value_heads,
                             sizes.tied_head ? sizes.vocabulary : -sizes.vocabulary, sizes.context})
    append_number(bytes, static_cast<int32_t>(size));
  return bytes;
}

/// How many float32 follow.
inline int64_t llama2c_floats(const Llama2cSizes& sizes) {
  const int64_t width = sizes.width, head = width / sizes.heads, keys = head * sizes.key_value_heads;
  const int64_t layer = 2 * width + 2 * width * width + 2 * keys * width + 3 * sizes.hidden_width * width;
  return sizes.vocabulary * width * (sizes.tied_head ? 1 : 2) + sizes.layers * layer + width + sizes.context * head;
}

/// Weight i is sin(i) / 2.
inline std::string llama2c_bytes(const Llama2cSizes& sizes) {
  std::string bytes = llama2c_header(sizes);
  for (int64_t i = 0; i < llama2c_floats(sizes); ++i) append_number(bytes, static_cast<float>(std::sin(static_cast<double>(i)) / 2));
  return bytes;
}

inline std::string llama2c_tokenizer_bytes(const std::vector<std::pair<std::string, float>>& tokens, uint32_t longest = 8) {
  std::string bytes;
  append_number(bytes, longest);
  for (const auto& [name, score] : tokens) {
    append_number(bytes, score);
    append_number(bytes, static_cast<uint32_t>(name.size()));
    bytes += name;
  }
  return bytes;
}

/// What opens and closes texts, all bytes, and a few words with spaces as they are.
inline std::vector<std::pair<std::string, float>> llama2c_tokens() {
  std::vector<std::pair<std::string, float>> tokens = {{"<unk>", 0}, {"\n<s>\n", 0}, {"\n</s>\n", 0}};
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    tokens.emplace_back(name, 0);
  }
  float score = 0;
  for (const char* const word : {" a", "ab", " ab", "ba", "a", "b", " "}) tokens.emplace_back(word, score--);
  return tokens;
}

}  // namespace sememe

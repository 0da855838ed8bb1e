#pragma once
// What a decoder-only transformer is made of: the one description that the files of every family are read into and that every execution
// is built from. The defaults are Llama's.

#include <cstdint>
#include <string>
#include <vector>

#include "sememe/families/rotary_scaling.h"

namespace sememe {

enum class Norm { kLayer, kRms };
enum class Positions { kLearned, kRotary };
/// One matrix under the tanh GELU (GPT-2), the exact GELU (GPT-NeoX) or the ReLU (OPT); or, gated by a second one, SwiGLU (Llama) or
/// GEGLU with the tanh GELU (Gemma), or ReGLU (ReluLLaMA): Shazeer 2020, eq. 6.
enum class FeedForward { kGelu, kGeluErf, kRelu, kGatedSilu, kGatedGelu, kGatedRelu };
/// The MLP reads the stream behind the attention; or, beside the attention, the stream before it (GPT-NeoX), there even through the
/// attention's norm (Phi).
enum class Residual { kSequential, kParallel, kParallelOneNorm };

struct TransformerConfig {
  int64_t vocabulary = 4096;
  int64_t context = 256;  ///< tokens
  int64_t width = 256;
  int64_t layers = 4;
  int64_t heads = 4;
  int64_t key_value_heads = 4;
  int64_t head_width = 64;
  int64_t feed_forward_width = 768;
  Norm norm = Norm::kRms;
  Positions positions = Positions::kRotary;
  FeedForward feed_forward = FeedForward::kGatedSilu;
  Residual residual = Residual::kSequential;
  bool bias = false;      ///< of each matrix of a block
  bool qkv_bias = false;  ///< of queries, keys and values where the other matrices have none (Qwen 2)
  bool tied_head = true;  ///< the head is the embedding
  bool head_bias = false;
  double norm_epsilon = 1e-5;
  bool post_norms = false;      ///< attention and MLP each pass a norm before they are added to the stream (Gemma 2)
  bool query_key_norm = false;  ///< each head's query and key pass an RMS norm before the rotation (Qwen 3)

  int64_t position_offset = 0;  ///< learned positions: rows of the table before that of the first token (OPT has 2)
  double rotary_base = 10000.0;
  int64_t rotary_width = 0;  ///< how many of each head's values are rotated, the first ones; 0: all
  RotaryScaling rotary_scaling;

  int64_t window = 0;              ///< a token of a local layer sees so many tokens, itself the last
  std::vector<bool> local_layers;  ///< [layers]; empty: none is local
  double local_rotary_base = 0;    ///< of local layers, whose positions then are not scaled; 0: as in the others

  double embedding_scale = 1.0;  ///< of tokens' embeddings where they enter the stream
  double attention_scale = 0;    ///< of products of queries and keys; 0: 1 / sqrt(head_width)
  double attention_softcap = 0;  ///< c: those products become c tanh(product / c) (Gemma 2); 0: they stay
  double final_softcap = 0;      ///< the same of the logits

  bool operator==(const TransformerConfig&) const = default;
};

/// @throws Error naming the member that cannot be: a size below 1 or too large, heads that do not share keys evenly, ...
void check_config(const TransformerConfig& config);

/// Whether a second matrix gates the MLP.
bool is_gated(const TransformerConfig& config);
bool is_local(const TransformerConfig& config, int64_t layer);
/// How many of each head's values are rotated.
int64_t rotated_width(const TransformerConfig& config);
/// What products of queries and keys are multiplied by.
double attention_scale(const TransformerConfig& config);

/// The angle in radians by which each pair of a head's values turns from one token to the next (Su et al. 2021, eq. 15).
/// @param local of a local layer
/// @return [rotated_width / 2]; pair i is values i and i + rotated_width / 2
std::vector<double> rotary_frequencies(const TransformerConfig& config, bool local);
/// What rotated queries and keys are multiplied by, each.
double rotary_magnitude(const TransformerConfig& config, bool local);

/// A parameter of the network: "embedding", "positions", then of each block "block0.attention_norm", "block0.query", "block0.query_bias",
/// ..., and "norm", "norm_bias", "head", "head_bias"; those that the config has.
struct ParameterShape {
  std::string name;
  std::vector<int64_t> shape;  ///< row-major; matrices are [to, from]

  bool operator==(const ParameterShape&) const = default;
};
std::vector<ParameterShape> parameter_shapes(const TransformerConfig& config);

}  // namespace sememe

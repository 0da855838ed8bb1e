#pragma once
// The k largest positive entries of each row, by value or by the gradient-weighted score of g-SAE: the selection step of
// TopK dictionaries (Gao et al. 2024, "Scaling and evaluating sparse autoencoders", eq. 4; Olmo et al. 2024, arXiv 2411.10397).

#include <cstdint>
#include <optional>
#include <string>

namespace sememe::kernels {

/// What ranks the latents of a row. With z = max(pre_activation, 0) and g = influence:
enum class SelectionScore {
  kValue,     ///< z
  kAdditive,  ///< z * (1 + beta * g)
  kProduct,   ///< z * g; plain z in rows whose g are all zero
};

struct TopKOptions {
  int64_t k = 1;  ///< at least 1; a row has at most min(k, width) codes
  SelectionScore score = SelectionScore::kValue;
  /// [rows, width], finite and >= 0: how strongly the loss depends on each latent's atom. Ignored by kValue.
  const float* influence = nullptr;
  float beta = 1.0f;  ///< finite and >= 0; used by kAdditive only
};

/// The selected codes, k places a row. Places past a row's count hold latent -1 and value 0.
struct TopKOutput {
  int32_t* latents;  ///< [rows, k], ascending within a row
  float* values;     ///< [rows, k], the pre-activations of those latents, all > 0
  int32_t* counts;   ///< [rows], at most k
  float* scores = nullptr;  ///< [rows, k], by which they were selected; filled by screened_top_k() where it is not null
};

/// The first entry, in reading order, that cannot be ranked.
struct UnrankableEntry {
  enum class Source { kPreActivation, kInfluence, kScore } source;
  int64_t row, latent;
  float value;
};

/// One line for an error message, e.g. "pre-activation at row 3, latent 17 is nan".
std::string describe(const UnrankableEntry& entry);

/// Keeps, in each row, the k entries of largest score among those whose score is > 0; ties go to the lower latent. The
/// values given out are the pre-activations whatever the score was. Rows with fewer positive scores have fewer codes.
/// The work per row does not depend on the order of its entries. Rows run in parallel.
/// @param pre_activations [rows, width]; -inf is allowed (never selected)
/// @return nothing, or the first NaN or +inf among pre-activations, NaN, infinite or negative influence, or score beyond
///         float's range; the output is then unspecified
/// @throws Error if k, beta, width or a missing influence make no sense
std::optional<UnrankableEntry> top_k(const float* pre_activations, int64_t rows, int64_t width, const TopKOptions& options,
                                     const TopKOutput& output);

/// The same by sorting, on one thread: what top_k() means.
std::optional<UnrankableEntry> top_k_reference(const float* pre_activations, int64_t rows, int64_t width,
                                               const TopKOptions& options, const TopKOutput& output);

}  // namespace sememe::kernels

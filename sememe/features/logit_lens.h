#pragma once
// The logit lens: what a direction at a site says to the model's output matrix directly, past all later layers.

#include <torch/torch.h>

#include "sememe/language/language_model.h"
#include "sememe/network/network.h"

namespace sememe {

/// The logits that a unit of each direction adds, read through the last norm and scaled to norm 1 behind it.
/// @param directions [n, width], rows of norm 1
/// @return [n, tokens of the tokenizer] on the CPU, or undefined at a site that the head does not read: hidden activations live in a
///         basis of their own
torch::Tensor logit_lens(const LanguageModel& model, const Site& site, const torch::Tensor& directions);

}  // namespace sememe

#pragma once
// The kernel of an MLP's activation function.

#include "sememe/families/transformer_config.h"
#include "sememe/kernels/layer_rows.h"

namespace sememe {

/// Of the gate, where a matrix gates the MLP.
inline kernels::Unit unit_of(FeedForward kind) {
  switch (kind) {
    case FeedForward::kGelu:
    case FeedForward::kGatedGelu: return kernels::Unit::kGeluTanh;
    case FeedForward::kGeluErf: return kernels::Unit::kGelu;
    case FeedForward::kRelu:
    case FeedForward::kGatedRelu: return kernels::Unit::kRelu;
    case FeedForward::kGatedSilu: return kernels::Unit::kSilu;
  }
  return kernels::Unit::kSilu;
}

}  // namespace sememe

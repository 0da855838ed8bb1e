#pragma once
// Tensors of which each rank holds some rows.

#include <torch/torch.h>

#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "sememe/network/tensors.h"
#include "sememe/ranks/ranks.h"

namespace sememe {

/// The numbers of a contiguous float32 tensor, for exchanges in place.
std::span<float> numbers_of(torch::Tensor& tensor);

/// The rows of all ranks, in their order, on the first; elsewhere a copy of the rank's own.
torch::Tensor gather_rows(const torch::Tensor& own, const Ranks& ranks);

/// Saves from the first rank, which holds one rank's rows of one tensor besides its own at a time. Collective.
/// @param is_sharded which tensors are rows of one that the ranks share; the others are the first rank's
void save_sharded(const std::filesystem::path& path, const NamedTensors& tensors, const std::function<bool(std::string_view name)>& is_sharded,
                  const Ranks& ranks, const std::map<std::string, std::string>& metadata);

}  // namespace sememe

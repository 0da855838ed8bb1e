#pragma once
// The options of sparse decoding.

#include <memory>
#include <string>

#include "apps/command.h"
#include "sememe/inference/sparse_decoder.h"
#include "sememe/language/quantized_network.h"

namespace sememe {

struct SparsityCommand {
  SparsityOptions options;
  std::filesystem::path profile;
  std::string layers, rank_by = "product";

  /// @param one_policy with --policy and --keep
  void add_to(CLI::App& command, bool one_policy);
  /// @throws UsageError naming the option that cannot be
  SparsityOptions options_for(uint64_t seed) const;
  /// Null if none was given.
  std::shared_ptr<const NeuronProfile> load_profile(const QuantizedTransformer& engine) const;
  /// Makes the model decode sparsely, if a policy does. @return what then says how it went, or null
  const SparseDecoder* use(const LanguageModel& model, uint64_t seed) const;
};

/// "profile" and "sparsity" into the group of models.
void add_sparsity_commands(CLI::App& group);

}  // namespace sememe

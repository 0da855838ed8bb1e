#pragma once
// What a family's file gives to the table in family.cpp. For the files of this room only.

#include <string>
#include <string_view>
#include <vector>

#include "sememe/families/family.h"

namespace sememe {

/// Rows of a table of names: TensorPlaces in which tensors lack ".weight" and "{}" stands for a block's number.
using TensorNames = std::vector<TensorPlace>;

struct Family {
  std::string name;  ///< "model_type" in config.json
  TransformerConfig (*from_json)(const Json& config_json, std::string_view where) = nullptr;
  TensorNames (*folder_names)(const TransformerConfig& config) = nullptr;
  std::string prefix = {};                ///< of the folder's names, which files of a network without its head lack
  std::vector<std::string> ignored = {};  ///< endings of names of tensors that say nothing the config does not
  Json (*to_json)(const TransformerConfig& config) = nullptr;  ///< null: its folders are not written

  std::string architecture = {};  ///< "general.architecture" in GGUF files; empty: they are not read
  TransformerConfig (*from_gguf)(const GgufFile& file) = nullptr;
  TensorNames (*gguf_names)(const TransformerConfig& config) = nullptr;
};

/// Llama's names in folders, which many families share.
TensorNames llama_folder_names(const TransformerConfig& config);

/// The names that llama.cpp gives to what nearly all architectures have.
TensorNames common_gguf_names(const TransformerConfig& config);

/// Of a checkpoint of llama2.c, which is none of Hugging Face's nor GGUF.
TransformerConfig llama2c_config(const Llama2cFile& file);
TensorNames llama2c_names(const TransformerConfig& config);

/// Llama's config.json, for families whose own differs by a few keys.
Json llama_to_json(const TransformerConfig& config);

/// The row of `names` for the parameter, to say more about it.
TensorPlace& row_of(TensorNames& names, std::string_view parameter);

/// Puts the parameters' rows one behind the other into one tensor.
void fuse(TensorNames& names, const std::vector<std::string>& parameters, const std::string& tensor);
inline const std::vector<std::string> kQueriesKeysValues = {"block{}.query", "block{}.key", "block{}.value"};

}  // namespace sememe

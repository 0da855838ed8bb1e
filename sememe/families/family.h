#pragma once
// Published families of language models: how the files of each say what the network is, and which of their tensors is which of its
// parameters. A family is one file of this room and one line of the table in family.cpp.

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "sememe/base/json.h"
#include "sememe/families/transformer_config.h"
#include "sememe/families/weight_files.h"
#include "sememe/formats/gguf.h"
#include "sememe/formats/llama2c.h"

namespace sememe {

/// A tensor of a file and the parameters that are in it, each a set of its rows.
struct TensorPlace {
  enum class Rows {
    kStacked,  ///< those of the first parameter, then those of the next
    kByHead,   ///< those of the first head of each parameter, then those of the next head (GPT-NeoX's fused queries, keys and values)
    kPairs     ///< of one parameter, the two rows of each head that rotary positions turn stand side by side (GGUF's and llama2.c's Llama)
  };
  std::string tensor;
  std::vector<std::string> parameters;
  Rows rows = Rows::kStacked;
  int64_t heads = 1;        ///< of kByHead and kPairs
  bool transposed = false;  ///< the file has [from, to], and what is said of rows is said of its columns (GPT-2)
  float added = 0.0f;       ///< to each value, to give the parameter's: 1 where a norm's weight is stored less 1 (Gemma's folders)
};

/// What a file's metadata say: the network, and where its parameters are.
struct ModelDescription {
  TransformerConfig config;
  std::vector<TensorPlace> places;  ///< every parameter is in one of them
};

/// Reads the config.json of Hugging Face's folder. Each tensor of the files is used or known to say nothing more.
/// @throws Error naming the file and the key or tensor that is missing, malformed, left over or asks for something this network does not
///         do, before anything of the config's size is allocated; the shapes of tensors are not checked
ModelDescription describe_folder(const WeightFiles& files);

/// Reads the metadata of a GGUF file. Each tensor is used, and of its shape.
/// @throws Error as describe_folder
ModelDescription describe_gguf(const GgufFile& file);

/// Reads the sizes of a llama2.c checkpoint.
/// @throws Error as describe_folder
ModelDescription describe_llama2c(const Llama2cFile& file);

/// A config.json by itself. @param where names it in an error
TransformerConfig config_from_json(const Json& config_json, std::string_view where);

/// The folder that a network is saved as.
struct WrittenFolder {
  Json config_json;
  std::vector<TensorPlace> places;
};
/// @throws Error if no family whose folders are written has such a network
WrittenFolder describe_written(const TransformerConfig& config);

/// The shapes of a network's parameters by name, and what follows for the tensors that they are in.
class ParameterShapes {
 public:
  explicit ParameterShapes(const TransformerConfig& config);
  const std::vector<int64_t>& of(const std::string& parameter) const { return shapes_.at(parameter); }
  /// The shape that the place's tensor must have.
  std::vector<int64_t> tensor_shape(const TensorPlace& place) const;
  /// Where the rows of parameters[index] are in the place's tensor, in the order of the parameter; columns where it is transposed.
  std::vector<int64_t> rows_in_tensor(const TensorPlace& place, size_t index) const;

 private:
  std::map<std::string, std::vector<int64_t>, std::less<>> shapes_;
};

}  // namespace sememe

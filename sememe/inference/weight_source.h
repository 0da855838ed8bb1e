#pragma once
// Where the engine's weights come from: a GGUF file, or the folder of a model whose weights are floats.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "sememe/families/family.h"
#include "sememe/formats/gguf.h"

namespace sememe {

class WeightSource {
 public:
  /// Maps the files. @throws Error as describe_gguf() or describe_folder(), or naming a tensor of a folder whose elements are no floats
  explicit WeightSource(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const TransformerConfig& config() const { return description_.config; }
  /// Null for a folder.
  const GgufFile* gguf() const { return gguf_ ? &*gguf_ : nullptr; }

  bool has(const std::string& parameter) const { return found_.contains(parameter); }
  /// The tensor that a parameter is in.
  const GgufTensor& tensor(const std::string& parameter) const;
  /// A matrix with its own rows in their own order.
  /// @param room what its values are put into where the tensor does not hold them so
  GgufTensor matrix(const std::string& parameter, std::vector<std::byte>& room) const;
  /// A vector in float32, or nothing where the network has none. @throws Error if a value is not finite
  std::vector<float> vector(const std::string& parameter) const;

 private:
  std::filesystem::path path_;
  std::optional<GgufFile> gguf_;
  std::optional<WeightFiles> folder_;
  std::map<std::string, GgufTensor> folder_tensors_;
  ModelDescription description_;
  std::optional<ParameterShapes> shapes_;
  std::map<std::string, std::pair<const TensorPlace*, size_t>> found_;
};

}  // namespace sememe

#pragma once
// The weights of Hugging Face's folder: model.safetensors, or the shards that model.safetensors.index.json names.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "sememe/formats/safetensors.h"

namespace sememe {

class WeightFiles {
 public:
  /// @throws Error naming the file that is missing or malformed
  explicit WeightFiles(const std::filesystem::path& folder);

  const std::filesystem::path& folder() const { return folder_; }
  /// The file that holds the tensor; for a missing one the first, which then gives an error that lists what it holds.
  const SafetensorsFile& holding(const std::string& name) const;
  bool contains(const std::string& name) const { return places_.contains(name); }
  /// Of all tensors, each with its file.
  const std::map<std::string, size_t>& names() const { return places_; }
  int64_t num_weights() const { return num_weights_; }

 private:
  void open(const std::filesystem::path& path);

  std::filesystem::path folder_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, size_t> places_;
  int64_t num_weights_ = 0;
};

}  // namespace sememe

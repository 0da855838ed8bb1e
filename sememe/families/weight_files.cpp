#include "sememe/families/weight_files.h"

#include <utility>

#include "sememe/base/error.h"
#include "sememe/base/json.h"

namespace sememe {

WeightFiles::WeightFiles(const std::filesystem::path& folder) : folder_(folder) {
  const std::filesystem::path index = folder / "model.safetensors.index.json", whole = folder / "model.safetensors";
  if (std::filesystem::exists(whole) || !std::filesystem::exists(index)) {
    open(whole);
    return;
  }
  const Json map = json_member<Json>(read_json(index), "weight_map", index.string());
  if (!map.is_object()) fail("{}: the key \"weight_map\" must be an object", index.string());
  std::map<std::string, bool> opened;
  for (const auto& [tensor, file] : map.items()) {
    const std::string name = file.is_string() ? file.get<std::string>() : "";
    if (name.empty() || std::filesystem::path(name).filename() != name)
      fail("{}: the file of \"{}\" must be a plain file name", index.string(), tensor);
    if (!std::exchange(opened[name], true)) open(folder / name);
  }
  if (files_.empty()) fail("{}: the key \"weight_map\" names no file", index.string());
}

const SafetensorsFile& WeightFiles::holding(const std::string& name) const {
  const auto found = places_.find(name);
  return files_[found == places_.end() ? 0 : found->second];
}

void WeightFiles::open(const std::filesystem::path& path) {
  files_.emplace_back(path);
  for (const TensorView& view : files_.back().tensors()) {
    places_.emplace(view.name, files_.size() - 1);
    int64_t count = 1;
    for (const int64_t size : view.shape) count *= size;
    num_weights_ += count;
  }
}

}  // namespace sememe

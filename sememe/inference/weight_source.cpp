#include "sememe/inference/weight_source.h"

#include <cmath>
#include <cstring>

#include "sememe/base/error.h"

namespace sememe {
namespace {

GgmlType float_type(const TensorView& view, const std::filesystem::path& path) {
  if (view.dtype == DType::kF32) return GgmlType::kF32;
  if (view.dtype == DType::kF16) return GgmlType::kF16;
  if (view.dtype == DType::kBF16) return GgmlType::kBF16;
  fail("{}: tensor \"{}\" has elements of type {}; the engine takes F32, F16 and BF16", path.string(), view.name, dtype_name(view.dtype));
}

}  // namespace

WeightSource::WeightSource(const std::filesystem::path& path) : path_(path) {
  if (std::filesystem::is_directory(path)) {
    folder_.emplace(path);
    description_ = describe_folder(*folder_);
    shapes_.emplace(description_.config);
    for (const TensorPlace& place : description_.places) {
      const TensorView& view = folder_->holding(place.tensor).tensor(place.tensor);
      if (view.shape != shapes_->tensor_shape(place))
        fail("{}: tensor \"{}\" is [{}] but the config says [{}]", path.string(), place.tensor, fmt::join(view.shape, ", "),
             fmt::join(shapes_->tensor_shape(place), ", "));
      folder_tensors_[place.tensor] = {view.name, float_type(view, path), view.shape, view.data};
    }
  } else {
    gguf_.emplace(path);
    description_ = describe_gguf(*gguf_);
    shapes_.emplace(description_.config);
  }
  for (const TensorPlace& place : description_.places)
    for (size_t i = 0; i < place.parameters.size(); ++i) found_[place.parameters[i]] = {&place, i};
}

const GgufTensor& WeightSource::tensor(const std::string& parameter) const {
  const std::string& name = found_.at(parameter).first->tensor;
  return gguf_ ? gguf_->tensor(name) : folder_tensors_.at(name);
}

GgufTensor WeightSource::matrix(const std::string& parameter, std::vector<std::byte>& room) const {
  const auto& [place, index] = found_.at(parameter);
  const GgufTensor& whole = tensor(parameter);
  if (place->added != 0.0f) fail("{}: tensor \"{}\" is no matrix as it stands", path_.string(), place->tensor);
  const std::vector<int64_t> rows = shapes_->rows_in_tensor(*place, index);
  GgufTensor found{whole.name, whole.type, shapes_->of(parameter), whole.data};
  if (place->transposed) {
    const int64_t columns = whole.shape.at(0), stride = whole.shape.at(1), bytes = block_layout(whole.type).bytes;
    room.resize(rows.size() * columns * bytes);
    for (size_t row = 0; row < rows.size(); ++row)
      for (int64_t column = 0; column < columns; ++column)
        std::memcpy(room.data() + (row * columns + column) * bytes, whole.data.data() + (column * stride + rows[row]) * bytes, bytes);
    found.data = room;
  } else if (place->parameters.size() > 1 || place->rows != TensorPlace::Rows::kStacked) {
    const BlockLayout& layout = block_layout(whole.type);
    const int64_t row_bytes = whole.shape.at(1) / layout.weights * layout.bytes;
    room.resize(rows.size() * row_bytes);
    for (size_t row = 0; row < rows.size(); ++row)
      std::memcpy(room.data() + row * row_bytes, whole.data.data() + rows[row] * row_bytes, row_bytes);
    found.data = room;
  }
  return found;
}

std::vector<float> WeightSource::vector(const std::string& parameter) const {
  if (!has(parameter)) return {};
  const auto& [place, index] = found_.at(parameter);
  const std::vector<float> whole = dequantize(tensor(parameter));
  for (const float value : whole)
    if (!std::isfinite(value)) fail("{}: tensor \"{}\" holds a NaN or infinite value", path_.string(), place->tensor);
  std::vector<float> values;
  for (const int64_t row : shapes_->rows_in_tensor(*place, index)) values.push_back(whole[row] + place->added);
  return values;
}

}  // namespace sememe

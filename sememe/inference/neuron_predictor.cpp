#include "sememe/inference/neuron_predictor.h"

#include <cmath>
#include <cstring>
#include <utility>

#include "sememe/base/error.h"
#include "sememe/formats/safetensors.h"
#include "sememe/kernels/panels.h"

namespace sememe {
namespace {

using kernels::kPanelRows;

int64_t panels_of(int64_t rows) { return (rows + kPanelRows - 1) / kPanelRows; }

std::vector<float> panels(std::span<const float> matrix, int64_t rows, int64_t width) {
  std::vector<float> found(panels_of(rows) * kPanelRows * width);
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t column = 0; column < width; ++column)
      found[(row / kPanelRows * width + column) * kPanelRows + row % kPanelRows] = matrix[row * width + column];
  return found;
}

std::vector<float> rows_of(const std::vector<float>& panels, int64_t rows, int64_t width) {
  std::vector<float> matrix(rows * width);
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t column = 0; column < width; ++column)
      matrix[row * width + column] = panels[(row / kPanelRows * width + column) * kPanelRows + row % kPanelRows];
  return matrix;
}

void check(std::span<const float> values, int64_t size, const char* what) {
  if (static_cast<int64_t>(values.size()) != size) fail("a predictor of neurons has {} values {}, not {}", values.size(), what, size);
  for (const float value : values)
    if (!std::isfinite(value)) fail("a predictor of neurons has a NaN or infinite value {}", what);
}

}  // namespace

NeuronPredictor::NeuronPredictor(int64_t width, int64_t rank, std::span<const float> down, std::span<const float> up, std::vector<float> offset)
    : width_(width), rank_(rank), offset_(std::move(offset)) {
  check(down, rank * width, "in \"down\""), check(up, neurons() * rank, "in \"up\""), check(offset_, neurons(), "in \"offset\"");
  down_ = panels(down, rank, width), up_ = panels(up, neurons(), rank);
}

void NeuronPredictor::predict(const float* input, float* hidden, float* logits) const {
  kernels::float_panel_products(kernels::PanelFloats::kFloat32, down_.data(), panels_of(rank_), width_, input, 0, 1, hidden, 0);
  kernels::float_panel_products(kernels::PanelFloats::kFloat32, up_.data(), panels_of(neurons()), rank_, hidden, 0, 1, logits, 0);
  for (int64_t i = 0; i < neurons(); ++i) logits[i] += offset_[i];
}

void NeuronPredictor::save(const std::filesystem::path& path, std::span<const NeuronPredictor> layers) {
  std::vector<std::vector<float>> values;
  std::vector<TensorView> views;
  const auto add = [&](size_t layer, const char* name, std::vector<int64_t> shape, std::vector<float> of) {
    values.push_back(std::move(of));
    views.push_back({fmt::format("{}.{}", layer, name), DType::kF32, std::move(shape), {}});
  };
  for (size_t i = 0; i < layers.size(); ++i) {
    const NeuronPredictor& one = layers[i];
    add(i, "down", {one.rank_, one.width_}, rows_of(one.down_, one.rank_, one.width_));
    add(i, "up", {one.neurons(), one.rank_}, rows_of(one.up_, one.neurons(), one.rank_));
    add(i, "offset", {one.neurons()}, one.offset_);
  }
  for (size_t i = 0; i < views.size(); ++i) views[i].data = std::as_bytes(std::span<const float>(values[i]));
  write_safetensors(path, views);
}

std::vector<NeuronPredictor> NeuronPredictor::load(const std::filesystem::path& path, int64_t layers, int64_t width, int64_t neurons) {
  const SafetensorsFile file(path);
  const auto values = [&](const std::string& name, std::vector<int64_t> shape) {
    const TensorView& view = file.tensor(name);
    if (shape[0] < 0) shape[0] = view.shape.empty() ? 0 : view.shape[0];
    if (view.dtype != DType::kF32 || view.shape != shape)
      fail("{}: tensor \"{}\" is {} [{}], not F32 [{}]", path.string(), name, dtype_name(view.dtype), fmt::join(view.shape, ", "), fmt::join(shape, ", "));
    std::vector<float> found(view.data.size() / sizeof(float));
    std::memcpy(found.data(), view.data.data(), view.data.size());
    return found;
  };
  std::vector<NeuronPredictor> found;
  for (int64_t i = 0; i < layers; ++i) {
    const std::vector<float> down = values(fmt::format("{}.down", i), {-1, width});
    const auto rank = static_cast<int64_t>(down.size()) / width;
    const std::vector<float> up = values(fmt::format("{}.up", i), {neurons, rank});
    try {
      found.emplace_back(width, rank, down, up, values(fmt::format("{}.offset", i), {neurons}));
    } catch (const Error& error) {
      fail("{}: layer {}: {}", path.string(), i, error.what());
    }
  }
  return found;
}

}  // namespace sememe

#include "sememe/inference/panel_matrix.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "sememe/base/error.h"
#include "sememe/base/memory.h"
#include "sememe/base/threads.h"

namespace sememe {
namespace {

using kernels::kPanelRows;
using kernels::PanelFloats;
using kernels::PanelLayout;

std::optional<PanelLayout> layout_of(GgmlType type) {
  const std::optional<BlockCodes> codes = block_codes(type);
  if (!codes) return std::nullopt;
  return PanelLayout{std::max(codes->bits, 4), codes->group, codes->zero, codes->offsets, codes->group_scales};
}

std::optional<PanelFloats> floats_of(GgmlType type) {
  // A scale of Q8_K is a float32, which panels of codes have no room for.
  if (type == GgmlType::kF32 || type == GgmlType::kQ8_K) return PanelFloats::kFloat32;
  if (type == GgmlType::kF16) return PanelFloats::kFloat16;
  if (type == GgmlType::kBF16) return PanelFloats::kBfloat16;
  return std::nullopt;
}

int64_t float_bytes(PanelFloats type) { return type == PanelFloats::kFloat32 ? 4 : 2; }

bool is_finite_half(uint16_t half) { return (half & 0x7c00) != 0x7c00; }

/// One panel of codes. @return whether all scales are finite
bool repack_codes(const GgufTensor& tensor, const PanelLayout& layout, const int64_t (&sources)[kPanelRows], int64_t width, uint8_t* to) {
  const BlockLayout& blocks = block_layout(tensor.type);
  const int64_t row_bytes = width / blocks.weights * blocks.bytes;
  const bool all = std::none_of(sources, sources + kPanelRows, [](int64_t row) { return row < 0; });
  auto unit = std::make_unique<kernels::PanelUnit>();
  bool finite = true;
  for (int64_t block = 0; block < width / blocks.weights; ++block, to += layout.unit_bytes()) {
    if (!all) *unit = {};
    for (int64_t row = 0; row < kPanelRows; ++row) {
      if (sources[row] < 0) continue;
      UnpackedBlock unpacked;
      unpack_block(tensor.type, tensor.data.data() + sources[row] * row_bytes + block * blocks.bytes, unpacked);
      finite = finite && is_finite_half(unpacked.scale) && is_finite_half(unpacked.offset);
      unit->scale[row] = unpacked.scale, unit->offset[row] = unpacked.offset;
      for (int64_t group = 0; layout.group_scales && group < 256 / layout.group; ++group) {
        unit->group_scales[group][row] = unpacked.group_scales[group];
        if (layout.offsets) unit->group_offsets[group][row] = unpacked.group_offsets[group];
      }
      std::memcpy(unit->codes[row], unpacked.codes, blocks.weights);
    }
    kernels::pack_unit(layout, *unit, to);
  }
  return finite;
}

/// One panel of floats. @return whether all are finite
bool repack_floats(const GgufTensor& tensor, const int64_t (&sources)[kPanelRows], int64_t width, uint8_t* to) {
  const BlockLayout& blocks = block_layout(tensor.type);
  const int64_t bytes = float_bytes(*floats_of(tensor.type)), row_bytes = width / blocks.weights * blocks.bytes;
  std::vector<float> dequantized(blocks.weights > 1 ? width : 0);
  bool finite = true;
  for (int64_t row = 0; row < kPanelRows; ++row) {
    const std::byte* from = tensor.data.data() + std::max<int64_t>(sources[row], 0) * row_bytes;
    if (sources[row] >= 0 && !dequantized.empty()) {
      dequantize(tensor.type, {from, static_cast<size_t>(row_bytes)}, dequantized);
      from = reinterpret_cast<const std::byte*>(dequantized.data());
    }
    for (int64_t column = 0; column < width; ++column) {
      uint8_t* const place = to + (column * kPanelRows + row) * bytes;
      if (sources[row] < 0) {
        std::memset(place, 0, bytes);
        continue;
      }
      std::memcpy(place, from + column * bytes, bytes);
      const unsigned high = place[bytes - 1] & 0x7f, next = place[bytes - 2];
      finite = finite && (tensor.type == GgmlType::kF16 ? (high & 0x7c) != 0x7c : (high << 1 | next >> 7) != 0xff);
    }
  }
  return finite;
}

}  // namespace

PanelMemory::PanelMemory(int64_t bytes) : bytes_(bytes) {
  constexpr int64_t kLargePage = int64_t{1} << 21;
  require_memory(bytes, "the model");
  bytes_ = (bytes + kLargePage - 1) / kLargePage * kLargePage;
  void* const found = std::aligned_alloc(kLargePage, std::max(bytes_, kLargePage));
  if (found == nullptr) fail("the model needs {:.1f} GB of memory, more than there is", static_cast<double>(bytes) / 1e9);
  madvise(found, bytes_, MADV_HUGEPAGE);
  begin_ = static_cast<uint8_t*>(found);
}

PanelMemory::~PanelMemory() { std::free(begin_); }

uint8_t* PanelMemory::take(int64_t bytes) {
  if (taken_ + rounded(bytes) > bytes_) fail("the memory for weights was reckoned too small by {} bytes", taken_ + rounded(bytes) - bytes_);
  taken_ += rounded(bytes);
  return begin_ + taken_ - rounded(bytes);
}

int64_t PanelMatrix::bytes(const GgufTensor& tensor) {
  if (tensor.shape.size() != 2 || tensor.shape[0] < 1) fail("tensor \"{}\" is [{}]; a matrix is wanted", tensor.name, fmt::join(tensor.shape, ", "));
  const int64_t panels = (tensor.shape[0] + kPanelRows - 1) / kPanelRows, width = tensor.shape[1];
  if (const auto layout = layout_of(tensor.type); layout && kernels::has_kernel(*layout)) return panels * layout->panel_bytes(width);
  if (const auto floats = floats_of(tensor.type)) return panels * kPanelRows * width * float_bytes(*floats);
  fail("tensor \"{}\" is of type {}, which has no product", tensor.name, block_layout(tensor.type).name);
}

PanelMatrix::PanelMatrix(const GgufTensor& tensor, PanelMemory& memory)
    : rows_(tensor.shape.at(0)), width_(tensor.shape.at(1)), panels_((rows_ + kPanelRows - 1) / kPanelRows), layout_(layout_of(tensor.type)) {
  const int64_t whole = bytes(tensor);
  panel_bytes_ = whole / panels_;
  if (!layout_) floats_ = *floats_of(tensor.type);
  data_ = memory.take(whole);
  std::atomic<bool> finite = true;
  parallel_for(panels_, 1, [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel) {
      int64_t sources[kPanelRows];
      for (int64_t row = 0; row < kPanelRows; ++row) {
        const int64_t i = panel * kPanelRows + row;
        sources[row] = i >= rows_ ? -1 : i;
      }
      uint8_t* const to = data_ + panel * panel_bytes_;
      if (!(layout_ ? repack_codes(tensor, *layout_, sources, width_, to) : repack_floats(tensor, sources, width_, to))) finite = false;
    }
  });
  if (!finite) fail("tensor \"{}\" holds a NaN or infinite value", tensor.name);
}

int64_t PanelMatrix::bytes(const PanelMatrix& whole, int64_t rows) { return (rows + kPanelRows - 1) / kPanelRows * whole.panel_bytes_; }

PanelMatrix::PanelMatrix(const PanelMatrix& whole, int64_t rows, PanelMemory& memory) : PanelMatrix(whole) {
  rows_ = rows, panels_ = (rows + kPanelRows - 1) / kPanelRows;
  data_ = memory.take(bytes(whole, rows));
}

void PanelMatrix::gather_rows(const PanelMatrix& whole, std::span<const int32_t> rows, int64_t first, int64_t last) {
  uint8_t* const to = data_ + first * panel_bytes_;
  if (layout_)
    kernels::gather_panel_rows(*layout_, whole.data_, width_, rows, first, last, to);
  else
    kernels::gather_float_panel_rows(float_bytes(floats_), whole.data_, width_, rows, first, last, to);
}

void PanelMatrix::multiply(const Activations& x, int64_t first, int64_t last, int64_t tokens, float* out, int64_t stride) const {
  const uint8_t* const panels = data_ + first * panel_bytes_;
  if (layout_)
    kernels::panel_products(*layout_, panels, last - first, *x.quantized, 0, tokens, out, stride);
  else
    kernels::float_panel_products(floats_, panels, last - first, width_, x.values, 0, tokens, out, stride);
}

int64_t ColumnMatrix::bytes(const PanelMatrix& whole, std::span<const int32_t> columns) {
  if (!whole.layout_) return whole.panels_ * static_cast<int64_t>(columns.size()) * kPanelRows * float_bytes(whole.floats_);
  return whole.panels_ * kernels::ChosenColumns(*whole.layout_, whole.width_, columns).panel_bytes();
}

ColumnMatrix::ColumnMatrix(const PanelMatrix& whole, std::span<const int32_t> columns, PanelMemory& memory)
    : rows_(whole.rows_), panels_(whole.panels_), quantized_(whole.quantized()), floats_(whole.floats_) {
  if (quantized_)
    columns_ = kernels::ChosenColumns(*whole.layout_, whole.width_, columns);
  else
    float_columns_.assign(columns.begin(), columns.end());
  const int64_t all = bytes(whole, columns);
  panel_bytes_ = all / panels_;
  data_ = memory.take(all);
}

void ColumnMatrix::gather(const PanelMatrix& whole, int64_t first, int64_t last) {
  if (quantized_) return kernels::gather_panel_columns(columns_, whole.data_, first, last, data_ + first * panel_bytes_);
  const int64_t step = kPanelRows * float_bytes(floats_);
  for (int64_t panel = first; panel < last; ++panel)
    for (size_t i = 0; i < float_columns_.size(); ++i)
      std::memcpy(data_ + panel * panel_bytes_ + static_cast<int64_t>(i) * step, whole.data_ + panel * whole.panel_bytes_ + float_columns_[i] * step, step);
}

void ColumnMatrix::multiply(const float* values, const kernels::ChosenActivations& taken, int64_t first, int64_t last, float* out) const {
  const uint8_t* const panels = data_ + first * panel_bytes_;
  if (quantized_)
    kernels::chosen_column_products(columns_, panels, last - first, taken, out);
  else
    kernels::float_panel_products(floats_, panels, last - first, static_cast<int64_t>(float_columns_.size()), values, 0, 1, out, 0);
}

}  // namespace sememe

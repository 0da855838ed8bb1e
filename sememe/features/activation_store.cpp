#include "sememe/features/activation_store.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <optional>
#include <utility>

#include "sememe/base/error.h"
#include "sememe/base/files.h"
#include "sememe/base/random.h"
#include "sememe/base/threads.h"
#include "sememe/formats/npy.h"
#include "sememe/formats/safetensors.h"
#include "sememe/kernels/float_rows.h"
#include "sememe/network/tensors.h"

namespace sememe {
namespace {

// Rows that stay neighbours until they reach the window: long enough to read at disk speed, short against any window.
constexpr int64_t kBlockRows = 256;
constexpr int64_t kWindowBytes = int64_t{256} << 20;
constexpr int64_t kNumbersWorthAThread = 1 << 16;
constexpr int64_t kRowsAhead = 4;

/// A run of rows in one mapped file.
struct Shard {
  std::shared_ptr<const void> owner;
  std::string name;
  int64_t begin = 0, rows = 0;
  const std::byte* activations = nullptr;
  const std::byte* gradients = nullptr;
  DType dtype = DType::kF32;
};

void check_matrix(const std::string& where, const std::vector<int64_t>& shape, DType dtype) {
  if (shape.size() != 2)
    fail("{}: holds an array of {} dimension(s); activations are two-dimensional, [rows, width]", where, shape.size());
  if (shape[0] == 0 || shape[1] == 0) fail("{}: holds no rows ([{}, {}]); give at least one", where, shape[0], shape[1]);
  if (dtype != DType::kF16 && dtype != DType::kF32)
    fail("{}: is of type {}; activations are float32 or float16, convert them first", where, dtype_name(dtype));
}

Shard npy_shard(const std::filesystem::path& path, int64_t& width) {
  const auto file = std::make_shared<const NpyFile>(path);
  check_matrix(path.string(), file->shape(), file->dtype());
  width = file->shape()[1];
  return {file, path.string(), 0, file->shape()[0], file->data().data(), nullptr, file->dtype()};
}

Shard safetensors_shard(const std::filesystem::path& path, int64_t& width) {
  const auto file = std::make_shared<const SafetensorsFile>(path);
  const TensorView& activations = file->tensor("activations");
  check_matrix(path.string() + ": \"activations\"", activations.shape, activations.dtype);
  width = activations.shape[1];
  Shard shard{file, path.string(), 0, activations.shape[0], activations.data.data(), nullptr, activations.dtype};
  if (file->contains("gradients")) {
    const TensorView& gradients = file->tensor("gradients");
    if (gradients.shape != activations.shape || gradients.dtype != activations.dtype)
      fail("{}: \"gradients\" differ from \"activations\" in shape or type; they belong together row by row", path.string());
    shard.gradients = gradients.data.data();
  }
  return shard;
}

/// Row `row` of the matrix at `data` as float32.
void read_row(const Shard& shard, const std::byte* data, const char* what, int64_t row, int64_t width, float* target) {
  const std::byte* const from = data + row * width * element_bytes(shard.dtype);
  const bool finite = shard.dtype == DType::kF16 ? kernels::widen_float16(from, width, target) : kernels::copy_float32(from, width, target);
  if (!finite) fail("{}: {} of row {} hold NaN or infinity; drop or repair that row", shard.name, what, row);
}

/// Asks for the cache lines of a row of the store that is read soon: in a random order the processor cannot foresee it.
void fetch_row(const Shard& shard, int64_t row, int64_t width) {
  const int64_t bytes = width * element_bytes(shard.dtype), at = (row - shard.begin) * bytes;
  for (int64_t line = 0; line < bytes; line += 64) {
    __builtin_prefetch(shard.activations + at + line);
    if (shard.gradients) __builtin_prefetch(shard.gradients + at + line);
  }
}

/// The first row with a NaN or infinity.
std::optional<int64_t> first_not_finite(const torch::Tensor& rows) {
  // A NaN or infinity anywhere makes the sum of x * 0 NaN; the row is searched for only then.
  if ((rows * 0).sum().item<float>() == 0.0f) return std::nullopt;
  return torch::isfinite(rows).all(1).logical_not().nonzero()[0].item<int64_t>();
}

int64_t bounded_block(int64_t rows, int64_t block) { return std::min(kBlockRows, rows - block * kBlockRows); }

}  // namespace

struct ActivationStore::Contents {
  std::filesystem::path path;
  std::vector<Shard> shards;
  int64_t rows = 0, width = 0;
  bool gradients = false;
  Json origin = Json::object();

  /// @throws Error if there is no such row
  const Shard& shard_of(int64_t row) const {
    if (row < 0 || row >= rows) fail("{}: row {} was asked for, it has {}", path.string(), row, rows);
    return *std::prev(std::upper_bound(shards.begin(), shards.end(), row, [](int64_t at, const Shard& shard) { return at < shard.begin; }));
  }
};

ActivationStore ActivationStore::open(const std::filesystem::path& path) {
  auto contents = std::make_shared<Contents>();
  contents->path = path;
  if (!std::filesystem::exists(path)) fail("{}: there is no such file or folder", path.string());
  if (!std::filesystem::is_directory(path)) {
    if (path.extension() != ".npy" && path.extension() != ".safetensors")
      fail("{}: activations are a folder made by `sememe capture`, a .npy or a .safetensors file", path.string());
    contents->shards.push_back(path.extension() == ".npy" ? npy_shard(path, contents->width)
                                                          : safetensors_shard(path, contents->width));
    contents->rows = contents->shards[0].rows;
    contents->gradients = contents->shards[0].gradients != nullptr;
    return ActivationStore(std::move(contents));
  }
  const std::string where = (path / "manifest.json").string();
  if (!std::filesystem::exists(where)) fail("{}: has no manifest.json; is it a folder made by `sememe capture`?", path.string());
  const Json manifest = read_json(where);
  if (!json_member<bool>(manifest, "complete", where))
    fail("{}: the capture is not complete; run the same `sememe capture` again to finish it", where);
  contents->width = json_member<int64_t>(manifest, "width", where);
  contents->gradients = json_member<bool>(manifest, "gradients", where);
  contents->origin = json_member<Json>(manifest, "origin", where);
  if (!contents->origin.is_object()) fail("{}: \"origin\" is no object that says where the rows come from", where);
  for (const Json& entry : json_member<Json>(manifest, "shards", where)) {
    const auto name = json_member<std::string>(entry, "file", where);
    if (std::filesystem::path(name).filename() != name) fail("{}: the shard \"{}\" is not a plain file name", where, name);
    int64_t width = 0;
    Shard shard = safetensors_shard(path / name, width);
    if (width != contents->width || shard.rows != json_member<int64_t>(entry, "rows", where) ||
        (shard.gradients != nullptr) != contents->gradients)
      fail("{}: does not match {}; was the folder copied whole?", shard.name, where);
    shard.begin = contents->rows;
    contents->rows += shard.rows;
    contents->shards.push_back(std::move(shard));
  }
  if (contents->rows == 0 || contents->rows != json_member<int64_t>(manifest, "rows", where))
    fail("{}: \"rows\" does not match the shards", where);
  return ActivationStore(std::move(contents));
}

int64_t ActivationStore::rows() const { return contents_->rows; }
int64_t ActivationStore::width() const { return contents_->width; }
bool ActivationStore::has_gradients() const { return contents_->gradients; }
const std::filesystem::path& ActivationStore::path() const { return contents_->path; }
const Json& ActivationStore::origin() const { return contents_->origin; }

ActivationRows ActivationStore::read(int64_t begin, int64_t count) const {
  if (begin < 0 || count < 0 || begin + count > rows())
    fail("{}: rows {} to {} were asked for, it has {}", path().string(), begin, begin + count, rows());
  std::vector<int64_t> wanted(count);
  std::iota(wanted.begin(), wanted.end(), begin);
  return gather(wanted);
}

ActivationRows ActivationStore::gather(std::span<const int64_t> wanted) const {
  const auto count = static_cast<int64_t>(wanted.size());
  ActivationRows result{torch::empty({count, width()}), {}};
  if (has_gradients()) result.gradients = torch::empty({count, width()});
  float* const activations = result.activations.data_ptr<float>();
  float* const gradients = has_gradients() ? result.gradients.data_ptr<float>() : nullptr;
  parallel_for(count, std::max<int64_t>(1, kNumbersWorthAThread / width()), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (i + kRowsAhead < end) fetch_row(contents_->shard_of(wanted[i + kRowsAhead]), wanted[i + kRowsAhead], width());
      const Shard& shard = contents_->shard_of(wanted[i]);
      const int64_t row = wanted[i] - shard.begin;
      read_row(shard, shard.activations, "the activations", row, width(), activations + i * width());
      if (gradients) read_row(shard, shard.gradients, "the gradients", row, width(), gradients + i * width());
    }
  });
  return result;
}

void ActivationStore::prefetch(int64_t begin, int64_t count) const {
  for (const Shard& shard : contents_->shards) {
    const int64_t from = std::max(begin, shard.begin), to = std::min(begin + count, shard.begin + shard.rows);
    if (from >= to) continue;
    const int64_t row_bytes = width() * element_bytes(shard.dtype);
    for (const std::byte* const data : {shard.activations, shard.gradients})
      if (data) read_ahead({data + (from - shard.begin) * row_bytes, static_cast<size_t>((to - from) * row_bytes)});
  }
}

ActivationWriter::ActivationWriter(std::filesystem::path folder, Settings settings)
    : folder_(std::move(folder)), settings_(std::move(settings)) {
  if (!std::filesystem::exists(folder_)) return;
  if (!std::filesystem::is_directory(folder_)) fail("{}: is a file; a folder of activations is to be written there", folder_.string());
  const std::filesystem::path path = folder_ / "manifest.json";
  if (!std::filesystem::exists(path)) {
    // Only the first shard of a capture that was stopped before its manifest may stand here.
    for (const auto& entry : std::filesystem::directory_iterator(folder_))
      if (!entry.path().filename().string().starts_with("shard-") && entry.path().extension() != ".tmp")
        fail("{}: holds other files; choose another --out", folder_.string());
    return;
  }
  const Json manifest = read_json(path);
  const std::string where = path.string();
  if (json_member<Json>(manifest, "origin", where) != settings_.origin ||
      json_member<int64_t>(manifest, "width", where) != settings_.width ||
      json_member<bool>(manifest, "gradients", where) != settings_.gradients ||
      json_member<std::string>(manifest, "dtype", where) != (settings_.half ? "float16" : "float32"))
    fail("{}: holds a capture with other settings; choose another --out or delete it", folder_.string());
  shards_ = json_member<Json>(manifest, "shards", where);
  stored_rows_ = json_member<int64_t>(manifest, "rows", where);
  stored_batches_ = json_member<int64_t>(manifest, "batches", where);
  complete_ = json_member<bool>(manifest, "complete", where);
}

void ActivationWriter::append(const torch::Tensor& activations, const torch::Tensor& gradients) {
  const auto keep = [&](const torch::Tensor& rows, const char* what, std::vector<torch::Tensor>& list) {
    if (const auto row = first_not_finite(rows))
      fail("the model's site: {} of row {} hold NaN or infinity; is the model sound?", what, stored_rows_ + pending_rows_ + *row);
    const torch::Tensor stored = rows.to(torch::kCPU, settings_.half ? torch::kHalf : torch::kFloat).contiguous().clone();
    if (const auto row = settings_.half ? first_not_finite(stored) : std::nullopt)
      fail("{} of row {} go beyond float16 (65504); capture with --dtype float32", what, stored_rows_ + pending_rows_ + *row);
    list.push_back(stored);
  };
  keep(activations, "the activations", activations_);
  if (settings_.gradients) keep(gradients, "the gradients", gradients_);
  pending_rows_ += activations.size(0);
  ++pending_batches_;
  if (pending_rows_ >= settings_.shard_rows) write_shard();
}

void ActivationWriter::write_shard() {
  if (pending_rows_ > 0) {
    std::error_code error;
    std::filesystem::create_directories(folder_, error);
    if (error) fail("{}: cannot write there: {}", folder_.string(), error.message());
    const std::string name = fmt::format("shard-{:05}.safetensors", shards_.size());
    NamedTensors tensors{{"activations", torch::cat(activations_)}};
    if (settings_.gradients) tensors.emplace_back("gradients", torch::cat(gradients_));
    save_tensors(folder_ / name, tensors);
    shards_.push_back({{"file", name}, {"rows", pending_rows_}});
  }
  activations_.clear();
  gradients_.clear();
  stored_rows_ += std::exchange(pending_rows_, 0);
  stored_batches_ += std::exchange(pending_batches_, 0);
  if (!shards_.empty()) write_manifest();
}

void ActivationWriter::write_manifest() {
  write_json(folder_ / "manifest.json", {{"format", "sememe activations 1"},
                                         {"origin", settings_.origin},
                                         {"width", settings_.width},
                                         {"rows", stored_rows_},
                                         {"dtype", settings_.half ? "float16" : "float32"},
                                         {"gradients", settings_.gradients},
                                         {"batches", stored_batches_},
                                         {"shards", shards_},
                                         {"complete", complete_}});
}

void ActivationWriter::finish() {
  if (rows() == 0) fail("{}: there is nothing to store; the text gave no tokens", folder_.string());
  complete_ = true;
  write_shard();
}

ShuffledActivations::ShuffledActivations(ActivationStore store, uint64_t seed, float largest_norm, int64_t window_rows)
    : store_(std::move(store)), seed_(seed), largest_norm_(largest_norm) {
  const int64_t row_bytes = store_.width() * 4 * (store_.has_gradients() ? 2 : 1);
  const int64_t wanted = window_rows > 0 ? window_rows : kWindowBytes / row_bytes;
  blocks_per_window_ = std::max<int64_t>(1, wanted / kBlockRows);
}

void ShuffledActivations::seek(Position position) {
  position_ = position;
  window_.clear();
}

void ShuffledActivations::prefetch_window(int64_t window) const {
  const auto blocks = static_cast<int64_t>(blocks_.size());
  const int64_t first = window * blocks_per_window_, last = std::min(blocks, first + blocks_per_window_);
  for (int64_t i = first; i < last; ++i)
    store_.prefetch(blocks_[i] * kBlockRows, bounded_block(store_.rows(), blocks_[i]));
}

void ShuffledActivations::open_window() {
  const int64_t blocks = (store_.rows() + kBlockRows - 1) / kBlockRows;
  if (position_.window * blocks_per_window_ >= blocks) {
    ++position_.epoch;
    position_.window = 0;
  }
  if (blocks_epoch_ != position_.epoch) {
    RandomStream stream(seed_, fmt::format("shuffle/blocks/{}", position_.epoch));
    blocks_ = permutation(blocks, stream);
    blocks_epoch_ = position_.epoch;
    prefetch_window(position_.window);
  }
  prefetch_window(position_.window + 1);
  const int64_t first = position_.window * blocks_per_window_, last = std::min(blocks, first + blocks_per_window_);
  std::vector<int64_t> rows;
  for (int64_t i = first; i < last; ++i)
    for (int64_t row = 0; row < bounded_block(store_.rows(), blocks_[i]); ++row) rows.push_back(blocks_[i] * kBlockRows + row);
  RandomStream stream(seed_, fmt::format("shuffle/rows/{}/{}", position_.epoch, position_.window));
  window_.clear();
  for (const int64_t place : permutation(static_cast<int64_t>(rows.size()), stream)) window_.push_back(rows[place]);
  if (position_.row < 0 || position_.row >= static_cast<int64_t>(window_.size()))
    fail("{}: cannot go on at row {} of window {}; is it the store that the checkpoint was made with?", store_.path().string(),
         position_.row, position_.window);
}

ActivationRows ShuffledActivations::next(int64_t rows, int64_t begin, int64_t count) {
  const bool filtered = std::isfinite(largest_norm_);  // which rows are the next is then known only when all have been read
  std::vector<torch::Tensor> activations, gradients;
  int64_t left_out = 0;  // since a row was kept
  for (int64_t missing = rows; missing > 0;) {
    if (window_.empty()) open_window();
    const auto size = static_cast<int64_t>(window_.size());
    const int64_t part = std::min(missing, size - position_.row);
    const int64_t done = rows - missing;
    const int64_t from = filtered ? 0 : std::clamp<int64_t>(begin - done, 0, part);
    const int64_t to = filtered ? part : std::clamp<int64_t>(begin + count - done, 0, part);
    ActivationRows some = store_.gather(std::span(window_).subspan(position_.row + from, to - from));
    if (filtered) {
      const torch::Tensor kept = (some.activations.norm(2, {1}) <= largest_norm_).nonzero().squeeze(1);
      dropped_ += part - kept.size(0);
      left_out = kept.size(0) > 0 ? 0 : left_out + part;
      if (left_out > 2 * store_.rows()) fail("{}: every row is left out as an attention sink", store_.path().string());
      some.activations = some.activations.index_select(0, kept);
      if (some.gradients.defined()) some.gradients = some.gradients.index_select(0, kept);
    }
    activations.push_back(some.activations);
    if (some.gradients.defined()) gradients.push_back(some.gradients);
    missing -= filtered ? some.activations.size(0) : part;
    position_.row += part;
    if (position_.row < size) continue;
    ++position_.window;
    position_.row = 0;
    window_.clear();
  }
  const auto join = [](const std::vector<torch::Tensor>& parts) { return parts.size() == 1 ? parts[0] : torch::cat(parts); };
  ActivationRows joined{join(activations), gradients.empty() ? torch::Tensor() : join(gradients)};
  if (!filtered || count == rows) return joined;
  joined.activations = joined.activations.narrow(0, begin, count).contiguous();
  if (joined.gradients.defined()) joined.gradients = joined.gradients.narrow(0, begin, count).contiguous();
  return joined;
}

}  // namespace sememe

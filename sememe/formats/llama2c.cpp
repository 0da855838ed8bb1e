#include "sememe/formats/llama2c.h"

#include <array>
#include <cstring>
#include <string>

#include "sememe/base/error.h"

namespace sememe {
namespace {

constexpr size_t kHeaderBytes = 7 * sizeof(int32_t);
constexpr int32_t kMagicOfLaterVersions = 0x616b3432;  // "ak42"

Llama2cSizes read_sizes(std::span<const std::byte> bytes, const std::string& where) {
  std::array<int32_t, 7> numbers{};
  if (bytes.size() < kHeaderBytes) fail("{}: is no checkpoint of llama2.c: it has {} bytes, not even a header", where, bytes.size());
  std::memcpy(numbers.data(), bytes.data(), kHeaderBytes);
  if (numbers[0] == kMagicOfLaterVersions)
    fail("{}: is a llama2.c checkpoint of version {}; version 0, whose first number is the width, is supported", where, numbers[1]);
  const bool tied = numbers[5] > 0;
  if (numbers[5] < 0 && numbers[5] > INT32_MIN) numbers[5] = -numbers[5];
  constexpr const char* kNames[] = {"dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len"};
  for (size_t i = 0; i < numbers.size(); ++i)
    if (numbers[i] < 1) fail("{}: is no checkpoint of llama2.c: its {} is {}", where, kNames[i], numbers[i]);
  const Llama2cSizes sizes{numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6], tied};
  if (sizes.layers > 10000) fail("{}: is no checkpoint of llama2.c: its n_layers is {}", where, sizes.layers);
  if (sizes.width % sizes.heads != 0 || sizes.width / sizes.heads % 2 != 0)
    fail("{}: its dim ({}) is not an even multiple of its n_heads ({})", where, sizes.width, sizes.heads);
  if (sizes.heads % sizes.key_value_heads != 0)
    fail("{}: its n_heads ({}) is not a multiple of its n_kv_heads ({})", where, sizes.heads, sizes.key_value_heads);
  return sizes;
}

/// A matrix or norm that each layer has, or the network once (`per_layer` false).
struct Part {
  const char* name;
  std::vector<int64_t> shape;
  bool per_layer = true;
  bool skipped = false;
};

std::vector<Part> parts_of(const Llama2cSizes& sizes) {
  const int64_t width = sizes.width, hidden = sizes.hidden_width, head = width / sizes.heads, keys = head * sizes.key_value_heads;
  std::vector<Part> parts = {{"tok_embeddings.weight", {sizes.vocabulary, width}, false},
                             {"attention_norm.weight", {width}},
                             {"attention.wq.weight", {width, width}},
                             {"attention.wk.weight", {keys, width}},
                             {"attention.wv.weight", {keys, width}},
                             {"attention.wo.weight", {width, width}},
                             {"ffn_norm.weight", {width}},
                             {"feed_forward.w1.weight", {hidden, width}},
                             {"feed_forward.w2.weight", {width, hidden}},
                             {"feed_forward.w3.weight", {hidden, width}},
                             {"norm.weight", {width}, false},
                             {"cosines", {sizes.context, head / 2}, false, true},
                             {"sines", {sizes.context, head / 2}, false, true}};
  if (!sizes.tied_head) parts.push_back({"output.weight", {sizes.vocabulary, width}, false});
  return parts;
}

double bytes_of(const Part& part) {
  double bytes = sizeof(float);
  for (const int64_t size : part.shape) bytes *= static_cast<double>(size);
  return bytes;
}

}  // namespace

Llama2cFile::Llama2cFile(const std::filesystem::path& path) : file_(path) {
  std::span<const std::byte> bytes = file_.bytes();
  sizes_ = read_sizes(bytes, path.string());
  const std::vector<Part> parts = parts_of(sizes_);
  // Far below 2^53 where it can be true, and no overflow where it cannot.
  double wanted = kHeaderBytes;
  for (const Part& part : parts) wanted += bytes_of(part) * (part.per_layer ? static_cast<double>(sizes_.layers) : 1.0);
  if (wanted != static_cast<double>(bytes.size()))
    fail("{}: its sizes (dim {}, hidden_dim {}, n_layers {}, n_heads {}, n_kv_heads {}, vocab_size {}, seq_len {}) make {:.0f} bytes but it has {}; "
         "was it copied whole, and is it a checkpoint of llama2.c?",
         path.string(), sizes_.width, sizes_.hidden_width, sizes_.layers, sizes_.heads, sizes_.key_value_heads, sizes_.vocabulary, sizes_.context,
         wanted, bytes.size());
  bytes = bytes.subspan(kHeaderBytes);
  for (const Part& part : parts) {
    const auto size = static_cast<size_t>(bytes_of(part));
    for (int64_t layer = 0; layer < (part.per_layer ? sizes_.layers : 1); ++layer) {
      const std::string name = part.per_layer ? fmt::format("layers.{}.{}", layer, part.name) : std::string(part.name);
      if (!part.skipped) tensors_.push_back({name, DType::kF32, part.shape, bytes.first(size)});
      bytes = bytes.subspan(size);
    }
  }
}

const TensorView& Llama2cFile::tensor(std::string_view name) const {
  for (const TensorView& view : tensors_)
    if (view.name == name) return view;
  fail("{}: there is no tensor \"{}\"", path().string(), name);
}

}  // namespace sememe

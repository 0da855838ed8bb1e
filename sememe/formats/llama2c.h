#pragma once
// Checkpoints of llama2.c, version 0: seven int32 that say the sizes, then float32 weights without names in a fixed order. Reading maps the file;
// since nothing else says what it is, its length must be exactly what the sizes make.

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

#include "sememe/base/files.h"
#include "sememe/formats/tensor_view.h"

namespace sememe {

struct Llama2cSizes {
  int64_t width = 0, hidden_width = 0, layers = 0, heads = 0, key_value_heads = 0, vocabulary = 0, context = 0;
  bool tied_head = true;  ///< the file says it by the sign of the vocabulary

  bool operator==(const Llama2cSizes&) const = default;
};

class Llama2cFile {
 public:
  /// @throws Error naming the file and the size at fault if a header or the length cannot be true, or the version is another
  explicit Llama2cFile(const std::filesystem::path& path);

  const Llama2cSizes& sizes() const { return sizes_; }
  /// Under the names of Llama's own checkpoints, such as "layers.0.attention.wq.weight"; the tables of rotary positions, which the sizes
  /// imply, are left out. The views live as long as this object.
  const std::vector<TensorView>& tensors() const { return tensors_; }
  /// @throws Error that names the file if there is no such tensor
  const TensorView& tensor(std::string_view name) const;
  const std::filesystem::path& path() const { return file_.path(); }

 private:
  MappedFile file_;
  Llama2cSizes sizes_;
  std::vector<TensorView> tensors_;
};

}  // namespace sememe

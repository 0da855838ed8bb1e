#pragma once
// PyTorch's checkpoints: a zip of a pickle that says what there is, and of one entry of raw bytes for each storage. A pickle is a program that
// may call anything; here only what a state dict needs is understood (numbers, strings, lists, dicts and tensors), and whatever else it
// asks for is refused by name without being run.

#include <deque>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sememe/base/json.h"
#include "sememe/formats/tensor_view.h"
#include "sememe/formats/zip.h"

namespace sememe {

/// A tensor as the pickle describes it: elements of a storage, with strides.
struct StoredTensor {
  std::string storage;  ///< name of its entry
  DType dtype = DType::kF32;
  int64_t storage_elements = 0, offset = 0;
  std::vector<int64_t> shape, strides;
};

/// What torch.save wrote: one dict, whose values may be dicts again. Names of nested members are joined by dots.
class TorchCheckpoint {
 public:
  /// @throws Error naming the file, and the entry, key or global at fault, if it is no zip checkpoint of protocol 2 to 5, asks for anything
  ///         beside tensors and plain values, or describes a tensor that its storage cannot hold
  explicit TorchCheckpoint(const std::filesystem::path& path);

  /// Names of the tensors, ascending.
  std::vector<std::string> names() const;
  bool contains(std::string_view name) const { return tensors_.find(name) != tensors_.end(); }
  /// Row-major; lives as long as this object. Read, checked and, where it is stored with other strides, gathered at the first call.
  /// @throws Error naming file and tensor
  const TensorView& tensor(std::string_view name);
  /// All values that are no tensors, by their joined names; lists and tuples are arrays. NaN and infinite numbers are kept.
  const Json& values() const { return values_; }
  const std::filesystem::path& path() const { return archive_.path(); }

 private:
  std::span<const std::byte> storage(const StoredTensor& tensor, const std::string& where);

  ZipFile archive_;
  std::string prefix_;  // of the entries of storages
  std::map<std::string, StoredTensor, std::less<>> tensors_;
  std::map<std::string, TensorView, std::less<>> views_;
  std::map<std::string, ZipContent> storages_;
  std::deque<std::vector<std::byte>> gathered_;
  Json values_ = Json::object();
};

/// A state dict of these tensors, which torch.load(..., weights_only=True) opens.
/// @throws Error if two share a name, a view's bytes do not match its shape, or PyTorch has no storage of such a type
void write_torch_checkpoint(const std::filesystem::path& path, std::span<const TensorView> tensors);

}  // namespace sememe

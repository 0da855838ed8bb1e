#pragma once
// The safetensors format: a u64 little-endian header length, a JSON header of names, types, shapes and offsets, raw
// row-major data. Reading maps the file and checks every length against it first, so that a hostile file gives an
// error, not a crash.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sememe/base/files.h"
#include "sememe/formats/dtype.h"
#include "sememe/formats/tensor_view.h"

namespace sememe {

class SafetensorsFile {
 public:
  /// @throws Error naming the file, and the key at fault, if a header, type, shape or offset cannot be true
  explicit SafetensorsFile(const std::filesystem::path& path);

  /// In the order of their offsets; the views live as long as this object.
  const std::vector<TensorView>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  bool contains(std::string_view name) const;
  /// @throws Error that names the file and lists what it holds if there is no such tensor
  const TensorView& tensor(std::string_view name) const;
  const std::filesystem::path& path() const { return file_.path(); }

 private:
  MappedFile file_;
  std::vector<TensorView> tensors_;
  std::map<std::string, std::string> metadata_;
};

/// Writes the tensors in the order given, whole or not at all.
/// @throws Error if two share a name or a view's bytes do not match its shape
void write_safetensors(const std::filesystem::path& path, std::span<const TensorView> tensors,
                       const std::map<std::string, std::string>& metadata = {});

/// The same for data that are not in memory at once: give_data(i, write) calls `write` with the bytes of tensor i, part by part.
/// @param headers tensors without data
using GiveTensorData = std::function<void(size_t index, const std::function<void(std::span<const std::byte>)>& write)>;
void write_safetensors(const std::filesystem::path& path, std::span<const TensorView> headers, const GiveTensorData& give_data,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace sememe

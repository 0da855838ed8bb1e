#pragma once
// GGUF, the file of ggml and llama.cpp: "GGUF", a version, counts, metadata (keys with typed values), the tensors' names, shapes, types and
// offsets, then their blocks, each aligned. Versions 2 and 3, little-endian. Reading maps the file and checks every length against it
// first, so that a hostile file gives an error, not a crash.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "sememe/base/files.h"
#include "sememe/base/json.h"
#include "sememe/formats/gguf_blocks.h"

namespace sememe {

/// A value of the metadata: the twelve scalar types of the format and arrays of each. Strings are bytes; the format wants UTF-8, but
/// tokens that are parts of a character occur.
using GgufValue =
    std::variant<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, float, bool, std::string, uint64_t, int64_t, double,
                 std::vector<uint8_t>, std::vector<int8_t>, std::vector<uint16_t>, std::vector<int16_t>, std::vector<uint32_t>,
                 std::vector<int32_t>, std::vector<float>, std::vector<bool>, std::vector<std::string>, std::vector<uint64_t>,
                 std::vector<int64_t>, std::vector<double>>;

/// The format's name of the value's type, e.g. "uint32" or "array of string".
std::string gguf_type_name(const GgufValue& value);

/// The value as JSON; numbers that JSON lacks become null where they are written.
Json gguf_to_json(const GgufValue& value);

struct GgufEntry {
  std::string key;
  GgufValue value;
};

struct GgufTensor {
  std::string name;
  GgmlType type = GgmlType::kF32;
  std::vector<int64_t> shape;       ///< row-major, e.g. [rows, columns]: the reverse of the order in the file; at most 4 dimensions
  std::span<const std::byte> data;  ///< the blocks, row after row; lives as long as the file's object

  int64_t num_weights() const;
};

/// The tensor's values in float32, row-major. @throws Error never for a tensor of a GgufFile
std::vector<float> dequantize(const GgufTensor& tensor);

class GgufFile {
 public:
  /// @throws Error naming the file, and the key or tensor at fault, if it is no GGUF file, is of version 1, big-endian or cut short, a
  ///         length, type, shape or offset cannot be true, a name stands twice, an array holds arrays, or a tensor's type cannot be read
  explicit GgufFile(const std::filesystem::path& path);

  uint32_t version() const { return version_; }
  /// Bytes to a multiple of which each tensor is aligned.
  uint64_t alignment() const { return alignment_; }
  /// In the order of the file.
  const std::vector<GgufEntry>& metadata() const { return metadata_; }
  /// In the order of the file.
  const std::vector<GgufTensor>& tensors() const { return tensors_; }

  bool has_key(std::string_view key) const { return find(key) != nullptr; }
  /// @throws Error that names the file and the key if there is none
  const GgufValue& value(std::string_view key) const;
  /// A whole number of any width. @throws Error as value(), or if it is of another type or does not fit
  int64_t integer(std::string_view key) const;
  /// A number of any type. @throws Error as value(), or if it is none
  double number(std::string_view key) const;
  /// @throws Error as value(), or if it is no string
  const std::string& text(std::string_view key) const;
  /// @throws Error as value(), or if it is no array of strings
  const std::vector<std::string>& texts(std::string_view key) const;

  bool contains(std::string_view name) const;
  /// @throws Error that names the file and lists what it holds if there is no such tensor
  const GgufTensor& tensor(std::string_view name) const;
  const std::filesystem::path& path() const { return file_.path(); }

 private:
  const GgufValue* find(std::string_view key) const;

  MappedFile file_;
  uint32_t version_ = 0;
  uint64_t alignment_ = 32;
  std::vector<GgufEntry> metadata_;
  std::vector<GgufTensor> tensors_;
};

}  // namespace sememe

#pragma once
// Writes GGUF files, true or not.

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "sememe/formats/gguf.h"

namespace sememe {

/// The bytes of a file, piece after piece, true or not.
struct Bytes {
  std::string text;

  template <class T>
  Bytes& number(T value) {
    text.append(reinterpret_cast<const char*>(&value), sizeof(T));
    return *this;
  }
  Bytes& string(std::string_view value) {
    number(uint64_t{value.size()});
    text += value;
    return *this;
  }
  Bytes& header(uint32_t version, uint64_t num_tensors, uint64_t num_keys) {
    text += "GGUF";
    return number(version).number(num_tensors).number(num_keys);
  }
  Bytes& tensor(std::string_view name, const std::vector<uint64_t>& dimensions, uint32_t type, uint64_t offset) {
    string(name).number(static_cast<uint32_t>(dimensions.size()));
    for (const uint64_t dimension : dimensions) number(dimension);
    return number(type).number(offset);
  }
  Bytes& pad(uint64_t alignment) {
    text.append((alignment - text.size() % alignment) % alignment, '\0');
    return *this;
  }
  Bytes& data(size_t count) {
    text.append(count, '\1');
    return *this;
  }
};

/// The format's numbers of the scalar types, in the order of GgufValue, which has the arrays in the same order after them.
inline constexpr uint32_t kTypeNumbers[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12};
inline constexpr uint32_t kArrayNumber = 9;

inline void write_value(Bytes& bytes, const GgufValue& value) {
  const auto scalar = [&]<class T>(const T& held) {
    if constexpr (std::is_same_v<T, std::string>)
      bytes.string(held);
    else
      bytes.number(held);
  };
  const auto array = [&]<class T>(const std::vector<T>& held) {
    bytes.number(kTypeNumbers[value.index() - 12]).number(uint64_t{held.size()});
    for (const T& element : held) scalar(element);
  };
  bytes.number(value.index() < 12 ? kTypeNumbers[value.index()] : kArrayNumber);
  std::visit(
      [&](const auto& held) {
        if constexpr (requires { array(held); })
          array(held);
        else
          scalar(held);
      },
      value);
}

inline std::string gguf_bytes(uint32_t version, const std::vector<GgufEntry>& metadata, const std::vector<GgufTensor>& tensors,
                       uint64_t alignment = 32) {
  Bytes bytes;
  bytes.header(version, tensors.size(), metadata.size());
  for (const GgufEntry& entry : metadata) {
    bytes.string(entry.key);
    write_value(bytes, entry.value);
  }
  Bytes data;
  for (const GgufTensor& tensor : tensors) {
    bytes.tensor(tensor.name, {tensor.shape.rbegin(), tensor.shape.rend()}, static_cast<uint32_t>(tensor.type), data.text.size());
    data.text.append(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size());
    data.pad(alignment);
  }
  return bytes.pad(alignment).text + data.text;
}

}  // namespace sememe

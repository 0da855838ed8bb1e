#include "sememe/formats/gguf_writer.h"

#include <type_traits>

#include "sememe/base/error.h"

namespace sememe {
namespace {

constexpr uint64_t kAlignment = 32;
/// The format's numbers of the scalar types, in the order of GgufValue, which has the arrays in the same order after them.
constexpr uint32_t kTypeNumbers[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12};
constexpr uint32_t kArrayNumber = 9;

class Bytes {
 public:
  template <class T>
  void add(const T& value) {
    if constexpr (std::is_same_v<T, std::string>) {
      add(uint64_t{value.size()});
      text_ += value;
    } else {
      text_.append(reinterpret_cast<const char*>(&value), sizeof(T));
    }
  }
  void add(const GgufValue& value) {
    constexpr size_t kScalars = std::size(kTypeNumbers);
    add(value.index() < kScalars ? kTypeNumbers[value.index()] : kArrayNumber);
    std::visit(
        [&]<class T>(const T& held) {
          if constexpr (requires { typename T::value_type; } && !std::is_same_v<T, std::string>) {
            add(kTypeNumbers[value.index() - kScalars]);
            add(uint64_t{held.size()});
            for (const typename T::value_type& element : held) add<typename T::value_type>(element);
          } else {
            add(held);
          }
        },
        value);
  }
  void pad() { text_.append((kAlignment - text_.size() % kAlignment) % kAlignment, '\0'); }
  std::string text_;
};

}  // namespace

void write_gguf(const std::filesystem::path& path, std::span<const GgufEntry> metadata, std::span<const GgufTensor> tensors) {
  Bytes head;
  head.text_ = "GGUF";
  head.add(uint32_t{3});
  head.add(uint64_t{tensors.size()});
  head.add(uint64_t{metadata.size()});
  for (const GgufEntry& entry : metadata) {
    head.add(entry.key);
    head.add(entry.value);
  }
  uint64_t offset = 0;
  for (const GgufTensor& tensor : tensors) {
    const BlockLayout& layout = block_layout(tensor.type);
    const int64_t columns = tensor.shape.empty() ? 1 : tensor.shape.back();
    if (columns % layout.weights != 0 || static_cast<int64_t>(tensor.data.size()) != tensor.num_weights() / layout.weights * layout.bytes)
      fail("{}: tensor \"{}\" has {} bytes, which [{}] of type {} does not need", path.string(), tensor.name, tensor.data.size(),
           fmt::join(tensor.shape, ", "), layout.name);
    head.add(tensor.name);
    head.add(static_cast<uint32_t>(tensor.shape.size()));
    for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size) head.add(static_cast<uint64_t>(*size));
    head.add(static_cast<uint32_t>(tensor.type));
    head.add(offset);
    offset += (tensor.data.size() + kAlignment - 1) / kAlignment * kAlignment;
  }
  head.pad();
  AtomicFile file(path);
  file.write(head.text_);
  constexpr char kZeros[kAlignment] = {};
  for (const GgufTensor& tensor : tensors) {
    file.write(tensor.data);
    file.write(std::string_view(kZeros, (kAlignment - tensor.data.size() % kAlignment) % kAlignment));
  }
  file.commit();
}

}  // namespace sememe

#include "sememe/formats/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <set>
#include <tuple>
#include <type_traits>
#include <utility>

#include "sememe/base/error.h"
#include "sememe/formats/shown.h"

namespace sememe {
namespace {

static_assert(std::endian::native == std::endian::little, "the formats are little-endian and are mapped, not converted");

constexpr std::string_view kMagic = "GGUF";
constexpr std::string_view kAlignmentKey = "general.alignment";
constexpr uint64_t kLongestName = 65535;  // the specification's limit for keys
constexpr uint32_t kMostDimensions = 4;   // ggml's
constexpr uint64_t kLeastAlignment = 8;   // the specification wants a multiple of 8, the reference implementation a power of two

// The least that an entry takes in a file, against which counts are held before anything is done as often as they say.
constexpr uint64_t kLeastString = 8;                         // length
constexpr uint64_t kLeastEntry = kLeastString + 4 + 1;       // key, type, value
constexpr uint64_t kLeastTensor = kLeastString + 4 + 4 + 8;  // name, number of dimensions, type, offset

/// The format's numbers of value types.
enum ValueType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12
};

/// Reads from the front; what it is asked for is held against what is left.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, std::string file) : bytes_(bytes), file_(std::move(file)) {}

  uint64_t position() const { return position_; }
  uint64_t left() const { return bytes_.size() - position_; }
  const std::string& file() const { return file_; }

  /// @param what is being read, for the message: `key "general.name"`
  template <class T>
  T number(std::string_view what) {
    T value;
    std::memcpy(&value, take(sizeof(T), what).data(), sizeof(T));
    return value;
  }

  std::string_view string(std::string_view what) {
    const auto length = number<uint64_t>(what);
    if (length > left())
      fail("{}: {}: says a string of {} bytes but only {} are left; was the file copied whole?", file_, what, length, left());
    const std::span<const std::byte> bytes = take(length, what);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  /// @throws Error if `count` things of at least `least_bytes` each cannot be left
  void check_count(uint64_t count, uint64_t least_bytes, std::string_view what) const {
    if (count > left() / least_bytes)
      fail("{}: {}: says {}, for which the {} bytes left are too few; was the file copied whole?", file_, what, count, left());
  }

 private:
  std::span<const std::byte> take(uint64_t count, std::string_view what) {
    if (count > left()) fail("{}: {}: the file ends in it; was it copied whole?", file_, what);
    const std::span<const std::byte> taken = bytes_.subspan(position_, count);
    position_ += count;
    return taken;
  }

  std::span<const std::byte> bytes_;
  std::string file_;
  uint64_t position_ = 0;
};

/// One scalar. Any byte but 0 and 1 in a bool would be undefined behaviour.
template <class T>
T read_scalar(Cursor& cursor, std::string_view what) {
  if constexpr (std::is_same_v<T, std::string>) {
    return std::string(cursor.string(what));
  } else if constexpr (std::is_same_v<T, bool>) {
    const auto byte = cursor.number<uint8_t>(what);
    if (byte > 1) fail("{}: {}: a bool is {}, not 0 or 1", cursor.file(), what, byte);
    return byte == 1;
  } else {
    return cursor.number<T>(what);
  }
}

template <class T>
std::vector<T> read_array(Cursor& cursor, uint64_t count, std::string_view what) {
  cursor.check_count(count, std::is_same_v<T, std::string> ? kLeastString : sizeof(T), what);
  std::vector<T> values;
  values.reserve(count);
  for (uint64_t i = 0; i < count; ++i) values.push_back(read_scalar<T>(cursor, what));
  return values;
}

/// Calls `read` with a value of the C++ type that stands for `type`.
template <class Read>
GgufValue with_type(uint32_t type, Read read, const std::string& file, std::string_view what) {
  switch (type) {
    case kUint8: return read(uint8_t{});
    case kInt8: return read(int8_t{});
    case kUint16: return read(uint16_t{});
    case kInt16: return read(int16_t{});
    case kUint32: return read(uint32_t{});
    case kInt32: return read(int32_t{});
    case kFloat32: return read(float{});
    case kBool: return read(bool{});
    case kString: return read(std::string{});
    case kUint64: return read(uint64_t{});
    case kInt64: return read(int64_t{});
    case kFloat64: return read(double{});
    case kArray: fail("{}: {}: an array of arrays, which is not read", file, what);
    default: fail("{}: {}: the type {} of its value is not known; the types are 0 to 12", file, what, type);
  }
}

GgufValue read_value(Cursor& cursor, const std::string& what) {
  const auto type = cursor.number<uint32_t>(what);
  if (type != kArray) {
    const auto scalar = [&]<class T>(T) -> GgufValue { return read_scalar<T>(cursor, what); };
    return with_type(type, scalar, cursor.file(), what);
  }
  const auto element = cursor.number<uint32_t>(what);
  const auto count = cursor.number<uint64_t>(what);
  const auto array = [&]<class T>(T) -> GgufValue { return read_array<T>(cursor, count, what); };
  return with_type(element, array, cursor.file(), what);
}

std::string_view read_name(Cursor& cursor, const std::string& what) {
  const std::string_view name = cursor.string(what);
  if (name.size() > kLongestName)
    fail("{}: {}: the name has {} bytes, more than {}; the file is damaged", cursor.file(), what, name.size(), kLongestName);
  return name;
}

std::vector<GgufEntry> read_metadata(Cursor& cursor, uint64_t count) {
  std::vector<GgufEntry> metadata;
  std::set<std::string_view> keys;
  for (uint64_t i = 0; i < count; ++i) {
    const std::string_view key = read_name(cursor, fmt::format("key {} of {}", i + 1, count));
    const std::string what = fmt::format("key \"{}\"", shown(key));
    if (!keys.insert(key).second) fail("{}: {}: it stands twice", cursor.file(), what);
    GgufValue value = read_value(cursor, what);
    metadata.push_back({std::string(key), std::move(value)});
  }
  return metadata;
}

/// A tensor's entry before the place of the data is known.
struct TensorEntry {
  GgufTensor tensor;
  uint64_t bytes, offset;
};

uint64_t blocks_bytes(const GgufTensor& tensor, const std::string& where) {
  const BlockLayout& layout = block_layout(tensor.type);
  const int64_t columns = tensor.shape.empty() ? 1 : tensor.shape.back();
  if (columns % layout.weights != 0)
    fail("{}: its rows have {} weights, no multiple of the {} in a block of type {}", where, columns, layout.weights, layout.name);
  // A zero does not excuse the other dimensions: readers multiply them in any order. The bytes of the float32 values must fit as well.
  int64_t product = std::max(layout.bytes, int64_t{sizeof(float)});
  bool empty = false;
  for (const int64_t dimension : tensor.shape) {
    empty = empty || dimension == 0;
    if (dimension > 0 && __builtin_mul_overflow(product, dimension, &product))
      fail("{}: the product of the dimensions does not fit 63 bits", where);
  }
  return empty ? 0 : static_cast<uint64_t>(tensor.num_weights() / layout.weights * layout.bytes);
}

TensorEntry read_tensor_entry(Cursor& cursor, std::string_view name) {
  const std::string what = fmt::format("tensor \"{}\"", shown(name));
  const std::string where = cursor.file() + ": " + what;
  TensorEntry entry;
  entry.tensor.name = name;
  const auto dimensions = cursor.number<uint32_t>(what);
  if (dimensions > kMostDimensions) fail("{}: says {} dimensions, more than {}", where, dimensions, kMostDimensions);
  for (uint32_t i = 0; i < dimensions; ++i) {
    const auto dimension = cursor.number<uint64_t>(what);
    if (dimension > uint64_t{INT64_MAX}) fail("{}: a dimension is {}, which does not fit 63 bits", where, dimension);
    entry.tensor.shape.push_back(static_cast<int64_t>(dimension));
  }
  std::reverse(entry.tensor.shape.begin(), entry.tensor.shape.end());
  const auto number = cursor.number<uint32_t>(what);
  const std::optional<GgmlType> type = ggml_type_from_number(number);
  if (!type) fail("{}: its type {} cannot be read; those that can are {}", where, ggml_type_name(number), readable_ggml_types());
  entry.tensor.type = *type;
  entry.offset = cursor.number<uint64_t>(what);
  entry.bytes = blocks_bytes(entry.tensor, where);
  return entry;
}

std::vector<TensorEntry> read_tensor_entries(Cursor& cursor, uint64_t count) {
  std::vector<TensorEntry> entries;
  std::set<std::string_view> names;
  for (uint64_t i = 0; i < count; ++i) {
    const std::string_view name = read_name(cursor, fmt::format("tensor {} of {}", i + 1, count));
    if (!names.insert(name).second) fail("{}: tensor \"{}\": the name stands twice", cursor.file(), shown(name));
    entries.push_back(read_tensor_entry(cursor, name));
  }
  return entries;
}

/// Gives each tensor its bytes of `data`.
std::vector<GgufTensor> place_tensors(std::vector<TensorEntry> entries, std::span<const std::byte> data, uint64_t alignment,
                                      const std::string& file) {
  for (TensorEntry& entry : entries) {
    const std::string where = fmt::format("{}: tensor \"{}\"", file, shown(entry.tensor.name));
    if (entry.offset % alignment != 0) fail("{}: its offset {} is no multiple of the alignment, {}", where, entry.offset, alignment);
    if (entry.bytes == 0) continue;  // where nothing is stored, the offset means nothing
    if (entry.offset > data.size() || entry.bytes > data.size() - entry.offset)
      fail("{}: has {} bytes from {} on but the file holds {} bytes of data; was it copied whole?", where, entry.bytes, entry.offset,
           data.size());
    entry.tensor.data = data.subspan(entry.offset, entry.bytes);
  }
  std::vector<const TensorEntry*> by_offset;
  for (const TensorEntry& entry : entries)
    if (entry.bytes > 0) by_offset.push_back(&entry);
  std::sort(by_offset.begin(), by_offset.end(), [](const TensorEntry* a, const TensorEntry* b) {
    return std::tie(a->offset, a->tensor.name) < std::tie(b->offset, b->tensor.name);
  });
  for (size_t i = 1; i < by_offset.size(); ++i)
    if (by_offset[i]->offset - by_offset[i - 1]->offset < by_offset[i - 1]->bytes)
      fail("{}: tensor \"{}\" overlaps \"{}\"", file, shown(by_offset[i]->tensor.name), shown(by_offset[i - 1]->tensor.name));
  std::vector<GgufTensor> tensors;
  for (TensorEntry& entry : entries) tensors.push_back(std::move(entry.tensor));
  return tensors;
}

uint32_t read_version(Cursor& cursor, std::span<const std::byte> bytes) {
  const std::string_view start(reinterpret_cast<const char*>(bytes.data()), std::min<size_t>(bytes.size(), kMagic.size()));
  if (start != kMagic) fail("{}: does not begin with \"{}\"; is it a GGUF file?", cursor.file(), kMagic);
  cursor.number<uint32_t>("magic");
  const auto version = cursor.number<uint32_t>("version");
  if (version != 0 && version % 65536 == 0)
    fail("{}: it is big-endian; only little-endian GGUF is read (gguf-convert-endian of the package gguf converts)", cursor.file());
  if (version == 1) fail("{}: GGUF version 1 is not read, only 2 and 3; convert the model again", cursor.file());
  if (version != 2 && version != 3) fail("{}: GGUF version {} is not known, only 2 and 3", cursor.file(), version);
  return version;
}

template <class T>
constexpr std::string_view kTypeName = "";
template <>
constexpr std::string_view kTypeName<uint8_t> = "uint8";
template <>
constexpr std::string_view kTypeName<int8_t> = "int8";
template <>
constexpr std::string_view kTypeName<uint16_t> = "uint16";
template <>
constexpr std::string_view kTypeName<int16_t> = "int16";
template <>
constexpr std::string_view kTypeName<uint32_t> = "uint32";
template <>
constexpr std::string_view kTypeName<int32_t> = "int32";
template <>
constexpr std::string_view kTypeName<float> = "float32";
template <>
constexpr std::string_view kTypeName<bool> = "bool";
template <>
constexpr std::string_view kTypeName<std::string> = "string";
template <>
constexpr std::string_view kTypeName<uint64_t> = "uint64";
template <>
constexpr std::string_view kTypeName<int64_t> = "int64";
template <>
constexpr std::string_view kTypeName<double> = "float64";

}  // namespace

std::string gguf_type_name(const GgufValue& value) {
  const auto name = []<class T>(const T&) { return std::string(kTypeName<T>); };
  const auto array_name = []<class T>(const std::vector<T>&) { return fmt::format("array of {}", kTypeName<T>); };
  return std::visit(
      [&]<class T>(const T& held) {
        if constexpr (requires { array_name(held); })
          return array_name(held);
        else
          return name(held);
      },
      value);
}

Json gguf_to_json(const GgufValue& value) {
  return std::visit([](const auto& held) { return Json(held); }, value);
}

int64_t GgufTensor::num_weights() const {
  int64_t count = 1;
  for (const int64_t dimension : shape) count *= dimension;
  return count;
}

std::vector<float> dequantize(const GgufTensor& tensor) {
  std::vector<float> weights(static_cast<size_t>(tensor.num_weights()));
  dequantize(tensor.type, tensor.data, weights);
  return weights;
}

GgufFile::GgufFile(const std::filesystem::path& path) : file_(path) {
  const std::span<const std::byte> bytes = file_.bytes();
  Cursor cursor(bytes, path.string());
  version_ = read_version(cursor, bytes);
  const auto num_tensors = cursor.number<uint64_t>("number of tensors");
  const auto num_keys = cursor.number<uint64_t>("number of keys");
  cursor.check_count(num_keys, kLeastEntry, "number of keys");
  cursor.check_count(num_tensors, kLeastTensor, "number of tensors");
  metadata_ = read_metadata(cursor, num_keys);
  if (const GgufValue* const value = find(kAlignmentKey)) {
    const uint32_t* const alignment = std::get_if<uint32_t>(value);
    if (alignment == nullptr)
      fail("{}: key \"{}\": is of type {}, not uint32", cursor.file(), kAlignmentKey, gguf_type_name(*value));
    if (*alignment < kLeastAlignment || !std::has_single_bit(*alignment))
      fail("{}: key \"{}\": is {}, not a power of two of at least {}", cursor.file(), kAlignmentKey, *alignment, kLeastAlignment);
    alignment_ = *alignment;
  }
  std::vector<TensorEntry> entries = read_tensor_entries(cursor, num_tensors);
  // A file whose tensors are all empty may end before the padding does.
  const uint64_t start = (cursor.position() + alignment_ - 1) / alignment_ * alignment_;
  tensors_ = place_tensors(std::move(entries), bytes.subspan(std::min<uint64_t>(start, bytes.size())), alignment_, cursor.file());
}

const GgufValue* GgufFile::find(std::string_view key) const {
  for (const GgufEntry& entry : metadata_)
    if (entry.key == key) return &entry.value;
  return nullptr;
}

const GgufValue& GgufFile::value(std::string_view key) const {
  const GgufValue* const found = find(key);
  if (found == nullptr) fail("{}: the key \"{}\" is missing from the metadata", path().string(), shown(key));
  return *found;
}

int64_t GgufFile::integer(std::string_view key) const {
  const GgufValue& held = value(key);
  return std::visit(
      [&]<class T>(const T& number) -> int64_t {
        if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>)
          if (std::in_range<int64_t>(number)) return static_cast<int64_t>(number);
        fail("{}: key \"{}\": is no whole number of 63 bits but of type {}", path().string(), shown(key), gguf_type_name(held));
      },
      held);
}

double GgufFile::number(std::string_view key) const {
  const GgufValue& held = value(key);
  return std::visit(
      [&]<class T>(const T& number) -> double {
        if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>)
          return static_cast<double>(number);
        else
          fail("{}: key \"{}\": is no number but of type {}", path().string(), shown(key), gguf_type_name(held));
      },
      held);
}

const std::string& GgufFile::text(std::string_view key) const {
  const GgufValue& held = value(key);
  if (const auto* const text = std::get_if<std::string>(&held)) return *text;
  fail("{}: key \"{}\": is no string but of type {}", path().string(), shown(key), gguf_type_name(held));
}

const std::vector<std::string>& GgufFile::texts(std::string_view key) const {
  const GgufValue& held = value(key);
  if (const auto* const texts = std::get_if<std::vector<std::string>>(&held)) return *texts;
  fail("{}: key \"{}\": is no array of strings but of type {}", path().string(), shown(key), gguf_type_name(held));
}

bool GgufFile::contains(std::string_view name) const {
  return std::any_of(tensors_.begin(), tensors_.end(), [&](const GgufTensor& tensor) { return tensor.name == name; });
}

const GgufTensor& GgufFile::tensor(std::string_view name) const {
  for (const GgufTensor& tensor : tensors_)
    if (tensor.name == name) return tensor;
  std::string held;
  for (size_t i = 0; i < tensors_.size() && i < 20; ++i) held += (i == 0 ? "" : ", ") + shown(tensors_[i].name);
  if (tensors_.size() > 20) held += fmt::format(" and {} more", tensors_.size() - 20);
  fail("{}: no tensor \"{}\"; it holds {}", path().string(), shown(name), held.empty() ? "none" : held);
}

}  // namespace sememe

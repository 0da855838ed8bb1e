#include "sememe/formats/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <set>
#include <tuple>

#include "sememe/base/error.h"
#include "sememe/base/json.h"
#include "sememe/formats/shown.h"

namespace sememe {
namespace {

static_assert(std::endian::native == std::endian::little,
              "the formats are little-endian and are mapped, not converted");

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kLongestHeader = 100'000'000;  // the reference implementation's limit
constexpr std::string_view kMetadataKey = "__metadata__";

/// JSON keeps the last of two equal keys silently, so they are looked for while parsing.
void reject_duplicate_keys(std::string_view header, const std::string& where) {
  std::vector<std::set<std::string>> open_objects;
  const auto look = [&](int, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::object_start) open_objects.emplace_back();
    if (event == Json::parse_event_t::object_end) open_objects.pop_back();
    if (event == Json::parse_event_t::key && !open_objects.back().insert(value.get<std::string>()).second)
      fail("{}: the key \"{}\" stands twice in the header", where, shown(value.get<std::string>()));
    return true;
  };
  static_cast<void>(Json::parse(header.begin(), header.end(), look));
}

std::map<std::string, std::string> parse_metadata(const Json& value, const std::string& where) {
  if (!value.is_object()) fail("{}: {} is not an object of strings", where, kMetadataKey);
  std::map<std::string, std::string> metadata;
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) fail("{}: {}: the value of \"{}\" is not a string", where, kMetadataKey, shown(key));
    metadata[key] = text.get<std::string>();
  }
  return metadata;
}

std::vector<int64_t> parse_naturals(const Json& entry, const char* key, const std::string& where) {
  if (!entry.contains(key) || !entry[key].is_array()) fail("{}: \"{}\" is missing or not a list", where, key);
  std::vector<int64_t> numbers;
  for (const Json& value : entry[key]) {
    if (!value.is_number_unsigned() || value.get<uint64_t>() > uint64_t{INT64_MAX})
      fail("{}: \"{}\" holds {}, which is not a natural number of 63 bits", where, key,
           shown(value.dump(-1, ' ', true)));
    numbers.push_back(value.get<int64_t>());
  }
  return numbers;
}

TensorView parse_tensor(const std::string& name, const Json& entry, std::span<const std::byte> data,
                        const std::string& file) {
  const std::string where = fmt::format("{}: tensor \"{}\"", file, shown(name));
  if (!entry.is_object()) fail("{}: its header entry is not an object", where);
  for (const auto& [key, unused] : entry.items())
    if (key != "dtype" && key != "shape" && key != "data_offsets") fail("{}: unknown key \"{}\"", where, shown(key));
  const auto type = json_member<std::string>(entry, "dtype", where);
  const std::optional<DType> dtype = dtype_from_name(type);
  if (!dtype) fail("{}: its type \"{}\" is not known", where, shown(type));
  std::vector<int64_t> shape = parse_naturals(entry, "shape", where);
  const std::vector<int64_t> offsets = parse_naturals(entry, "data_offsets", where);
  if (offsets.size() != 2) fail("{}: \"data_offsets\" has {} numbers, not 2", where, offsets.size());
  const int64_t begin = offsets[0], end = offsets[1];
  if (begin > end) fail("{}: it begins at {} and ends before, at {}", where, begin, end);
  if (static_cast<uint64_t>(end) > data.size())
    fail("{}: it ends at {} but the file holds {} bytes of data; was it copied whole?", where, end, data.size());
  const int64_t bytes = tensor_bytes(shape, *dtype, where);
  if (end - begin != bytes)
    fail("{}: its offsets span {} bytes but its shape and type need {}", where, end - begin, bytes);
  return {name, *dtype, std::move(shape), data.subspan(begin, bytes)};
}

/// The format wants the data filled without gaps: what no tensor owns could hide anything.
void check_cover(const std::vector<TensorView>& tensors, std::span<const std::byte> data, const std::string& file) {
  size_t reached = 0;
  for (const TensorView& tensor : tensors) {
    const auto begin = static_cast<size_t>(tensor.data.data() - data.data());
    if (begin < reached) fail("{}: tensor \"{}\" overlaps the one before it", file, shown(tensor.name));
    if (begin > reached)
      fail("{}: {} bytes before tensor \"{}\" belong to none", file, begin - reached, shown(tensor.name));
    reached = begin + tensor.data.size();
  }
  if (reached != data.size()) fail("{}: {} bytes after the last tensor belong to none", file, data.size() - reached);
}

void write_u64(AtomicFile& file, uint64_t value) {
  file.write(std::as_bytes(std::span(&value, 1)));
}

std::string render_header(std::span<const TensorView> tensors, const std::map<std::string, std::string>& metadata) {
  std::string header = "{";
  if (!metadata.empty()) header += fmt::format("\"{}\":{},", kMetadataKey, Json(metadata).dump());
  uint64_t offset = 0;
  for (const TensorView& tensor : tensors) {
    const uint64_t end = offset + static_cast<uint64_t>(tensor_bytes(tensor.shape, tensor.dtype, tensor.name));
    const Json entry = {{"dtype", dtype_name(tensor.dtype)}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
    header += Json(tensor.name).dump() + ":" + entry.dump() + ",";
    offset = end;
  }
  if (header.size() > 1) header.pop_back();
  header += "}";
  header.append((8 - header.size() % 8) % 8, ' ');
  return header;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : file_(path) {
  const std::string where = path.string();
  const std::span<const std::byte> bytes = file_.bytes();
  if (bytes.size() < kLengthBytes) fail("{}: holds {} bytes, too few for a safetensors file", where, bytes.size());
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kLengthBytes);
  if (length > kLongestHeader)
    fail("{}: says its header has {} bytes, more than {}; is it a safetensors file?", where, length, kLongestHeader);
  if (length > bytes.size() - kLengthBytes)
    fail("{}: says its header has {} bytes but only {} follow; was it copied whole?", where, length,
         bytes.size() - kLengthBytes);
  const std::string_view header(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes, length);
  if (!header.starts_with('{')) fail("{}: its header does not begin with '{{'; is it a safetensors file?", where);
  const Json entries = parse_json(header, where + ": header");
  reject_duplicate_keys(header, where);
  const std::span<const std::byte> data = bytes.subspan(kLengthBytes + length);
  for (const auto& [name, entry] : entries.items()) {
    if (name == kMetadataKey)
      metadata_ = parse_metadata(entry, where);
    else
      tensors_.push_back(parse_tensor(name, entry, data, where));
  }
  // Empty tensors share an offset with their neighbour: they come first, by name.
  const auto place = [](const TensorView& tensor) {
    return std::tuple(tensor.data.data(), tensor.data.size(), tensor.name);
  };
  std::sort(tensors_.begin(), tensors_.end(),
            [&](const TensorView& a, const TensorView& b) { return place(a) < place(b); });
  check_cover(tensors_, data, where);
}

bool SafetensorsFile::contains(std::string_view name) const {
  return std::any_of(tensors_.begin(), tensors_.end(), [&](const TensorView& tensor) { return tensor.name == name; });
}

const TensorView& SafetensorsFile::tensor(std::string_view name) const {
  for (const TensorView& tensor : tensors_)
    if (tensor.name == name) return tensor;
  std::string held;
  for (size_t i = 0; i < tensors_.size() && i < 20; ++i) held += (i == 0 ? "" : ", ") + shown(tensors_[i].name);
  if (tensors_.size() > 20) held += fmt::format(" and {} more", tensors_.size() - 20);
  fail("{}: no tensor \"{}\"; it holds {}", path().string(), shown(name), held.empty() ? "none" : held);
}

void write_safetensors(const std::filesystem::path& path, std::span<const TensorView> tensors,
                       const std::map<std::string, std::string>& metadata) {
  write_safetensors(
      path, tensors, [&](size_t index, const auto& write) { write(tensors[index].data); }, metadata);
}

void write_safetensors(const std::filesystem::path& path, std::span<const TensorView> headers, const GiveTensorData& give_data,
                       const std::map<std::string, std::string>& metadata) {
  const auto where_of = [&](const TensorView& tensor) { return fmt::format("{}: tensor \"{}\"", path.string(), shown(tensor.name)); };
  std::set<std::string_view> names;
  for (const TensorView& tensor : headers) {
    if (tensor.name == kMetadataKey) fail("{}: the name is reserved by the format", where_of(tensor));
    if (!names.insert(tensor.name).second) fail("{}: the name stands twice", where_of(tensor));
    tensor_bytes(tensor.shape, tensor.dtype, where_of(tensor));
  }
  std::string header;
  try {
    header = render_header(headers, metadata);
  } catch (const Json::exception&) {
    fail("{}: a tensor's name or the metadata is not valid UTF-8", path.string());
  }
  if (header.size() > kLongestHeader)
    fail("{}: the header would have {} bytes, more than {}", path.string(), header.size(), kLongestHeader);
  AtomicFile file(path);
  write_u64(file, header.size());
  file.write(header);
  for (size_t i = 0; i < headers.size(); ++i) {
    const uint64_t before = file.size();
    give_data(i, [&](std::span<const std::byte> part) { file.write(part); });
    const auto needed = static_cast<uint64_t>(tensor_bytes(headers[i].shape, headers[i].dtype, where_of(headers[i])));
    if (file.size() - before != needed)
      fail("{}: has {} bytes but its shape and type need {}", where_of(headers[i]), file.size() - before, needed);
  }
  file.commit();
}

}  // namespace sememe

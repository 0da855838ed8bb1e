#include "sememe/formats/npy.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "sememe/base/error.h"

namespace sememe {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr uint64_t kLongestHeader = 1 << 20;  // real headers have some 120 bytes
constexpr size_t kMostDimensions = 64;        // NumPy's own limit

struct Header {
  std::optional<std::string> descr;
  std::optional<bool> fortran_order;
  std::optional<std::vector<int64_t>> shape;
};

/// Parses the Python literal {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } and nothing else.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, std::string where) : text_(text), where_(std::move(where)) {}

  Header parse() {
    Header header;
    expect('{');
    while (!accept('}')) {
      const std::string key = string();
      expect(':');
      if (key == "descr" && !header.descr)
        header.descr = descr();
      else if (key == "fortran_order" && !header.fortran_order)
        header.fortran_order = boolean();
      else if (key == "shape" && !header.shape)
        header.shape = tuple();
      else
        reject("a key that is repeated or not known");
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_space();
    if (position_ != text_.size()) reject("text after the closing brace");
    if (!header.descr || !header.fortran_order || !header.shape) reject("descr, fortran_order or shape is missing");
    return header;
  }

 private:
  [[noreturn]] void reject(std::string_view what) const {
    fail("{}: header, byte {}: {}; is it a NumPy array file?", where_, position_, what);
  }
  void skip_space() {
    while (position_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[position_]))) ++position_;
  }
  bool accept(char wanted) {
    skip_space();
    if (position_ >= text_.size() || text_[position_] != wanted) return false;
    ++position_;
    return true;
  }
  void expect(char wanted) {
    if (!accept(wanted)) reject(fmt::format("'{}' was expected", wanted));
  }
  std::string string() {
    skip_space();
    const char quote = position_ < text_.size() ? text_[position_] : '\0';
    if (quote != '\'' && quote != '"') reject("a quoted string was expected");
    const size_t end = text_.find(quote, position_ + 1);
    if (end == std::string_view::npos) reject("a string does not end");
    const std::string value(text_.substr(position_ + 1, end - position_ - 1));
    position_ = end + 1;
    return value;
  }
  std::string descr() {
    skip_space();
    if (position_ < text_.size() && text_[position_] == '[') reject("records of several fields cannot be read");
    return string();
  }
  bool boolean() {
    skip_space();
    for (const auto& [word, value] : {std::pair{"True", true}, std::pair{"False", false}}) {
      if (!text_.substr(position_).starts_with(word)) continue;
      position_ += std::strlen(word);
      return value;
    }
    reject("True or False was expected");
  }
  int64_t natural() {
    skip_space();
    const size_t first = position_;
    int64_t value = 0;
    for (; position_ < text_.size() && std::isdigit(static_cast<unsigned char>(text_[position_])); ++position_)
      if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, text_[position_] - '0', &value))
        reject("a dimension does not fit 63 bits");
    if (position_ == first) reject("a natural number was expected");
    accept('L');  // Python 2 wrote 3L
    return value;
  }
  std::vector<int64_t> tuple() {
    std::vector<int64_t> values;
    expect('(');
    while (!accept(')')) {
      if (values.size() == kMostDimensions) reject("more than 64 dimensions");
      values.push_back(natural());
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return values;
  }

  std::string_view text_;
  std::string where_;
  size_t position_ = 0;
};

struct Kind {
  std::string_view code;
  DType dtype;
};

constexpr Kind kKinds[] = {{"b1", DType::kBool}, {"u1", DType::kU8},  {"i1", DType::kI8},  {"u2", DType::kU16},
                           {"i2", DType::kI16},  {"u4", DType::kU32}, {"i4", DType::kI32}, {"u8", DType::kU64},
                           {"i8", DType::kI64},  {"f2", DType::kF16}, {"f4", DType::kF32}, {"f8", DType::kF64}};

DType parse_descr(const std::string& descr, const std::string& where) {
  const char order = descr.empty() ? '\0' : descr[0];
  if (order == '>') fail("{}: is big-endian; save it as little-endian, for example with a.astype('<f4')", where);
  for (const Kind& kind : kKinds)
    if (descr.substr(order == '\0' ? 0 : 1) == kind.code &&
        (order == '<' || (order == '|' && element_bytes(kind.dtype) == 1)))
      return kind.dtype;
  std::string shown = descr.substr(0, 20);
  for (char& c : shown)
    if (static_cast<unsigned char>(c) < 32 || static_cast<unsigned char>(c) > 126) c = '?';
  fail("{}: elements of type \"{}\" cannot be read; booleans, integers and floats can", where, shown);
}

std::string descr_of(DType dtype) {
  for (const Kind& kind : kKinds)
    if (kind.dtype == dtype) return (element_bytes(dtype) == 1 ? '|' : '<') + std::string(kind.code);
  fail("NumPy has no elements of type {}; convert to F32 first", dtype_name(dtype));
}

/// The header of a float32 array, of the same length for every number of rows so that it can be written again when they are known.
std::string render_header(int64_t rows, int64_t width) {
  const int64_t shape[] = {rows, width};
  return npy_header(shape, DType::kF32);
}

}  // namespace

NpyArray parse_npy(std::span<const std::byte> bytes, const std::string& where) {
  const std::string_view all(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (!all.starts_with(kMagic)) fail("{}: is not a NumPy array file (.npy)", where);
  if (all.size() < 8) fail("{}: ends inside its header; was it copied whole?", where);
  const int version = static_cast<unsigned char>(all[6]);
  if (version < 1 || version > 3 || all[7] != 0)
    fail("{}: is of version {}.{}; 1 to 3 can be read", where, version, int{all[7]});
  const size_t length_bytes = version == 1 ? 2 : 4, before = 8 + length_bytes;
  if (all.size() < before) fail("{}: ends inside its header; was it copied whole?", where);
  uint32_t length = 0;
  std::memcpy(&length, all.data() + 8, length_bytes);
  if (length > kLongestHeader || length > all.size() - before)
    fail("{}: says its header has {} bytes but {} follow; was it copied whole?", where, length, all.size() - before);
  const Header header = HeaderParser(all.substr(before, length), where).parse();
  NpyArray array{parse_descr(*header.descr, where), *header.shape, {}, *header.fortran_order && header.shape->size() > 1};
  const int64_t needed = tensor_bytes(array.shape, array.dtype, where);
  const size_t held = all.size() - before - length;
  if (static_cast<uint64_t>(needed) != held)
    fail("{}: its shape needs {} bytes of data but the file holds {}; was it copied whole?", where, needed, held);
  array.data = bytes.subspan(before + length);
  return array;
}

std::string npy_header(std::span<const int64_t> shape, DType dtype) {
  constexpr size_t kMultiple = 64, kShortest = 128, kBeforeText = 10;
  std::string text = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}{}), }}", descr_of(dtype), fmt::join(shape, ", "),
                                 shape.size() == 1 ? "," : "");
  const size_t whole = std::max(kShortest, (kBeforeText + text.size() + 1 + kMultiple - 1) / kMultiple * kMultiple);
  text.append(whole - kBeforeText - 1 - text.size(), ' ');
  text += '\n';
  std::string header(kMagic);
  header += std::string_view("\x01\x00", 2);
  header += static_cast<char>(text.size() & 0xFF);
  header += static_cast<char>(text.size() >> 8);
  return header + text;
}

NpyFile::NpyFile(const std::filesystem::path& path) : file_(path), array_(parse_npy(file_.bytes(), path.string())) {
  if (array_.by_columns) fail("{}: is stored column by column; save it with numpy.ascontiguousarray", path.string());
}

NpyWriter::NpyWriter(const std::filesystem::path& path, int64_t width) : file_(path), width_(width), rows_(0) {
  if (width < 1) fail("{}: rows of {} numbers cannot be written", path.string(), width);
  file_.write(render_header(0, width_));
}

void NpyWriter::write(std::span<const float> values) {
  if (values.size() % width_ != 0) fail("{} values are not whole rows of {}", values.size(), width_);
  file_.write(std::as_bytes(values));
  rows_ += static_cast<int64_t>(values.size()) / width_;
}

void NpyWriter::commit() {
  const std::string header = render_header(rows_, width_);
  file_.write_at(0, std::as_bytes(std::span(header.data(), header.size())));
  file_.commit();
}

}  // namespace sememe

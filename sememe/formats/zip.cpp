#include "sememe/formats/zip.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>

#include "sememe/base/error.h"
#include "sememe/formats/shown.h"

namespace sememe {
namespace {

// APPNOTE.TXT, sections 4.3 to 4.5.
constexpr uint32_t kLocalMark = 0x04034b50, kDirectoryMark = 0x02014b50, kEndMark = 0x06054b50;
constexpr uint32_t kWideEndMark = 0x06064b50, kWideLocatorMark = 0x07064b50;
constexpr uint64_t kLocalBytes = 30, kDirectoryBytes = 46, kEndBytes = 22, kWideEndBytes = 56, kWideLocatorBytes = 20;
constexpr uint64_t kLongestComment = 0xFFFF;
constexpr uint32_t kElsewhere = 0xFFFFFFFF;  // the value stands in the 64-bit field
constexpr uint16_t kWideField = 1, kPaddingField = 0x4246;
constexpr uint16_t kStored = 0, kDeflated = 8;
constexpr uint64_t kAlignment = 64;
constexpr uint64_t kDeflateRatio = 1032;  // no more than this comes out of a byte

template <class T>
T number_at(std::span<const std::byte> bytes, uint64_t place) {
  T value = 0;
  std::memcpy(&value, bytes.data() + place, sizeof value);
  return value;
}

uint32_t crc_of(std::span<const std::byte> bytes) {
  return static_cast<uint32_t>(crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

/// Finds the central directory and reads it.
class DirectoryReader {
 public:
  DirectoryReader(std::span<const std::byte> file, std::string where) : file_(file), where_(std::move(where)) {}

  std::vector<ZipEntry> read() {
    find_directory();
    std::vector<ZipEntry> entries;
    uint64_t inflated = 0;
    for (uint64_t place = begin_; place < end_;) {
      entries.push_back(read_entry(place));
      if (entries.back().deflated) inflated += entries.back().size;  // cannot overflow: each is at most 1032 times its bytes here
    }
    if (entries.size() != count_) fail("{}: its directory holds {} entries, not the {} it says", where_, entries.size(), count_);
    const uint64_t most = file_.size() * ZipFile::kLargestRatio + ZipFile::kSmallBytes;
    if (inflated > most)
      fail("{}: would inflate from {} to {} bytes, more than {}; it is refused as a zip bomb", where_, file_.size(), inflated, most);
    check_order(entries);
    return entries;
  }

 private:
  uint64_t find_end() const {
    if (file_.size() < kEndBytes) fail("{}: holds {} bytes, too few for a zip archive", where_, file_.size());
    const uint64_t last = file_.size() - kEndBytes;
    for (uint64_t back = 0; back <= std::min(last, kLongestComment); ++back)
      if (number_at<uint32_t>(file_, last - back) == kEndMark && number_at<uint16_t>(file_, last - back + 20) == back) return last - back;
    fail("{}: is not a zip archive, or its end is missing; was it copied whole?", where_);
  }

  void find_directory() {
    const uint64_t end = find_end();
    uint64_t size = number_at<uint32_t>(file_, end + 12);
    begin_ = number_at<uint32_t>(file_, end + 16);
    count_ = number_at<uint16_t>(file_, end + 10);
    end_ = end;
    bool parted = number_at<uint32_t>(file_, end + 4) != 0 || number_at<uint16_t>(file_, end + 8) != count_;
    if (end >= kWideLocatorBytes && number_at<uint32_t>(file_, end - kWideLocatorBytes) == kWideLocatorMark) {
      const auto wide = number_at<uint64_t>(file_, end - kWideLocatorBytes + 8);
      if (wide > end - kWideLocatorBytes || end - kWideLocatorBytes - wide < kWideEndBytes || number_at<uint32_t>(file_, wide) != kWideEndMark)
        fail("{}: its 64-bit directory is not where it says", where_);
      size = number_at<uint64_t>(file_, wide + 40);
      begin_ = number_at<uint64_t>(file_, wide + 48);
      count_ = number_at<uint64_t>(file_, wide + 32);
      parted = number_at<uint64_t>(file_, wide + 24) != count_ || number_at<uint32_t>(file_, wide + 16) != 0;
      end_ = wide;
    }
    if (parted) fail("{}: is one of several parts of an archive, which cannot be read", where_);
    if (begin_ > end_ || size != end_ - begin_)
      fail("{}: its directory of {} bytes at {} does not end at {}; was it copied whole?", where_, size, begin_, end_);
  }

  /// The entry whose directory record is at `place`, which moves on to the next.
  ZipEntry read_entry(uint64_t& place) {
    const uint64_t left = end_ - place;
    if (left < kDirectoryBytes || number_at<uint32_t>(file_, place) != kDirectoryMark)
      fail("{}: its directory is broken at byte {}", where_, place);
    const auto flags = number_at<uint16_t>(file_, place + 8), method = number_at<uint16_t>(file_, place + 10);
    const uint64_t name_bytes = number_at<uint16_t>(file_, place + 28), extra_bytes = number_at<uint16_t>(file_, place + 30);
    const uint64_t comment_bytes = number_at<uint16_t>(file_, place + 32);
    if (left - kDirectoryBytes < name_bytes + extra_bytes + comment_bytes)
      fail("{}: its directory is broken at byte {}", where_, place);
    ZipEntry entry;
    entry.name.assign(reinterpret_cast<const char*>(file_.data()) + place + kDirectoryBytes, name_bytes);
    const std::string where = fmt::format("{}: entry \"{}\"", where_, shown(entry.name));
    entry.crc = number_at<uint32_t>(file_, place + 16);
    uint64_t packed = number_at<uint32_t>(file_, place + 20), local = number_at<uint32_t>(file_, place + 42);
    entry.size = number_at<uint32_t>(file_, place + 24);
    read_wide(file_.subspan(place + kDirectoryBytes + name_bytes, extra_bytes), {&entry.size, &packed, &local}, where);
    if (flags & 1) fail("{}: is encrypted", where);
    if (method != kStored && method != kDeflated) fail("{}: is compressed by method {}; stored and deflated can be read", where, method);
    entry.deflated = method == kDeflated;
    if (!entry.deflated && packed != entry.size) fail("{}: is stored in {} bytes but says it has {}", where, packed, entry.size);
    entry.data = find_data(entry.name, local, packed, where);
    if (entry.deflated && entry.size / kDeflateRatio > packed)
      fail("{}: {} bytes cannot inflate to {}", where, packed, entry.size);
    place += kDirectoryBytes + name_bytes + extra_bytes + comment_bytes;
    return entry;
  }

  /// Replaces those values that are said to stand in the 64-bit field.
  static void read_wide(std::span<const std::byte> extra, std::initializer_list<uint64_t*> values, const std::string& where) {
    if (std::none_of(values.begin(), values.end(), [](const uint64_t* value) { return *value == kElsewhere; })) return;
    while (extra.size() >= 4) {
      const auto kind = number_at<uint16_t>(extra, 0);
      const uint64_t size = number_at<uint16_t>(extra, 2);
      extra = extra.subspan(4);
      if (size > extra.size()) break;
      if (kind == kWideField) {
        uint64_t place = 0;
        for (uint64_t* const value : values) {
          if (*value != kElsewhere) continue;
          if (size - place < 8) fail("{}: its 64-bit sizes are missing", where);
          *value = number_at<uint64_t>(extra, place);
          place += 8;
        }
        return;
      }
      extra = extra.subspan(size);
    }
    // 0xFFFFFFFF may also be what the value is.
  }

  std::span<const std::byte> find_data(const std::string& name, uint64_t local, uint64_t packed, const std::string& where) const {
    if (local > begin_ || begin_ - local < kLocalBytes || number_at<uint32_t>(file_, local) != kLocalMark)
      fail("{}: is not where the directory says, at byte {}; was it copied whole?", where, local);
    const uint64_t name_bytes = number_at<uint16_t>(file_, local + 26), extra_bytes = number_at<uint16_t>(file_, local + 28);
    const uint64_t begin = local + kLocalBytes + name_bytes + extra_bytes;
    if (begin > begin_ || packed > begin_ - begin) fail("{}: its {} bytes do not fit into the file; was it copied whole?", where, packed);
    if (name_bytes != name.size() || std::memcmp(file_.data() + local + kLocalBytes, name.data(), name_bytes) != 0)
      fail("{}: is called otherwise at its place", where);
    return file_.subspan(begin, packed);
  }

  void check_order(std::vector<ZipEntry>& entries) const {
    std::sort(entries.begin(), entries.end(), [](const ZipEntry& a, const ZipEntry& b) { return a.data.data() < b.data.data(); });
    for (size_t i = 1; i < entries.size(); ++i) {
      const ZipEntry &before = entries[i - 1], &entry = entries[i];
      // Between two entries' data stands at least the second's header.
      if (entry.data.data() - before.data.data() < static_cast<int64_t>(before.data.size() + kLocalBytes + entry.name.size()))
        fail("{}: entry \"{}\" overlaps the one before it", where_, shown(entry.name));
    }
    std::vector<std::string_view> names;
    for (const ZipEntry& entry : entries) names.push_back(entry.name);
    std::sort(names.begin(), names.end());
    const auto twice = std::adjacent_find(names.begin(), names.end());
    if (twice != names.end()) fail("{}: entry \"{}\" stands twice in it", where_, shown(*twice));
  }

  std::span<const std::byte> file_;
  std::string where_;
  uint64_t begin_ = 0, end_ = 0, count_ = 0;  // of the directory
};

std::vector<std::byte> inflate_all(const ZipEntry& entry, const std::string& where) {
  std::vector<std::byte> output(entry.size);
  z_stream stream{};
  if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) fail("{}: zlib cannot start", where);
  std::span<const std::byte> input = entry.data;
  std::span<std::byte> room = output;
  std::byte beyond{};  // zlib wants a place to write to even where nothing is left to come
  int status = Z_OK;
  while (status == Z_OK) {
    constexpr size_t kMost = size_t{1} << 30;
    const size_t in = std::min(input.size(), kMost), out = std::min(room.size(), kMost);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(input.data()));
    stream.avail_in = static_cast<uInt>(in);
    stream.next_out = reinterpret_cast<Bytef*>(room.empty() ? &beyond : room.data());
    stream.avail_out = static_cast<uInt>(room.empty() ? 1 : out);
    status = inflate(&stream, Z_NO_FLUSH);
    if (room.empty() && stream.avail_out == 0) status = Z_DATA_ERROR;  // more came than was said
    input = input.subspan(in - stream.avail_in);
    if (!room.empty()) room = room.subspan(out - stream.avail_out);
  }
  inflateEnd(&stream);
  if (status != Z_STREAM_END || !room.empty()) fail("{}: cannot be inflated to its {} bytes; was it copied whole?", where, entry.size);
  return output;
}

template <class T>
void append(std::string& text, T value) {
  text.append(reinterpret_cast<const char*>(&value), sizeof value);
}

}  // namespace

ZipFile::ZipFile(const std::filesystem::path& path) : file_(path), entries_(DirectoryReader(file_.bytes(), path.string()).read()) {}

const ZipEntry* ZipFile::find(std::string_view name) const {
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const ZipEntry& entry) { return entry.name == name; });
  return found == entries_.end() ? nullptr : &*found;
}

ZipContent ZipFile::read(const ZipEntry& entry) const {
  const std::string where = fmt::format("{}: entry \"{}\"", path().string(), shown(entry.name));
  ZipContent content;
  if (entry.deflated) content.inflated = inflate_all(entry, where);
  content.bytes = entry.deflated ? std::span<const std::byte>(content.inflated) : entry.data;
  if (crc_of(content.bytes) != entry.crc) fail("{}: is damaged: its CRC-32 is not the one that the file says", where);
  return content;
}

ZipWriter::ZipWriter(const std::filesystem::path& path, uint64_t wide_from) : file_(path), path_(path.string()), wide_from_(wide_from) {}

void ZipWriter::add(const std::string& name, std::span<const std::byte> bytes) {
  for (const Written& entry : entries_)
    if (entry.name == name) fail("{}: entry \"{}\" stands twice", path_, shown(name));
  if (name.size() > 0x7FFF) fail("{}: an entry's name has {} bytes", path_, name.size());
  const Written entry{name, bytes.size(), file_.size(), crc_of(bytes)};
  const bool wide = entry.size >= wide_from_;
  std::string extra;
  if (wide) {
    append<uint16_t>(extra, kWideField);
    append<uint16_t>(extra, 16);
    append<uint64_t>(extra, entry.size);
    append<uint64_t>(extra, entry.size);
  }
  const uint64_t unpadded = file_.size() + kLocalBytes + name.size() + extra.size() + 4;
  const uint64_t padding = (kAlignment - unpadded % kAlignment) % kAlignment;
  append<uint16_t>(extra, kPaddingField);
  append<uint16_t>(extra, static_cast<uint16_t>(padding));
  extra.append(padding, 'Z');
  std::string header;
  append<uint32_t>(header, kLocalMark);
  append<uint16_t>(header, wide ? 45 : 20);
  append<uint16_t>(header, 0x0800);  // names are UTF-8
  append<uint16_t>(header, kStored);
  append<uint32_t>(header, 0x00210000);  // 1 January 1980, so that equal content gives equal files
  append<uint32_t>(header, entry.crc);
  append<uint32_t>(header, wide ? kElsewhere : static_cast<uint32_t>(entry.size));
  append<uint32_t>(header, wide ? kElsewhere : static_cast<uint32_t>(entry.size));
  append<uint16_t>(header, static_cast<uint16_t>(name.size()));
  append<uint16_t>(header, static_cast<uint16_t>(extra.size()));
  file_.write(header + name + extra);
  file_.write(bytes);
  entries_.push_back(entry);
}

void ZipWriter::commit() {
  const uint64_t begin = file_.size();
  std::string directory;
  for (const Written& entry : entries_) {
    const bool wide_size = entry.size >= wide_from_, wide_place = entry.place >= wide_from_;
    std::string extra;
    if (wide_size || wide_place) {
      append<uint16_t>(extra, kWideField);
      append<uint16_t>(extra, static_cast<uint16_t>(16 * wide_size + 8 * wide_place));
      for (int i = 0; i < 2 * wide_size; ++i) append<uint64_t>(extra, entry.size);
      if (wide_place) append<uint64_t>(extra, entry.place);
    }
    append<uint32_t>(directory, kDirectoryMark);
    append<uint16_t>(directory, 45);
    append<uint16_t>(directory, extra.empty() ? 20 : 45);
    append<uint16_t>(directory, 0x0800);
    append<uint16_t>(directory, kStored);
    append<uint32_t>(directory, 0x00210000);
    append<uint32_t>(directory, entry.crc);
    append<uint32_t>(directory, wide_size ? kElsewhere : static_cast<uint32_t>(entry.size));
    append<uint32_t>(directory, wide_size ? kElsewhere : static_cast<uint32_t>(entry.size));
    append<uint16_t>(directory, static_cast<uint16_t>(entry.name.size()));
    append<uint16_t>(directory, static_cast<uint16_t>(extra.size()));
    directory.append(10, '\0');  // no comment, the first disk, no attributes
    append<uint32_t>(directory, wide_place ? kElsewhere : static_cast<uint32_t>(entry.place));
    directory += entry.name + extra;
  }
  const uint64_t count = entries_.size(), size = directory.size(), wide_end = begin + size;
  const bool wide = begin >= wide_from_ || size >= wide_from_ || count >= 0xFFFF;
  if (wide) {
    append<uint32_t>(directory, kWideEndMark);
    append<uint64_t>(directory, kWideEndBytes - 12);
    append<uint16_t>(directory, 45);
    append<uint16_t>(directory, 45);
    append<uint64_t>(directory, 0);  // this disk, the directory's disk
    append<uint64_t>(directory, count);
    append<uint64_t>(directory, count);
    append<uint64_t>(directory, size);
    append<uint64_t>(directory, begin);
    append<uint32_t>(directory, kWideLocatorMark);
    append<uint32_t>(directory, 0);
    append<uint64_t>(directory, wide_end);
    append<uint32_t>(directory, 1);
  }
  append<uint32_t>(directory, kEndMark);
  append<uint32_t>(directory, 0);
  append<uint16_t>(directory, static_cast<uint16_t>(std::min<uint64_t>(count, 0xFFFF)));
  append<uint16_t>(directory, static_cast<uint16_t>(std::min<uint64_t>(count, 0xFFFF)));
  append<uint32_t>(directory, wide ? kElsewhere : static_cast<uint32_t>(size));
  append<uint32_t>(directory, wide ? kElsewhere : static_cast<uint32_t>(begin));
  append<uint16_t>(directory, 0);
  file_.write(directory);
  file_.commit();
}

}  // namespace sememe

#include "sememe/data/byte_stream.h"

#include <zlib.h>
#include <zstd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "sememe/base/error.h"
#include "sememe/base/progress.h"

namespace sememe {
namespace {

constexpr size_t kBlock = 1 << 18;

class PlainStream : public ByteStream {
 public:
  explicit PlainStream(const std::filesystem::path& path) : path_(path.string()) {
    if (std::filesystem::is_directory(path)) fail("{}: is a folder, a file was expected", path_);
    file_.reset(std::fopen(path.c_str(), "rbe"));
    if (!file_) fail("{}: cannot open: {}", path_, std::strerror(errno));
  }
  size_t read(std::span<char> buffer) override {
    const size_t got = std::fread(buffer.data(), 1, buffer.size(), file_.get());
    if (got < buffer.size() && std::ferror(file_.get())) fail("{}: cannot read: {}", path_, std::strerror(errno));
    return got;
  }
  /// The first bytes, which read() will give again.
  std::string_view peek(std::span<char> buffer) {
    const size_t got = read(buffer);
    if (std::fseek(file_.get(), 0, SEEK_SET) != 0) fail("{}: is not a regular file", path_);
    return {buffer.data(), got};
  }
  const std::string& path() const { return path_; }

 private:
  struct Close {
    void operator()(FILE* file) const { std::fclose(file); }
  };
  std::string path_;
  std::unique_ptr<FILE, Close> file_;
};

class GzipStream : public ByteStream {
 public:
  explicit GzipStream(std::unique_ptr<PlainStream> input) : input_(std::move(input)), block_(kBlock) {
    if (inflateInit2(&state_, 15 + 16) != Z_OK) fail("{}: no memory to decompress it", input_->path());
  }
  ~GzipStream() override { inflateEnd(&state_); }
  size_t read(std::span<char> buffer) override {
    state_.next_out = reinterpret_cast<Bytef*>(buffer.data());
    state_.avail_out = static_cast<uInt>(buffer.size());
    while (state_.avail_out > 0) {
      if (state_.avail_in == 0 && !refill()) break;
      if (!inside_) inflateReset(&state_);  // another member follows
      inside_ = true;
      const int status = inflate(&state_, Z_NO_FLUSH);
      if (status == Z_STREAM_END) inside_ = false;
      if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR)
        fail("{}: damaged gzip data: {}", input_->path(), state_.msg ? state_.msg : "not a gzip member");
    }
    return buffer.size() - state_.avail_out;
  }

 private:
  bool refill() {
    const size_t got = input_->read(block_);
    if (got == 0 && inside_) fail("{}: ends inside its gzip data; was it copied whole?", input_->path());
    state_.next_in = reinterpret_cast<Bytef*>(block_.data());
    state_.avail_in = static_cast<uInt>(got);
    return got > 0;
  }
  std::unique_ptr<PlainStream> input_;
  std::vector<char> block_;
  z_stream state_{};
  bool inside_ = true;
};

class ZstdStream : public ByteStream {
 public:
  explicit ZstdStream(std::unique_ptr<PlainStream> input)
      : input_(std::move(input)), block_(kBlock), state_(ZSTD_createDStream()) {
    if (!state_) fail("{}: no memory to decompress it", input_->path());
  }
  size_t read(std::span<char> buffer) override {
    ZSTD_outBuffer out{buffer.data(), buffer.size(), 0};
    while (out.pos < out.size) {
      // What the decoder still holds comes out before more is read.
      const size_t before = out.pos, consumed = in_.pos;
      if (in_.pos < in_.size || wanted_ != 0) {
        const size_t status = ZSTD_decompressStream(state_.get(), &out, &in_);
        if (ZSTD_isError(status)) fail("{}: damaged zstd data: {}", input_->path(), ZSTD_getErrorName(status));
        if (out.pos > before || in_.pos > consumed) {
          wanted_ = status;
          continue;
        }
      }
      in_ = {block_.data(), input_->read(block_), 0};
      if (in_.size > 0) continue;
      if (wanted_ != 0) fail("{}: ends inside its zstd data; was it copied whole?", input_->path());
      break;
    }
    return out.pos;
  }

 private:
  struct Free {
    void operator()(ZSTD_DStream* state) const { ZSTD_freeDStream(state); }
  };
  std::unique_ptr<PlainStream> input_;
  std::vector<char> block_;
  std::unique_ptr<ZSTD_DStream, Free> state_;
  ZSTD_inBuffer in_{nullptr, 0, 0};
  size_t wanted_ = 0;
};

/// Bytes of the valid sequence at `at`, 0 if it is not valid UTF-8 (overlong, surrogate, above U+10FFFF, cut).
size_t sequence_bytes(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0u; };
  const auto follows = [&](size_t i, unsigned low = 0x80, unsigned high = 0xBF) {
    return byte(i) >= low && byte(i) <= high;
  };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return follows(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const bool second = follows(1, lead == 0xE0 ? 0xA0 : 0x80, lead == 0xED ? 0x9F : 0xBF);
    return second && follows(2) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const bool second = follows(1, lead == 0xF0 ? 0x90 : 0x80, lead == 0xF4 ? 0x8F : 0xBF);
    return second && follows(2) && follows(3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

std::unique_ptr<ByteStream> open_bytes(const std::filesystem::path& path) {
  auto plain = std::make_unique<PlainStream>(path);
  std::array<char, 4> first{};
  const std::string_view magic = plain->peek(first);
  if (magic.starts_with("\x1f\x8b")) return std::make_unique<GzipStream>(std::move(plain));
  if (magic == "\x28\xb5\x2f\xfd") return std::make_unique<ZstdStream>(std::move(plain));
  return plain;
}

std::string read_decompressed(const std::filesystem::path& path, uint64_t max_bytes) {
  const auto bytes = open_bytes(path);
  std::string text;
  std::vector<char> block(kBlock);
  while (const size_t got = bytes->read(block)) {
    if (text.size() + got > max_bytes) fail("{}: holds more than {} bytes", path.string(), max_bytes);
    text.append(block.data(), got);
  }
  return text;
}

LineReader::LineReader(const std::filesystem::path& path) : path_(path), bytes_(open_bytes(path)) {}

std::string LineReader::where() const {
  return fmt::format("{}:{}", path_.string(), line_);
}

std::optional<std::string> LineReader::next_raw() {
  std::string line;
  for (;;) {
    if (position_ == block_.size()) {
      block_.resize(kBlock);
      block_.resize(bytes_->read(block_));
      position_ = 0;
      if (block_.empty()) return line.empty() ? std::nullopt : std::optional(std::move(line));
    }
    const size_t end = block_.find('\n', position_);
    const size_t stop = end == std::string::npos ? block_.size() : end + 1;
    line.append(block_, position_, stop - position_);
    position_ = stop;
    if (line.size() > kLongestLine)
      fail("{}:{}: a line of more than {} bytes; is it text?", path_.string(), line_ + 1, kLongestLine);
    if (end != std::string::npos) return line;
  }
}

void LineReader::check_text(std::string& text) {
  if (const size_t nul = text.find('\0'); nul != std::string::npos)
    fail("{}: is binary: a NUL at byte {}", path_.string(), offset_ + nul);
  const size_t size = text.size();
  const size_t invalid = repair_utf8(text);
  if (invalid > 0 && invalid_ == 0) note(fmt::format("{}: bytes that are not UTF-8 are read as U+FFFD", where()));
  invalid_ += invalid;
  if (invalid_ > 64 && invalid_ * 100 > (offset_ + size) * 3)
    fail("{}: is binary or not UTF-8: {} of its first {} bytes are invalid; convert it with iconv", path_.string(),
         invalid_, offset_ + size);
  offset_ += size;
}

std::optional<std::string> LineReader::next() {
  std::optional<std::string> line = next_raw();
  if (!line) return line;
  ++line_;
  check_text(*line);
  if (line->ends_with('\n')) line->pop_back();
  if (line->ends_with('\r')) line->pop_back();
  return line;
}

size_t repair_utf8(std::string& text) {
  size_t at = 0;
  while (at < text.size() && sequence_bytes(text, at) > 0) at += sequence_bytes(text, at);
  if (at == text.size()) return 0;
  std::string repaired = text.substr(0, at);
  size_t invalid = 0;
  while (at < text.size()) {
    const size_t bytes = sequence_bytes(text, at);
    if (bytes == 0) {
      ++invalid;
      repaired += "\xEF\xBF\xBD";
    } else {
      repaired.append(text, at, bytes);
    }
    at += bytes == 0 ? 1 : bytes;
  }
  text = std::move(repaired);
  return invalid;
}

}  // namespace sememe

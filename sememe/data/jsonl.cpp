#include "sememe/data/jsonl.h"

#include <zstd.h>

#include <vector>

#include "sememe/base/error.h"

namespace sememe {

std::optional<Json> JsonlReader::next() {
  while (const std::optional<std::string> line = lines_.next()) {
    if (line->find_first_not_of(" \t") == std::string::npos) continue;
    Json object = parse_json(*line, where());
    if (!object.is_object()) fail("{}: is JSON but not an object", where());
    return object;
  }
  return std::nullopt;
}

struct JsonlWriter::Compressor {
  Compressor() : state(ZSTD_createCStream()) {
    ZSTD_CCtx_setParameter(state, ZSTD_c_compressionLevel, 6);
    ZSTD_CCtx_setParameter(state, ZSTD_c_checksumFlag, 1);
  }
  ~Compressor() { ZSTD_freeCStream(state); }
  ZSTD_CStream* state;
  std::vector<char> out = std::vector<char>(ZSTD_CStreamOutSize());
};

JsonlWriter::JsonlWriter(const std::filesystem::path& path) : file_(path) {
  if (path.extension() == ".zst") compressor_ = std::make_unique<Compressor>();
}

JsonlWriter::~JsonlWriter() = default;

void JsonlWriter::write(const Json& object) {
  pending_ += object.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  constexpr size_t kEnough = 1 << 20;
  if (pending_.size() >= kEnough) compress(false);
}

void JsonlWriter::compress(bool last) {
  if (compressor_) {
    ZSTD_inBuffer in{pending_.data(), pending_.size(), 0};
    for (bool done = false; !done;) {
      ZSTD_outBuffer out{compressor_->out.data(), compressor_->out.size(), 0};
      const size_t left = ZSTD_compressStream2(compressor_->state, &out, &in, last ? ZSTD_e_end : ZSTD_e_continue);
      if (ZSTD_isError(left)) fail("zstd: {}", ZSTD_getErrorName(left));
      file_.write(std::string_view(compressor_->out.data(), out.pos));
      done = last ? left == 0 : in.pos == in.size;
    }
  } else {
    file_.write(pending_);
  }
  pending_.clear();
}

void JsonlWriter::commit() {
  compress(true);
  file_.commit();
}

}  // namespace sememe

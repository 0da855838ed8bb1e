#include "sememe/formats/npz.h"

#include <algorithm>
#include <cstring>

#include "sememe/base/error.h"
#include "sememe/formats/npy.h"
#include "sememe/formats/shown.h"

namespace sememe {
namespace {

constexpr std::string_view kEnding = ".npy";

/// Column-major to row-major: the first index runs fastest in the file and slowest in memory.
std::vector<std::byte> by_rows(const NpyArray& array) {
  std::vector<std::byte> rows(array.data.size());
  const int64_t bytes = element_bytes(array.dtype), dimensions = static_cast<int64_t>(array.shape.size());
  std::vector<int64_t> index(dimensions), stride(dimensions, 1);
  for (int64_t i = 1; i < dimensions; ++i) stride[i] = stride[i - 1] * array.shape[i - 1];
  int64_t from = 0;
  for (size_t to = 0; to < rows.size(); to += bytes) {
    std::memcpy(rows.data() + to, array.data.data() + from * bytes, bytes);
    for (int64_t i = dimensions - 1; i >= 0; --i) {
      from += stride[i];
      if (++index[i] < array.shape[i]) break;
      from -= stride[i] * index[i];
      index[i] = 0;
    }
  }
  return rows;
}

}  // namespace

NpzFile::NpzFile(const std::filesystem::path& path) : archive_(path) {
  for (const ZipEntry& entry : archive_.entries()) {
    const std::string where = fmt::format("{}: array \"{}\"", path.string(), shown(entry.name));
    if (!entry.name.ends_with(kEnding)) fail("{}: is not a .npy file, which is all that a .npz holds", where);
    ZipContent content = archive_.read(entry);
    NpyArray array = parse_npy(content.bytes, where);
    if (array.by_columns) {
      owned_.push_back(by_rows(array));
      array.data = owned_.back();
    } else if (entry.deflated) {
      owned_.push_back(std::move(content.inflated));  // moving leaves the bytes where they are
    }
    tensors_.push_back({entry.name.substr(0, entry.name.size() - kEnding.size()), array.dtype, std::move(array.shape), array.data});
  }
  std::sort(tensors_.begin(), tensors_.end(), [](const TensorView& a, const TensorView& b) { return a.name < b.name; });
}

void write_npz(const std::filesystem::path& path, std::span<const TensorView> tensors) {
  ZipWriter archive(path);
  std::vector<std::byte> file;
  for (const TensorView& tensor : tensors) {
    const std::string where = fmt::format("{}: array \"{}\"", path.string(), shown(tensor.name));
    if (tensor.data.size() != static_cast<uint64_t>(tensor_bytes(tensor.shape, tensor.dtype, where)))
      fail("{}: has {} bytes, which do not match its shape", where, tensor.data.size());
    const std::string header = npy_header(tensor.shape, tensor.dtype);
    file.resize(header.size() + tensor.data.size());
    std::memcpy(file.data(), header.data(), header.size());
    if (!tensor.data.empty()) std::memcpy(file.data() + header.size(), tensor.data.data(), tensor.data.size());
    archive.add(tensor.name + std::string(kEnding), file);
  }
  archive.commit();
}

}  // namespace sememe

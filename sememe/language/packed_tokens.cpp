#include "sememe/language/packed_tokens.h"

#include <algorithm>

#include "sememe/base/error.h"
#include "sememe/base/interrupt.h"
#include "sememe/base/random.h"

namespace sememe {

int64_t pack_tokens(Corpus& corpus, const Tokenizer& tokenizer, const std::filesystem::path& path) {
  AtomicFile file(path);
  std::vector<int32_t> ids;
  int64_t count = 0;
  const auto flush = [&] {
    file.write(std::as_bytes(std::span<const int32_t>(ids)));
    count += static_cast<int64_t>(ids.size());
    ids.clear();
  };
  while (const std::optional<Document> document = corpus.next()) {
    ids.push_back(tokenizer.end_of_text());
    const std::vector<int32_t> text = tokenizer.encode(document->text);
    ids.insert(ids.end(), text.begin(), text.end());
    if (ids.size() > 1 << 20) flush();
    if (interrupted()) throw Interrupted("stopped while the corpus was tokenised; resume with --resume");
  }
  flush();
  file.commit();
  return count;
}

PackedTokens::PackedTokens(const std::filesystem::path& path, int64_t context, uint64_t seed)
    : file_(path), context_(context), seed_(seed) {
  const std::span<const std::byte> bytes = file_.bytes();
  if (bytes.size() % sizeof(int32_t) != 0) fail("{}: {} bytes are no whole number of token ids", path.string(), bytes.size());
  ids_ = {reinterpret_cast<const int32_t*>(bytes.data()), bytes.size() / sizeof(int32_t)};
  windows_ = size() / context_ - 1;  // one window's room for the shift and the last target
  if (windows_ < 1)
    fail("{}: {} tokens are too few to train with a context of {}; give a longer text", path.string(), size(), context);
}

Batch PackedTokens::batch(int64_t index, int64_t rows) {
  torch::Tensor inputs = torch::empty({rows, context_}, torch::kInt64), targets = torch::empty_like(inputs);
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t number = index * rows + row;
    if (number / windows_ != epoch_) {
      epoch_ = number / windows_;
      RandomStream stream(seed_, fmt::format("batches/epoch {}", epoch_));
      shift_ = static_cast<int64_t>(stream.below(context_));
      order_ = permutation(windows_, stream);
    }
    const int32_t* const first = ids_.data() + order_[number % windows_] * context_ + shift_;
    std::copy_n(first, context_, inputs.mutable_data_ptr<int64_t>() + row * context_);
    std::copy_n(first + 1, context_, targets.mutable_data_ptr<int64_t>() + row * context_);
  }
  return {inputs, targets};
}

}  // namespace sememe

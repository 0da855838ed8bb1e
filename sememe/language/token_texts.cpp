#include "sememe/language/token_texts.h"

#include <algorithm>

namespace sememe {

std::vector<std::vector<int32_t>> token_texts(Corpus& corpus, const Tokenizer& tokenizer, int64_t least, int64_t most, int64_t count) {
  std::vector<std::vector<int32_t>> texts;
  while (static_cast<int64_t>(texts.size()) < count) {
    std::optional<Document> document = corpus.next();
    if (!document) break;
    // A token is rarely more than sixteen bytes; what lies behind need not be read.
    document->text.resize(std::min<size_t>(document->text.size(), static_cast<size_t>(most) * 16));
    std::vector<int32_t> ids = tokenizer.encode(document->text);
    ids.insert(ids.begin(), tokenizer.opening());
    ids.resize(std::min<size_t>(ids.size(), static_cast<size_t>(most)));
    if (static_cast<int64_t>(ids.size()) >= least) texts.push_back(std::move(ids));
  }
  return texts;
}

}  // namespace sememe

#include "sememe/text/unigram.h"

#include <algorithm>

#include "sememe/text/utf8.h"

namespace sememe {
namespace {

/// SentencePiece's: a character that is no token costs this much more than the rarest token.
constexpr double kUnknownPenalty = 10;
/// SentencePiece's: what a user defined is worth so much for each byte after the first, which beats all that it could be made of.
constexpr double kUserDefinedBonus = 0.1;

}  // namespace

Unigram::Unigram(const TokenizerFile& file)
    : byte_ids_(file.byte_tokens()), unknown_(file.unknown), byte_fallback_(file.byte_fallback), single_precision_(file.single_precision) {
  double least = 0;
  bool any = false;
  for (size_t id = 0; id < file.tokens.size(); ++id) {
    const TokenizerFile::Token& token = file.tokens[id];
    const bool user_defined = token.type == TokenType::kUserDefined;
    const std::string name = user_defined ? file.normalizer.normalize_token(token.name) : token.name;
    const double score = user_defined ? static_cast<double>(name.size()) * kUserDefinedBonus - kUserDefinedBonus : token.score;
    scores_.push_back(single_precision_ ? static_cast<float>(score) : score);
    if (token.encodes()) trie_.insert(name, static_cast<int32_t>(id));
    if (token.type != TokenType::kNormal) continue;
    least = any ? std::min(least, token.score) : token.score;
    any = true;
  }
  unknown_score_ = least - kUnknownPenalty;
  if (single_precision_) unknown_score_ = static_cast<float>(unknown_score_);
}

void Unigram::segment(std::string_view word, std::vector<int32_t>& ids) const {
  constexpr int32_t kNotReached = -2, kUnknown = -1;
  struct End {
    double score = 0;
    size_t start = 0;
    int32_t id = kNotReached;
  };
  std::vector<End> best(word.size() + 1);
  best[0].id = kUnknown;
  for (size_t start = 0; start < word.size();) {
    const size_t length = first_character(word.substr(start)).length;
    bool covered = false;
    const auto offer = [&](size_t end, int32_t id, double score) {
      const double sum = best[start].score + score;
      const double rounded = single_precision_ ? static_cast<float>(sum) : sum;
      if (best[end].id == kNotReached || rounded > best[end].score) best[end] = {rounded, start, id};
    };
    trie_.for_each_prefix(word.substr(start), [&](const Trie::Match& match) {
      offer(start + match.length, match.id, scores_[match.id]);
      covered |= match.length == length;
    });
    if (!covered) offer(start + length, kUnknown, unknown_score_);
    start += length;
  }
  std::vector<End> path;
  for (size_t end = word.size(); end > 0; end = best[end].start) path.push_back({0, end, best[end].id});
  std::reverse(path.begin(), path.end());
  size_t start = 0;
  for (const End& step : path) {
    const std::string_view part = word.substr(start, step.start - start);
    const auto has_token = [&](char byte) { return byte_ids_[static_cast<unsigned char>(byte)] >= 0; };
    if (step.id >= 0) {
      ids.push_back(step.id);
    } else if (byte_fallback_ && std::all_of(part.begin(), part.end(), has_token)) {
      for (const char byte : part) ids.push_back(byte_ids_[static_cast<unsigned char>(byte)]);
    } else if (unknown_ >= 0 && (ids.empty() || ids.back() != unknown_)) {
      ids.push_back(unknown_);
    }
    start = step.start;
  }
}

}  // namespace sememe

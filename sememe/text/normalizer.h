#pragma once
// What is done to a text before it is cut into words: Unicode's normal forms, SentencePiece's spaces and compiled maps, BERT's
// cleaning.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sememe/base/json.h"

namespace sememe {

class Normalizer {
 public:
  /// One step: text in, text out.
  class Step {
   public:
    virtual ~Step() = default;
    virtual std::string apply(std::string_view text) const = 0;
    /// Whether added tokens' contents take the step, too; what is put before a text they do not.
    virtual bool applies_to_tokens() const { return true; }
  };

  Normalizer() = default;
  /// Reads the part "normalizer" of a tokenizer.json, which may be null.
  /// @throws Error naming `where` and the type that is malformed or not supported
  Normalizer(const Json& normalizer, std::string_view where);

  /// True if texts stay as they are.
  bool empty() const { return steps_.empty(); }
  std::string normalize(std::string_view text) const;
  /// The same for the content of an added token.
  std::string normalize_token(std::string_view content) const;

 private:
  void add(const Json& normalizer, std::string_view where, int depth);
  /// Notes that a step may make texts so many times as long; of several steps these multiply.
  void grow(double times, std::string_view where);

  std::vector<std::shared_ptr<const Step>> steps_;
  double growth_ = 1;  ///< how many times longer replacements may make a text
};

}  // namespace sememe

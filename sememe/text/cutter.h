#pragma once
// How a normalised text is cut into words: splitting rules one after another, each on the pieces of the one before, and the spaces that
// some tokenizers put before a piece.

#include <string>
#include <string_view>
#include <vector>

#include "sememe/base/json.h"
#include "sememe/text/splitting_rule.h"
#include "sememe/text/utf8.h"

namespace sememe {

class Cutter {
 public:
  /// Texts stay whole.
  Cutter() = default;
  /// Reads the part "pre_tokenizer" of a tokenizer.json, which may be null.
  /// @param spaces_come whether the texts that are to be cut may hold U+0020
  /// @throws Error naming `where` and the type or expression that is malformed or not supported
  Cutter(const Json& pre_tokenizer, bool spaces_come, std::string_view where);

  /// Words stand for their bytes, in the byte-level alphabet.
  bool byte_level() const { return byte_level_; }

  /// Calls `visit(word)` for each word of `text`, in order.
  /// @param is_start whether nothing stands before `text`
  template <class Visit>
  void cut(std::string_view text, bool is_start, const Visit& visit) const {
    if (!text.empty()) cut(text, is_start, 0, visit);
  }

 private:
  struct Step {
    SplittingRule rule = SplittingRule::kWhole;
    std::string space = "";       ///< what a space becomes
    bool prefix = false;          ///< `space` is put before a piece that does not begin with it
    bool start_only = false;      ///< but only before the first piece of a text
    bool replace_spaces = false;  ///< U+0020 becomes `space`
  };

  void add(const Json& pre_tokenizer, bool spaces_come, std::string_view where, int depth);
  void add_metaspace(const Json& metaspace, std::string_view where);

  template <class Visit>
  void cut(std::string_view text, bool is_start, size_t level, const Visit& visit) const {
    if (level == steps_.size()) return visit(text);
    const Step& step = steps_[level];
    std::string changed;
    if (step.replace_spaces) text = changed = replaced(text, " ", step.space);
    if (step.prefix && (is_start || !step.start_only) && !text.starts_with(step.space)) text = changed = step.space + std::string(text);
    if (level + 1 == steps_.size()) return for_each_word(step.rule, text, visit);
    for_each_word(step.rule, text, [&](std::string_view piece) {
      cut(piece, is_start, level + 1, visit);
      is_start = false;
    });
  }

  std::vector<Step> steps_;
  bool byte_level_ = false;
};

}  // namespace sememe

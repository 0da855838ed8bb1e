#include "sememe/text/cutter.h"

#include "sememe/base/error.h"
#include "sememe/formats/shown.h"

namespace sememe {

Cutter::Cutter(const Json& pre_tokenizer, bool spaces_come, std::string_view where) {
  if (!pre_tokenizer.is_null()) add(pre_tokenizer, spaces_come, where, 0);
}

void Cutter::add(const Json& pre_tokenizer, bool spaces_come, std::string_view where, int depth) {
  const auto type = json_member<std::string>(pre_tokenizer, "type", where);
  if (byte_level_) fail("{}: nothing may come after ByteLevel, but \"{}\" does", where, shown(type));
  if (type == "Sequence" && depth < 8) {
    for (const Json& part : json_member<std::vector<Json>>(pre_tokenizer, "pretokenizers", where)) add(part, spaces_come, where, depth + 1);
  } else if (type == "ByteLevel") {
    byte_level_ = true;
    const bool split = json_member_or<bool>(pre_tokenizer, "use_regex", true, where);
    const bool prefix = json_member_or<bool>(pre_tokenizer, "add_prefix_space", true, where);
    if (split || prefix) steps_.push_back({.rule = split ? SplittingRule::kGpt2 : SplittingRule::kWhole, .space = " ", .prefix = prefix});
  } else if (type == "Digits") {
    const bool each = json_member_or<bool>(pre_tokenizer, "individual_digits", false, where);
    steps_.push_back({.rule = each ? SplittingRule::kEachDigit : SplittingRule::kDigitRuns});
  } else if (type == "Split") {
    const Json pattern = json_member<Json>(pre_tokenizer, "pattern", where);
    const auto regex = json_member_or<std::string>(pattern, "Regex", "", where);
    const auto behavior = json_member<std::string>(pre_tokenizer, "behavior", where);
    const bool invert = json_member_or<bool>(pre_tokenizer, "invert", false, where);
    // Gemma's, which comes after its spaces became U+2581.
    if (!spaces_come && json_member_or<std::string>(pattern, "String", "", where) == " ") return;
    const std::optional<SplittingRule> rule = rule_of_pattern(regex);
    if (!rule)
      fail("{}: Split by {} is none of the rules that are known", where,
           pattern.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 400));
    // The known expressions match all of a text: what is between the matches is nothing.
    if (behavior != "Isolated" && !(behavior == "Removed" && invert))
      fail("{}: Split with behavior \"{}\" is not supported, only Isolated is", where, shown(behavior));
    steps_.push_back({.rule = *rule});
  } else if (type == "Metaspace") {
    add_metaspace(pre_tokenizer, where);
  } else if (type == "WhitespaceSplit") {
    steps_.push_back({.rule = SplittingRule::kWhiteSpace});
  } else if (type == "BertPreTokenizer") {
    steps_.push_back({.rule = SplittingRule::kBert});
  } else {
    fail("{}: type \"{}\" is not supported; ByteLevel, Split, Digits, Metaspace, WhitespaceSplit, BertPreTokenizer and Sequence are", where,
         shown(type));
  }
}

void Cutter::add_metaspace(const Json& metaspace, std::string_view where) {
  if (const auto replacement = json_member<std::string>(metaspace, "replacement", where); replacement != "\xE2\x96\x81")
    fail("{}: Metaspace of \"{}\" is not supported, only of U+2581", where, shown(replacement));
  // Files from before version 0.15 of `tokenizers` say add_prefix_space instead.
  const bool prefix = json_member_or<bool>(metaspace, "add_prefix_space", true, where);
  const auto scheme = json_member_or<std::string>(metaspace, "prepend_scheme", prefix ? "always" : "never", where);
  if (scheme != "always" && scheme != "first" && scheme != "never")
    fail("{}: Metaspace with prepend_scheme \"{}\" is not supported; always, first and never are", where, shown(scheme));
  const bool split = json_member_or<bool>(metaspace, "split", true, where);
  steps_.push_back({.rule = split ? SplittingRule::kMetaspaces : SplittingRule::kWhole,
                    .space = "\xE2\x96\x81",
                    .prefix = scheme != "never",
                    .start_only = scheme == "first",
                    .replace_spaces = true});
}

}  // namespace sememe

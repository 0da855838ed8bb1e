#include "sememe/text/chat_template.h"

#include "sememe/base/error.h"
#include "sememe/formats/shown.h"
#include "sememe/text/utf8.h"

namespace sememe {
namespace {

/// What a ChatML template has the system say by default: the text between the marks of a system's turn that holds no expression. In
/// templates a newline stands as itself or as \n.
std::string default_system_of(std::string_view jinja) {
  constexpr std::string_view kMark = "<|im_start|>system";
  for (size_t at = jinja.find(kMark); at != std::string_view::npos; at = jinja.find(kMark, at + 1)) {
    std::string_view rest = jinja.substr(at + kMark.size());
    if (rest.starts_with("\\n")) {
      rest.remove_prefix(2);
    } else if (rest.starts_with("\n")) {
      rest.remove_prefix(1);
    } else {
      continue;
    }
    const size_t end = rest.find("<|im_end|>");
    if (end == std::string_view::npos || end == 0) continue;
    const std::string_view text = rest.substr(0, end);
    if (text.find('\'') == std::string_view::npos && text.find('"') == std::string_view::npos && text.find("{{") == std::string_view::npos)
      return replaced(text, "\\n", "\n");
  }
  return "";
}

}  // namespace

ChatTemplate::ChatTemplate(const Tokenizer& tokenizer) {
  const std::string& jinja = tokenizer.chat_template();
  if (jinja.empty()) fail("the model has no chat template: give it plain text");
  const auto has = [&](std::string_view mark) { return jinja.find(mark) != std::string::npos; };
  const std::optional<int32_t> beginning = tokenizer.beginning_of_text();
  const std::string bos = beginning ? std::string(tokenizer.token(*beginning)) : "";
  const auto eos = [&] { return std::string(tokenizer.token(tokenizer.end_of_text())); };
  const std::string start = has("bos_token") ? bos : "";
  if (has("<|im_start|>") && has("<|im_end|>")) {
    name_ = "ChatML";
    start_ = start;
    system_ = {"<|im_start|>system\n", "<|im_end|>\n"};
    user_ = {"<|im_start|>user\n", "<|im_end|>\n"};
    assistant_ = {"<|im_start|>assistant\n", "<|im_end|>\n"};
    default_system_ = default_system_of(jinja);
    answer_ = assistant_.before;
  } else if (has("<|start_header_id|>") && has("<|eot_id|>")) {
    name_ = "Llama 3";
    start_ = start;
    system_ = {"<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>"};
    user_ = {"<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"};
    assistant_ = {"<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"};
    answer_ = assistant_.before;
    trims_ = true;
    if (has("Cutting Knowledge Date")) {
      system_.before += "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n";
      system_always_ = true;
    }
  } else if (has("<start_of_turn>") && has("<end_of_turn>")) {
    name_ = "Gemma";
    start_ = start;
    has_system_ = has("first_user_prefix");  // since Gemma 3
    folds_system_ = true;
    system_ = {"", has("'\\n\\n'") || has("'\n\n'") ? "\n\n" : "\n"};
    user_ = {"<start_of_turn>user\n", "<end_of_turn>\n"};
    assistant_ = {"<start_of_turn>model\n", "<end_of_turn>\n"};
    answer_ = assistant_.before;
    alternates_ = trims_ = true;
  } else if (has("[INST]") && has("<<SYS>>")) {
    name_ = "Llama 2";
    folds_system_ = true;
    system_ = {"<<SYS>>\n", "\n<</SYS>>\n\n"};
    user_ = {bos + "[INST] ", " [/INST]"};
    assistant_ = {" ", " " + eos()};
    alternates_ = trims_ = trims_folded_ = true;
  } else if (has("[INST]") && !has("[SYSTEM_PROMPT]")) {
    name_ = "Mistral";
    start_ = bos;
    has_system_ = false;
    // Its versions differ in spaces.
    user_ = {has("[INST] ") ? "[INST] " : "[INST]", has(" [/INST]") ? " [/INST]" : "[/INST]"};
    assistant_ = {has("' ' + message['content']") || has("\" \" + message[\"content\"]") ? " " : "", eos()};
    alternates_ = true;
  } else if (has("<|user|>") && has("<|assistant|>") && has("<|end|>")) {
    name_ = "Phi-3";
    start_ = start;
    system_ = {"<|system|>\n", "<|end|>\n"};
    user_ = {"<|user|>\n", "<|end|>\n"};
    assistant_ = {"<|assistant|>\n", "<|end|>\n"};
    answer_ = assistant_.before;
    end_ = has("eos_token") ? eos() : "";
  } else if (has("<|user|>\\n' + message['content'] + eos_token") || has("<|user|>\n' + message['content'] + eos_token")) {
    name_ = "Zephyr";
    start_ = start;
    system_ = {"<|system|>\n", eos() + "\n"};
    user_ = {"<|user|>\n", eos() + "\n"};
    assistant_ = {"<|assistant|>\n", eos() + "\n"};
    answer_ = assistant_.before;
  } else {
    fail(
        "the chat template that begins with \"{}\" is none of the forms that are known: ChatML, Llama 2, Llama 3, Gemma, Mistral, Phi-3, "
        "Zephyr",
        shown(jinja));
  }
}

std::string ChatTemplate::trimmed(std::string_view content) const {
  constexpr std::string_view kSpaces = " \t\n\v\f\r";
  const size_t start = content.find_first_not_of(kSpaces);
  if (!trims_) return std::string(content);
  return start == std::string_view::npos ? "" : std::string(content.substr(start, content.find_last_not_of(kSpaces) + 1 - start));
}

std::string ChatTemplate::render(std::span<const ChatMessage> messages, bool answer_follows) const {
  std::string text = start_, folded;
  const bool has_message = !messages.empty() && messages[0].role == "system";
  if (has_message && !has_system_)
    fail("the chat template of {} has no place for what the system says: put it into the first message of the user", name_);
  if (has_message || system_always_ || !default_system_.empty()) {
    const std::string said = !has_message ? default_system_ : folds_system_ ? messages[0].content : trimmed(messages[0].content);
    (folds_system_ ? folded : text) += system_.before + said + system_.after;
  }
  if (has_message) messages = messages.subspan(1);
  for (size_t i = 0; i < messages.size(); ++i) {
    const ChatMessage& message = messages[i];
    const bool is_user = message.role == "user";
    if (!is_user && message.role != "assistant")
      fail("message {} is of \"{}\": system, which only the first may be, user and assistant are known", i + has_message + 1,
           shown(message.role));
    if (alternates_ && is_user != (i % 2 == 0))
      fail("message {}: in {}, user and assistant must take turns, the user first", i + has_message + 1, name_);
    const Turn& turn = is_user ? user_ : assistant_;
    text += turn.before;
    const std::string before = i == 0 ? folded : "";
    text += (trims_folded_ ? trimmed(before + message.content) : before + trimmed(message.content)) + turn.after;
  }
  return text + (answer_follows ? answer_ : end_);
}

}  // namespace sememe

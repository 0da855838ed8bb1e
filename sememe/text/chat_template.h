#pragma once
// A conversation as the text that a chat model was trained to see. Models name their form by a Jinja template; the forms in use are few, so
// each is known by the marks that its template writes and rendered here, and a template with other marks is refused.

#include <span>
#include <string>
#include <string_view>

#include "sememe/text/tokenizer.h"

namespace sememe {

struct ChatMessage {
  std::string role;  ///< "system", which only the first may be, "user" or "assistant"
  std::string content;
};

class ChatTemplate {
 public:
  /// The form that the tokenizer's chat_template() writes: ChatML (Qwen, SmolLM2), Llama 2, Llama 3 (of 3.1 and later with the date that
  /// its template falls back to), Gemma, Mistral, Phi-3 or Zephyr.
  /// @throws Error showing the template's beginning if it is none of these, or that there is none
  explicit ChatTemplate(const Tokenizer& tokenizer);

  std::string_view name() const { return name_; }
  /// The text, to be encoded with Tokenizer::Specials::kAsTokens; what begins texts stands in it where the form wants it.
  /// @param answer_follows the text ends where the model's answer begins
  /// @throws Error if a role is unknown, or turns come in an order for which the form has no text
  std::string render(std::span<const ChatMessage> messages, bool answer_follows = true) const;

 private:
  struct Turn {
    std::string before, after;
  };

  std::string trimmed(std::string_view content) const;

  std::string name_;
  std::string start_;  ///< before everything
  Turn system_, user_, assistant_;
  bool has_system_ = true;
  bool folds_system_ = false;   ///< what the system says stands inside the first user's turn, between `system_`'s marks
  std::string default_system_;  ///< said where no message of the system is
  bool system_always_ = false;  ///< the system's turn is there without a message, too
  bool alternates_ = false;     ///< user and assistant must take turns, the user first
  bool trims_ = false;          ///< white space around contents falls away
  bool trims_folded_ = false;   ///< but inside the first turn, not between what the system and the user say
  std::string answer_;          ///< where an answer follows
  std::string end_;             ///< where none follows
};

}  // namespace sememe

// The half of published_tokenizers_oracle.py that is asked for ids and texts, a line at a time: without LibTorch, which takes half a second to load,
// it answers hundreds of times as often as the program would.

#include <gtest/gtest.h>

#include <cstring>
#include <iostream>
#include <span>

#include "sememe/base/error.h"
#include "sememe/base/files.h"
#include "sememe/base/json.h"
#include "sememe/formats/gguf.h"
#include "sememe/text/chat_template.h"
#include "sememe/text/tokenizer.h"

namespace sememe {
namespace {

Tokenizer load(const std::filesystem::path& path) {
  return path.extension() == ".gguf" ? Tokenizer::of_gguf(GgufFile(path)) : Tokenizer::load(path);
}

/// Takes and leaves texts and ids in files, since they need not be Unicode.
void answer(const Json& question) {
  const auto path = [&](const char* key) { return std::filesystem::path(json_member<std::string>(question, key, "a question")); };
  const Tokenizer tokenizer = load(path("tokenizer"));
  if (question.contains("text")) {
    const bool specials = json_member_or<bool>(question, "specials", false, "a question");
    const std::vector<int32_t> ids =
        tokenizer.encode(read_file(path("text")), specials ? Tokenizer::Specials::kAsTokens : Tokenizer::Specials::kAsText);
    write_file(path("out"), std::string(reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(int32_t)));
  } else if (question.contains("ids")) {
    const std::string bytes = read_file(path("ids"));
    std::vector<int32_t> ids(bytes.size() / sizeof(int32_t));
    std::memcpy(ids.data(), bytes.data(), ids.size() * sizeof(int32_t));
    write_file(path("out"), tokenizer.decode(ids));
  } else {
    std::vector<ChatMessage> messages;
    for (const Json& message : json_member<std::vector<Json>>(question, "messages", "a question"))
      messages.push_back({json_member<std::string>(message, "role", "a message"), json_member<std::string>(message, "content", "a message")});
    write_file(path("out"), ChatTemplate(tokenizer).render(messages, json_member<bool>(question, "follows", "a question")));
  }
}

TEST(Oracle, DISABLED_AnswersUntilTheInputEnds) {
  for (std::string line; std::getline(std::cin, line);) {
    std::string error;
    try {
      answer(Json::parse(line));
    } catch (const Error& caught) {
      error = caught.what();
    }
    std::cout << "answer: " << error << std::endl;
  }
}

}  // namespace
}  // namespace sememe

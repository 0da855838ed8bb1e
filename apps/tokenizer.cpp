#include "sememe/text/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "apps/command.h"
#include "sememe/base/error.h"
#include "sememe/base/files.h"
#include "sememe/base/json.h"
#include "sememe/data/corpus.h"
#include "sememe/formats/gguf.h"
#include "sememe/text/chat_template.h"

namespace sememe {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void print_and_write(const Json& result, const std::filesystem::path& json) {
  fmt::print("{}\n", result.dump());
  if (!json.empty()) write_json(json, result);
}

struct TrainTokenizer {
  CommonOptions common;
  std::vector<std::filesystem::path> texts;
  std::filesystem::path out;
  int64_t vocabulary = 4096;

  void run() const {
    apply(common);
    const auto start = Clock::now();
    int64_t bytes = 0;
    size_t file = 0;
    std::unique_ptr<Corpus> corpus;
    const auto next = [&]() -> std::optional<std::string> {
      while (true) {
        if (!corpus && file == texts.size()) return std::nullopt;
        if (!corpus) corpus = open_corpus(texts[file++]);
        if (std::optional<Document> document = corpus->next()) {
          bytes += static_cast<int64_t>(document->text.size());
          return std::move(document->text);
        }
        corpus.reset();
      }
    };
    const Tokenizer tokenizer = Tokenizer::train(next, vocabulary);
    tokenizer.save(out);
    print_and_write({{"vocabulary", tokenizer.size()}, {"bytes", bytes}, {"seconds", seconds_since(start)}},
                    common.json);
  }
};

Tokenizer load(const std::filesystem::path& path) {
  return path.extension() == ".gguf" ? Tokenizer::of_gguf(GgufFile(path)) : Tokenizer::load(path);
}

constexpr const char* kTokenizerHelp =
    "tokenizer.json, its folder, vocab.json, vocab.txt, a .model of SentencePiece, llama2.c's tokenizer.bin, or a .gguf file";

struct EncodeText {
  CommonOptions common;
  std::filesystem::path tokenizer_path, text, out;
  int repeat = 1;
  bool specials = false;

  void run() const {
    apply(common);
    const Tokenizer tokenizer = load(tokenizer_path);
    const std::string bytes = read_file(text);
    std::vector<int32_t> ids;
    std::vector<double> seconds;
    for (int i = 0; i < repeat; ++i) {
      const auto start = Clock::now();
      ids = tokenizer.encode(bytes, specials ? Tokenizer::Specials::kAsTokens : Tokenizer::Specials::kAsText);
      seconds.push_back(seconds_since(start));
    }
    if (!out.empty()) {
      AtomicFile file(out);
      file.write(std::as_bytes(std::span(ids)));
      file.commit();
    }
    const double best = *std::min_element(seconds.begin(), seconds.end());
    print_and_write({{"tokens", ids.size()},
                     {"bytes", bytes.size()},
                     {"seconds", best},
                     {"megabytes_per_second", static_cast<double>(bytes.size()) / 1e6 / std::max(best, 1e-9)}},
                    common.json);
  }
};

struct DecodeIds {
  CommonOptions common;
  std::filesystem::path tokenizer_path, ids, out;

  void run() const {
    apply(common);
    const Tokenizer tokenizer = load(tokenizer_path);
    const std::string bytes = read_file(ids);
    if (bytes.size() % sizeof(int32_t) != 0) fail("{}: {} bytes are no whole number of int32", ids.string(), bytes.size());
    std::vector<int32_t> values(bytes.size() / sizeof(int32_t));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    const std::string text = tokenizer.decode(values);
    write_file(out, text);
    print_and_write({{"tokens", values.size()}, {"bytes", text.size()}}, common.json);
  }
};

struct TokenizerInfo {
  CommonOptions common;
  std::filesystem::path tokenizer_path;

  void run() const {
    apply(common);
    const auto start = Clock::now();
    const Tokenizer tokenizer = load(tokenizer_path);
    const double seconds = seconds_since(start);
    const std::optional<int32_t> beginning = tokenizer.beginning_of_text();
    print_and_write({{"tokens", tokenizer.size()},
                     {"beginning_of_text", beginning ? Json(*beginning) : Json(nullptr)},
                     {"adds_beginning_of_text", tokenizer.adds_beginning_of_text()},
                     {"ends", tokenizer.ends()},
                     {"load_seconds", seconds}},
                    common.json);
  }
};

struct RenderChat {
  CommonOptions common;
  std::filesystem::path tokenizer_path, messages_path, out;
  bool complete = false;

  void run() const {
    apply(common);
    const ChatTemplate chat(load(tokenizer_path));
    const std::string where = messages_path.string();
    const Json messages = read_json(messages_path);
    if (!messages.is_array()) fail("{}: is no array of messages with \"role\" and \"content\"", where);
    std::vector<ChatMessage> conversation;
    for (const Json& message : messages)
      conversation.push_back({json_member<std::string>(message, "role", where), json_member<std::string>(message, "content", where)});
    const std::string text = chat.render(conversation, !complete);
    if (!out.empty()) write_file(out, text);
    print_and_write({{"form", chat.name()}, {"text", text}}, common.json);
  }
};

void add_train(CLI::App& group) {
  const auto command = std::make_shared<TrainTokenizer>();
  CLI::App* const app = add_command(group, "train", "Learn a byte-level BPE from text",
                                    "sememe tokenizer train --text corpus.txt --vocabulary 4096 --out tokenizer.json");
  app->add_option("--text", command->texts, "Text, JSONL, plain or compressed; give it again for more")->required();
  app->add_option("--vocabulary", command->vocabulary, "Number of tokens")->capture_default_str();
  app->add_option("--out", command->out, "tokenizer.json to write")->required();
  add_common_options(*app, command->common);
  app->callback([command] { command->run(); });
}

void add_encode(CLI::App& group) {
  const auto command = std::make_shared<EncodeText>();
  CLI::App* const app = add_command(group, "encode", "Encode one file as one text, byte for byte",
                                    "sememe tokenizer encode --tokenizer tokenizer.json --text a.txt --out ids.bin");
  app->add_option("--tokenizer", command->tokenizer_path, kTokenizerHelp)->required();
  app->add_option("--text", command->text, "File to encode")->required();
  app->add_option("--out", command->out, "Ids as little-endian int32; without it only the count and time are shown");
  app->add_flag("--special-tokens", command->specials, "Names of special tokens in the text become the tokens");
  app->add_option("--repeat", command->repeat, "Encode this often and show the fastest time")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  add_common_options(*app, command->common);
  app->callback([command] { command->run(); });
}

void add_decode(CLI::App& group) {
  const auto command = std::make_shared<DecodeIds>();
  CLI::App* const app = add_command(group, "decode", "Write the text that ids stand for",
                                    "sememe tokenizer decode --tokenizer tokenizer.json --ids ids.bin --out a.txt");
  app->add_option("--tokenizer", command->tokenizer_path, kTokenizerHelp)->required();
  app->add_option("--ids", command->ids, "Ids as little-endian int32")->required();
  app->add_option("--out", command->out, "Text to write")->required();
  add_common_options(*app, command->common);
  app->callback([command] { command->run(); });
}

void add_info(CLI::App& group) {
  const auto command = std::make_shared<TokenizerInfo>();
  CLI::App* const app = add_command(group, "info", "Show what a tokenizer says of itself", "sememe tokenizer info --tokenizer model.gguf");
  app->add_option("--tokenizer", command->tokenizer_path, kTokenizerHelp)->required();
  add_common_options(*app, command->common);
  app->callback([command] { command->run(); });
}

void add_chat(CLI::App& group) {
  const auto command = std::make_shared<RenderChat>();
  CLI::App* const app = add_command(group, "chat", "Write a conversation as the model's chat template has it",
                                    "sememe tokenizer chat --tokenizer model.gguf --messages messages.json --out prompt.txt");
  app->add_option("--tokenizer", command->tokenizer_path, kTokenizerHelp)->required();
  app->add_option("--messages", command->messages_path, R"(JSON: [{"role": "user", "content": "..."}, ...])")->required();
  app->add_option("--out", command->out, "Text to write");
  app->add_flag("--complete", command->complete, "No answer of the model follows");
  add_common_options(*app, command->common);
  app->callback([command] { command->run(); });
}

}  // namespace

void add_tokenizer_commands(CLI::App& program) {
  CLI::App* const group = program.add_subcommand("tokenizer", "Learn and use subword vocabularies");
  group->require_subcommand(1);
  add_train(*group);
  add_encode(*group);
  add_decode(*group);
  add_info(*group);
  add_chat(*group);
}

}  // namespace sememe

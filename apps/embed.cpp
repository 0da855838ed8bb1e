#include <fmt/format.h>

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "apps/command.h"
#include "sememe/base/error.h"
#include "sememe/base/interrupt.h"
#include "sememe/base/json.h"
#include "sememe/base/progress.h"
#include "sememe/data/byte_stream.h"
#include "sememe/data/corpus.h"
#include "sememe/formats/npy.h"

namespace sememe {
namespace {

/// One text a line; of .jsonl the member "text" of each. Nothing is left out, so that row i of the embeddings is line i.
class Sentences {
 public:
  explicit Sentences(const std::filesystem::path& path) {
    const bool jsonl = path.string().find(".jsonl") != std::string::npos;
    if (jsonl) {
      documents_ = open_corpus(path);
    } else {
      lines_ = std::make_unique<LineReader>(path);
    }
  }
  std::optional<std::string> next() {
    if (lines_) return lines_->next();
    std::optional<Document> document = documents_->next();
    return document ? std::optional(std::move(document->text)) : std::nullopt;
  }

 private:
  std::unique_ptr<LineReader> lines_;
  std::unique_ptr<Corpus> documents_;
};

struct EmbedCommand {
  CommonOptions common;
  ModelOptions model;
  std::vector<std::string> sentences;
  std::filesystem::path text, out;
  int64_t batch = 8192;

  void run() const {
    apply(common);
    if (sentences.empty() == text.empty()) fail_usage("give either --text FILE or --sentence TEXT, once for each text");
    if (!text.empty() && out.empty()) fail_usage("--text {}: give --out, where the embeddings go", text.string());
    const SentenceEncoder encoder = load_encoder_on(model, common);
    const int64_t width = encoder.network->config().width;
    std::optional<NpyWriter> file;
    if (!out.empty()) file.emplace(out, width);
    int64_t rows = 0, shortened = 0;
    const auto embed = [&](std::span<const std::string> texts) {
      const Embeddings some = encoder.embed(texts, batch);
      if (file) file->write({some.rows.const_data_ptr<float>(), static_cast<size_t>(some.rows.numel())});
      rows += some.rows.size(0);
      shortened += some.shortened;
      return some.rows;
    };
    Json result = {{"width", width}, {"pooling", encoder.pooling.description()}};
    if (text.empty()) {
      show(embed(sentences), result);
    } else {
      embed_lines(embed);
    }
    if (file) file->commit();
    if (shortened > 0)
      note(fmt::format("{} of {} texts are longer than {} tokens; what stands behind these is left out", shortened, rows, encoder.text_context()));
    result["texts"] = rows;
    result["shortened"] = shortened;
    if (!common.json.empty()) write_json(common.json, result);
    fmt::print("{}[{}, {}]: a row for each text, {}\n", out.empty() ? "" : out.string() + ": ", rows, width, encoder.pooling.description());
  }

  void embed_lines(const std::function<torch::Tensor(std::span<const std::string>)>& embed) const {
    // So many that grouping them by length spares most of the padding.
    constexpr size_t kAtOnce = 1024;
    int64_t total = 0, done = 0;
    for (Sentences lines(text); lines.next();) ++total;
    if (total == 0) fail("{}: holds no text", text.string());
    Sentences lines(text);
    std::vector<std::string> texts;
    Progress progress("embed", total, "texts");
    for (bool more = true; more;) {
      std::optional<std::string> line = lines.next();
      more = line.has_value();
      if (line) texts.push_back(std::move(*line));
      if (texts.empty() || (more && texts.size() < kAtOnce)) continue;
      embed(texts);
      progress.update(done += static_cast<int64_t>(texts.size()));
      texts.clear();
      if (interrupted()) throw Interrupted("stopped while embedding; nothing was written");
    }
  }

  /// How near each two are.
  void show(const torch::Tensor& rows, Json& result) const {
    const torch::Tensor unit = torch::nn::functional::normalize(rows, torch::nn::functional::NormalizeFuncOptions().p(2).dim(1));
    const torch::Tensor cosines = torch::mm(unit, unit.t());
    result["cosines"] = Json::array();
    for (int64_t i = 0; i < rows.size(0); ++i) {
      const float* const row = cosines.const_data_ptr<float>() + i * cosines.size(1);
      result["cosines"].push_back(std::vector<float>(row, row + cosines.size(1)));
    }
    if (rows.size(0) < 2) return;
    fmt::print("cosines:\n");
    for (int64_t i = 0; i < rows.size(0); ++i) {
      for (int64_t j = 0; j < rows.size(0); ++j) fmt::print(" {:6.3f}", result["cosines"][i][j].get<float>());
      fmt::print("  {}\n", one_line(sentences[i]));
    }
  }
};

}  // namespace

void add_embed_command(CLI::App& model) {
  const auto command = std::make_shared<EmbedCommand>();
  CLI::App* const app = add_command(model, "embed", "Make a vector of each text with an encoder",
                                    "sememe model embed runs/models/minilm --sentence 'A cat sits.' --sentence 'The dog runs.'\n"
                                    "  sememe model embed runs/models/minilm --text sentences.txt --out embeddings.npy");
  app->add_option("folder", command->model.path, "The encoder's folder")->required();
  app->add_option("--sentence", command->sentences, "A text; several may be given, whose cosines are shown")->allow_extra_args(false);
  app->add_option("--text", command->text, "A file with a text on each line, or .jsonl with a member text on each; plain or compressed");
  app->add_option("--out", command->out, "The .npy file to write: float32 [texts, width]");
  app->add_option("--context", command->model.context, "Tokens of a text at most; 0 takes the encoder's own")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app->add_option("--batch", command->batch, "Tokens in one pass")->check(CLI::PositiveNumber)->capture_default_str();
  add_common_options(*app, command->common);
  app->callback([command] { command->run(); });
}

}  // namespace sememe

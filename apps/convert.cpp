#include <memory>

#include "apps/command.h"
#include "sememe/base/error.h"
#include "sememe/base/files.h"
#include "sememe/base/json.h"
#include "sememe/features/interchange/format.h"

namespace sememe {
namespace {

struct ConvertCommand {
  CommonOptions common;
  std::filesystem::path folder, out;
  std::string to;
  bool fold_norms = false;
  ReadOptions reading;
  WriteOptions writing;

  void run() {
    apply(common);
    const DictionaryFormat* const format = recognise_format(folder);
    std::shared_ptr<Dictionary> dictionary = format ? put_together(format->read(folder, reading)) : load_dictionary(folder);
    if (!writing.description.empty() && to != "neuronpedia") fail_usage("--description: only neuronpedia holds descriptions");
    if (fold_norms) {
      DictionaryParts parts = take_apart(*dictionary);
      fold_decoder_norms(parts);
      dictionary = put_together(std::move(parts));
    }
    write_dictionary(*dictionary, to, out, writing);
    const Json result{{"from", format ? format->name : "sememe"}, {"to", to},
                      {"architecture", dictionary->architecture()}, {"latents", dictionary->size()},
                      {"width", dictionary->width()}, {"folded_decoder_norms", fold_norms}};
    fmt::print("{}: {} with {} latents of width {}, from {} to {}\n", out.string(), dictionary->architecture(), dictionary->size(),
               dictionary->width(), result["from"].get<std::string>(), to);
    if (!common.json.empty()) write_json(common.json, result);
  }
};

}  // namespace

void add_convert_command(CLI::App& group) {
  const auto command = std::make_shared<ConvertCommand>();
  CLI::App* const app = add_command(group, "convert", "Read and write the dictionaries of other tools",
                                    "sememe dictionary convert runs/topk --to saelens --out runs/topk-saelens");
  app->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app->add_option("folder", command->folder, "Dictionary of Sememe, SAELens, sparsify, dictionary_learning, Gemma Scope or OpenAI")
      ->required();
  app->add_option("--to", command->to, "Format to write: " + writable_formats())->required();
  app->add_option("--out", command->out, "Folder to write")->required();
  app->add_flag("--fold-decoder-norms", command->fold_norms, "Give every atom norm 1 and its norm to the codes; reconstructions stay");
  app->add_flag("--inputs-normalized", command->reading.inputs_normalized,
                "Read a dictionary that normalises each row as one of rows that are normalised already");
  app->add_option("--description", command->writing.description, "neuronpedia: folder made by dictionary describe");
  add_common_options(*app, command->common);
  app->callback([command] { command->run(); });
}

}  // namespace sememe

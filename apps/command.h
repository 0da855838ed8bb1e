#pragma once
// What every command shares: the options --seed, --threads, --device, --quiet and --json, and how a command is added.

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sememe/features/intervention.h"
#include "sememe/language/language_model.h"
#include "sememe/language/sentence_encoder.h"

namespace sememe {

struct CommonOptions {
  uint64_t seed = 1;
  int threads = 0;  ///< 0 means all cores
  std::string device = "cpu";
  bool on_ranks = false;  ///< whether mpirun may start several of the command
  bool quiet = false;
  std::filesystem::path json;  ///< empty: none asked for
};

/// Adds a command with an example shown in its --help. Each file in apps/ adds one group of commands.
CLI::App* add_command(CLI::App& parent, const std::string& name, const std::string& what, const std::string& example);

/// The options that every command takes; `with_json` adds --json.
void add_common_options(CLI::App& command, CommonOptions& options, bool with_json = true);

/// Applies --threads, --device and --quiet. Called by each command before it works.
void apply(const CommonOptions& options);

/// A language model and how it is to run.
struct ModelOptions {
  std::filesystem::path path, tokenizer;
  int64_t context = 0;
  bool float32 = false;
  bool engine = false;  ///< a folder runs in the quantised engine too
};

/// --context, --float32 and --tokenizer.
void add_model_options(CLI::App& command, ModelOptions& options);
/// --tokenizer alone.
void add_tokenizer_option(CLI::App& command, std::filesystem::path& tokenizer);

/// The model, on the device of the options. A GGUF file's runs in the file's own precision, unless float32, a device or gradients are wanted.
/// @throws Error as LanguageModel::load
LanguageModel load_on(const ModelOptions& model, const CommonOptions& options, bool gradients = false);

/// The encoder in a folder, on the device of the options. @throws Error as SentenceEncoder::load
SentenceEncoder load_encoder_on(const ModelOptions& model, const CommonOptions& options);

/// The site in the config of the dictionary, unless one was given.
/// @throws UsageError if neither says it
std::string site_of(const std::filesystem::path& dictionary, const std::string& given);

/// Text from outside on one line of a terminal: control characters could move the cursor or change colours.
std::string one_line(std::string_view text);

/// "shown(a)  shown(b)", or "-" where there is nothing.
template <class List, class Show>
std::string listed(const List& list, const Show& show) {
  std::string text;
  for (const auto& element : list) text += (text.empty() ? "" : "  ") + show(element);
  return text.empty() ? "-" : text;
}

/// A bar of one character for each value, from the least (0, if all are positive) to the greatest; whatever is above the least shows.
std::string sparkline(const std::vector<double>& values);

/// The options --intervention and --dictionary of a command that runs a model.
struct InterventionOptions {
  std::vector<std::filesystem::path> files;
  std::filesystem::path dictionary;
};
/// @param with_dictionary false where --dictionary is the command's own
void add_intervention_options(CLI::App& command, InterventionOptions& options, bool with_dictionary = true);

/// What the options ask for, ready to visit the network. @throws Error as Interventions
Interventions load_interventions(const InterventionOptions& options, const Network& network, Passes passes);

/// The interventions act on every pass of the model from now on, whole contexts at a time. @return their files' contents, a list
Json add_interventions(const InterventionOptions& options, LanguageModel& model);

void add_model_commands(CLI::App& program);
/// These into the group that add_model_commands() makes.
void add_embed_command(CLI::App& model);
void add_import_command(CLI::App& model);
void add_capture_command(CLI::App& program);
void add_dictionary_commands(CLI::App& program);
/// These into the group that add_dictionary_commands() makes.
void add_describe_commands(CLI::App& dictionary);
void add_convert_command(CLI::App& dictionary);
void add_compare_commands(CLI::App& dictionary);
void add_steer_commands(CLI::App& dictionary);
void add_factorize_command(CLI::App& dictionary);
void add_report_command(CLI::App& program);
void add_tokenizer_commands(CLI::App& program);
void add_study_commands(CLI::App& program);
void add_bench_commands(CLI::App& program);
void add_ranks_bench(CLI::App& group);

}  // namespace sememe

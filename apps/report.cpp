#include "sememe/features/report.h"

#include <memory>

#include "apps/command.h"
#include "sememe/base/error.h"

namespace sememe {
namespace {

struct ReportCommand {
  CommonOptions common;
  std::filesystem::path run_folder, model, out = "report.html";
  int64_t cards = 200;

  void run() const {
    apply(common);
    ReportSources sources = find_report_sources(run_folder);
    sources.cards = cards;
    if (!model.empty()) {
      if (!std::filesystem::exists(model)) fail("{}: there is no such folder or file of a language model", model.string());
      sources.model = model;
    }
    const Json data = report_data(sources);
    write_report(out, data);
    for (const Json& sentence : data.at("findings")) fmt::print("{}\n", sentence.get<std::string>());
    for (const Json& steering : data.at("steering")) print_steering(steering);
    fmt::print("\n{}: open it in a browser\n", out.string());
  }

  static void print_steering(const Json& run) {
    const auto text = [](const Json& object, const char* key) { return one_line(object.at(key).get<std::string>()); };
    const auto words = run.at("key_words").get<std::vector<std::string>>();
    fmt::print("\nSteering \"{}\" with {} of {}{}:\n", text(run, "prompt"), text(run, "title"), text(run, "dictionary"),
               words.empty() ? "" : fmt::format(" (key words: {})", one_line(fmt::format("{}", fmt::join(words, ", ")))));
    fmt::print("  {:<12} {}\n", "before", text(run, "before"));
    for (const Json& steered : run.at("steered")) fmt::print("  {:<12} {}\n", text(steered, "title"), text(steered, "after"));
  }
};

}  // namespace

void add_report_command(CLI::App& program) {
  const auto command = std::make_shared<ReportCommand>();
  CLI::App* const app = add_command(program, "report", "Write one page that shows the dictionaries of a run",
                                    "sememe report runs/quickstart --model models/english --out runs/quickstart/report.html");
  app->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app->add_option("run", command->run_folder,
                  "Folder with dictionaries NAME, beside or inside each NAME[-]evaluation.json and NAME[-]description, and "
                  "*steering*.json of dictionary steer")
      ->required();
  app->add_option("--out", command->out, "HTML file to write")->capture_default_str();
  app->add_option("--model", command->model, "Folder of the language model, or its .gguf file, for its name and figures");
  app->add_option("--cards", command->cards, "Clearest latents of each dictionary that the page holds")->capture_default_str();
  add_common_options(*app, command->common, false);
  app->callback([command] { command->run(); });
}

}  // namespace sememe

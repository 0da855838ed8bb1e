#include "studies/study.h"

#include <algorithm>
#include <memory>

#include "apps/command.h"
#include "sememe/base/error.h"
#include "sememe/base/json.h"

namespace sememe {
namespace {

std::string shown(const std::optional<double>& value) { return value ? fmt::format("{:.4g}", *value) : "-"; }

void print_claims(const StudyResult& result) {
  fmt::print("{:<30} {:>10} {:>10} {:>10}  {:<24} {}\n", "claim", "paper", "here", "baseline", "bar", "holds");
  for (const Claim& claim : result.claims) {
    fmt::print("{:<30} {:>10} {:>10} {:>10}  {:<24} {}\n", claim.id, shown(claim.paper), shown(claim.here),
               shown(claim.baseline), claim.bar, claim.holds ? "yes" : "NO");
    fmt::print("    {}\n", claim.what);
  }
}

void list_studies(const CommonOptions& common) {
  Json list = Json::array();
  for (const Study& study : studies()) {
    fmt::print("{:<16} {}\n", study.name, study.what);
    list.push_back({{"name", study.name}, {"what", study.what}});
  }
  if (!common.json.empty()) write_json(common.json, list);
}

struct StudyCommand {
  CommonOptions common;
  StudyOptions options;
  bool quick = false;
};

}  // namespace

void add_study_commands(CLI::App& program) {
  CLI::App* const group = program.add_subcommand("study", "Re-run a published result, small and honestly");
  group->require_subcommand(1);
  const auto common = std::make_shared<CommonOptions>();
  CLI::App* const list = add_command(*group, "list", "The studies there are", "sememe study list");
  add_common_options(*list, *common);
  list->callback([common] { list_studies(*common); });
  for (const Study& study : studies()) {
    const std::string name(study.name);
    const auto command = std::make_shared<StudyCommand>();
    CLI::App* const app =
        add_command(*group, name, std::string(study.what), "sememe study " + name + " --quick --json result.json");
    CLI::Option* const quick = app->add_flag("--quick", command->quick, "At most ten minutes (the default)");
    app->add_flag("--full", command->options.full, "At most an hour, with every seed and setting")->excludes(quick);
    app->add_option("--work", command->options.work, "Folder for intermediate files")->capture_default_str();
    add_common_options(*app, command->common);
    app->callback([command, &study] {
      apply(command->common);
      command->options.seed = command->common.seed;
      const StudyResult result = study.run(command->options);
      print_claims(result);
      if (!command->common.json.empty()) write_json(command->common.json, to_json(study, command->options, result));
    });
  }
}

}  // namespace sememe

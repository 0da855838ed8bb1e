#pragma once
// The report: one HTML file that shows dictionaries side by side, their latents and what steering does. It holds its styles, its script
// and its data, and fetches nothing.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sememe/base/json.h"

namespace sememe {

/// The files about one dictionary.
struct ReportDictionary {
  std::filesystem::path folder;                      ///< made by dictionary train
  std::optional<std::filesystem::path> evaluation;   ///< made by dictionary evaluate --json
  std::optional<std::filesystem::path> description;  ///< made by dictionary describe
};

struct ReportSources {
  std::vector<ReportDictionary> dictionaries;
  std::vector<std::filesystem::path> steering;  ///< made by dictionary steer --json
  std::optional<std::filesystem::path> model;   ///< folder of the language model
  int64_t cards = 200;                          ///< clearest latents of each dictionary that the page holds
};

/// True if the folder holds what dictionary train writes.
bool is_dictionary(const std::filesystem::path& folder);

/// The evaluation of the dictionary in `folder`: evaluation.json inside, or NAME-evaluation.json beside it.
std::optional<std::filesystem::path> find_evaluation(const std::filesystem::path& folder);

/// Finds what a run folder holds: every folder NAME in it that is a dictionary, NAME/evaluation.json or NAME-evaluation.json, NAME/description
/// or NAME-description, and every *steering*.json. Dictionaries stand in the order of NAME, "topk" first: the others are held against it.
/// @throws Error if there is no dictionary in it
ReportSources find_report_sources(const std::filesystem::path& run);

/// The data of the page. Only known members of the files are taken over.
/// @throws Error naming the file and the key that is missing or malformed
Json report_data(const ReportSources& sources);

/// What the data says, in sentences made of its numbers: what was learnt, how true it is, how clear; report_data() keeps them as "findings".
std::vector<std::string> findings(const Json& data);

/// The page with its data.
std::string report_page(const Json& data);

void write_report(const std::filesystem::path& path, const Json& data);

}  // namespace sememe

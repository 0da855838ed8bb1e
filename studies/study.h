#pragma once
// A study re-runs a published result, small and honestly: its data, method and baselines, and the paper's figure beside ours
// under a bar that holds or does not.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sememe/base/json.h"

namespace sememe {

/// One statement of the paper, and what came of it here.
struct Claim {
  std::string id;                  ///< e.g. "ce-recovered"
  std::string what;                ///< the statement, with its unit
  std::optional<double> paper;     ///< the paper's figure, where it gives one
  double here = 0.0;               ///< ours
  std::optional<double> baseline;  ///< what ours is held against
  std::string bar;                 ///< e.g. ">= baseline"
  bool holds = false;
};

struct StudyOptions {
  bool full = false;                   ///< at most an hour instead of at most ten minutes
  uint64_t seed = 1;
  std::filesystem::path work = "runs";  ///< intermediate files are kept and found again here
};

struct StudyResult {
  std::vector<Claim> claims;
  Json details;  ///< every cell of every table, for whoever wants to recompute the claims

  /// Adds one that the paper gives no comparable figure for.
  void claim(std::string id, std::string what, double here, std::optional<double> baseline, std::string bar, bool holds) {
    claims.push_back({std::move(id), std::move(what), std::nullopt, here, baseline, std::move(bar), holds});
  }
};

struct Study {
  std::string_view name;
  std::string_view what;  ///< one line for `sememe study list`
  StudyResult (*run)(const StudyOptions&);
};

/// All studies; a new one adds its file and its line in studies.cpp.
std::span<const Study> studies();

/// The contents of result.json.
Json to_json(const Study& study, const StudyOptions& options, const StudyResult& result);

}  // namespace sememe

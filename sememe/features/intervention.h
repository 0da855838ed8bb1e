#pragma once
// Interventions: edits of latents at a site while a network runs. What an edit means is said in the terms of a dictionary; it is applied by
// a visitor, so that it works on every network, and saved as a small file that any command takes:
//
//   {
//     "format": "sememe intervention", "version": 1,
//     "site": "blocks.1.output",
//     "dictionary": {"folder": "runs/topk", "architecture": "topk", "latents": 2048, "width": 256},
//     "edits": [
//       {"kind": "add", "latent": 17, "strength": 2.0, "unit": 3.1},  adds strength * unit times its direction; unit: 1 unless given
//       {"kind": "clamp", "latent": 40, "activation": 3.5},           sets the activation, whether the latent fires or not
//       {"kind": "ablate", "latent": 9},                              sets it to 0
//       {"kind": "swap", "latent": 3, "with": 8},                     exchanges two activations
//       {"kind": "scale", "latent": 5, "factor": 0.5}                 multiplies the activation where the latent fires
//     ]
//   }

#include <torch/torch.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sememe/base/json.h"
#include "sememe/features/dictionary.h"
#include "sememe/network/network.h"

namespace sememe {

enum class EditKind { kAdd, kClamp, kAblate, kSwap, kScale };

struct Edit {
  EditKind kind = EditKind::kAblate;
  int64_t latent = 0;
  double amount = 0.0;  ///< add: strength; clamp: activation; scale: factor
  double unit = 1.0;    ///< add: norm of what a strength of 1 adds
  int64_t other = 0;    ///< swap: the second latent

  static Edit add(int64_t latent, double strength, double unit = 1.0) { return {EditKind::kAdd, latent, strength, unit, 0}; }
  static Edit clamp(int64_t latent, double activation) { return {EditKind::kClamp, latent, activation, 1.0, 0}; }
  static Edit ablate(int64_t latent) { return {EditKind::kAblate, latent, 0.0, 1.0, 0}; }
  static Edit swap(int64_t latent, int64_t other) { return {EditKind::kSwap, latent, 0.0, 1.0, other}; }
  static Edit scale(int64_t latent, double factor) { return {EditKind::kScale, latent, factor, 1.0, 0}; }
  bool operator==(const Edit&) const = default;
};

/// As in the file: "add", "clamp", "ablate", "swap", "scale".
std::string_view name_of(EditKind kind);

/// "add 17=2", "clamp 40=3.5", "ablate 9", "swap 3,8", "scale 5=0.5".
std::string to_string(const Edit& edit);

/// What keeps the edit from being applied to the dictionary, in words: a latent there is not, a number that is not finite, ...
std::optional<std::string> fault_of(const Edit& edit, const Dictionary& dictionary);

/// The row [width] that an edit "add" adds: amount * unit along the latent's direction.
torch::Tensor addition_of(const Edit& add, const Dictionary& dictionary);

/// Edits of one dictionary's latents at one site. The dictionary encodes what passes the site once; the edits of activations change that
/// code in the order given; what "add" adds does not depend on the code.
struct Intervention {
  std::string site;
  std::filesystem::path folder;  ///< of the dictionary, as given
  std::string architecture;      ///< of the dictionary, to notice another one
  int64_t latents = 0, width = 0;
  std::vector<Edit> edits;

  /// Without edits yet.
  Intervention(std::string site, std::filesystem::path folder, const Dictionary& dictionary);

  Json to_json() const;
  /// @throws Error naming `where` and the key that is missing, unknown or of a wrong type
  static Intervention from_json(const Json& json, std::string_view where);
  /// @throws Error naming the file and the key
  static Intervention load(const std::filesystem::path& path);
  void save(const std::filesystem::path& path) const;
  /// @throws Error naming `where` and what does not fit if the edits are not of this dictionary
  void check(const Dictionary& dictionary, std::string_view where) const;
  bool operator==(const Intervention&) const = default;

 private:
  Intervention() = default;
};

/// The edits of the first, then those of the second, in one intervention.
/// @throws Error if they differ in site or dictionary
Intervention operator+(Intervention first, const Intervention& second);

/// The codes after the edits of activations, in order ("add" changes no code). A latent at 0 has no entry, any other has one.
SparseCodes edit_codes(const SparseCodes& codes, std::span<const Edit> edits);

/// What the forward passes are that a visitor sees. The end-of-text that opens a context stands for no text and stays as it is.
enum class Passes {
  kOneContext,     ///< one context in pieces, as generate() runs it: only the first pass opens with an end-of-text
  kWholeContexts,  ///< each pass holds whole contexts, as evaluate() runs them
};

/// Changes every row that passes a site once, in every pass, prompt and generated tokens alike. x becomes
///   x + decode(edited code of x) - decode(code of x) + sum of strength * unit * direction,
/// so that what the dictionary does not reconstruct of x is kept, and a row whose code no edit changes stays as it is. In a backward pass
/// the change counts as a constant.
class InterveneSite : public SiteVisitor {
 public:
  /// Adds one row [width] whatever passes.
  InterveneSite(std::string site, torch::Tensor addition, Passes passes = Passes::kOneContext);
  /// The same of the first row of a context too.
  static InterveneSite on_every_row(std::string site, torch::Tensor addition);
  /// @param dictionary must live as long as this
  /// @throws UsageError as fault_of says
  InterveneSite(const Intervention& intervention, const Dictionary& dictionary, Passes passes = Passes::kOneContext);

  torch::Tensor visit(const Site& site, torch::Tensor value) override;
  bool wants(const Site& site) const override { return site.name == site_; }
  /// Rows visited so far, without those left as they are for being an end-of-text.
  int64_t edited() const { return edited_; }

 private:
  torch::Tensor code_change(const torch::Tensor& part) const;

  std::string site_;
  torch::Tensor addition_;  // [width], or undefined
  const Dictionary* dictionary_ = nullptr;
  std::vector<Edit> code_edits_;
  Passes passes_;
  int64_t leading_rows_ = 1, edited_ = 0;
};

/// Several interventions with their dictionaries, each seeing what the earlier ones left.
class Interventions : public SiteVisitor {
 public:
  /// Reads intervention files and control vectors, "vector.gguf" or "vector.gguf:0.5" to scale it. Those that are of one site and one dictionary become one, so that it does not matter how edits are spread
  /// over files.
  /// @param dictionary where the dictionary of all of them is; empty takes the folder that each file says
  /// @throws Error naming the file if it, its dictionary or its site does not fit the network
  Interventions(std::span<const std::filesystem::path> files, const std::filesystem::path& dictionary, const Network& network,
                Passes passes);

  torch::Tensor visit(const Site& site, torch::Tensor value) override;
  bool wants(const Site& site) const override {
    return std::any_of(visitors_.begin(), visitors_.end(), [&](const InterveneSite& visitor) { return visitor.wants(site); });
  }
  const std::vector<Intervention>& list() const { return interventions_; }
  bool empty() const { return visitors_.empty(); }
  /// Of each, its file's contents, or {"control_vector": file, "scale": scale}.
  Json to_json() const;
  /// A line for each: its edits and its site.
  std::string description() const;

 private:
  struct ScaledVector {
    std::string file;
    double scale;
  };
  void add_control_vector(const std::string& file, const Network& network);
  std::vector<ScaledVector> vectors_;
  std::vector<Intervention> interventions_;
  std::vector<std::shared_ptr<const Dictionary>> dictionaries_;
  std::vector<InterveneSite> visitors_;
};

}  // namespace sememe

#include "sememe/features/intervention.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <initializer_list>
#include <map>
#include <utility>

#include "sememe/base/error.h"
#include "sememe/features/control_vector.h"
#include "sememe/formats/shown.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFormat = "sememe intervention";
constexpr int64_t kVersion = 1;

/// How a kind is written: its name, and the key of its number, if it has one.
struct Written {
  EditKind kind;
  const char* name;
  const char* amount;
};
constexpr std::array<Written, 5> kWritten{{{EditKind::kAdd, "add", "strength"},
                                           {EditKind::kClamp, "clamp", "activation"},
                                           {EditKind::kAblate, "ablate", nullptr},
                                           {EditKind::kSwap, "swap", nullptr},
                                           {EditKind::kScale, "scale", "factor"}}};

const Written& written(EditKind kind) {
  return *std::find_if(kWritten.begin(), kWritten.end(), [&](const Written& one) { return one.kind == kind; });
}

/// A key that nobody reads is a slip of the pen that would change what the file does.
void refuse_other_keys(const Json& object, std::initializer_list<std::string_view> known, std::string_view where) {
  if (!object.is_object()) fail("{}: is no JSON object: {}", where, object.dump().substr(0, 60));
  for (const auto& [key, value] : object.items())
    if (std::find(known.begin(), known.end(), key) == known.end())
      fail("{}: the key \"{}\" is unknown; known are {}", where, key.substr(0, 60), fmt::join(known, ", "));
}

/// As json_member, without taking true for 1.
double number_member(const Json& object, const char* key, std::string_view where) {
  if (object.contains(key) && object.at(key).is_boolean()) fail("{}: the key \"{}\" has the wrong type: {}", where, key, object.at(key).dump());
  return json_member<double>(object, key, where);
}

Edit edit_from_json(const Json& json, std::string_view where) {
  const auto name = json_member<std::string>(json, "kind", where);
  const auto found = std::find_if(kWritten.begin(), kWritten.end(), [&](const Written& one) { return name == one.name; });
  if (found == kWritten.end()) fail("{}: the key \"kind\" is \"{}\"; known are add, clamp, ablate, swap, scale", where, name.substr(0, 60));
  Edit edit;
  edit.kind = found->kind;
  edit.latent = json_member<int64_t>(json, "latent", where);
  if (found->amount != nullptr) edit.amount = number_member(json, found->amount, where);
  switch (edit.kind) {
    case EditKind::kAdd:
      refuse_other_keys(json, {"kind", "latent", "strength", "unit"}, where);
      if (json.contains("unit")) edit.unit = number_member(json, "unit", where);
      break;
    case EditKind::kClamp:
      refuse_other_keys(json, {"kind", "latent", "activation"}, where);
      break;
    case EditKind::kAblate:
      refuse_other_keys(json, {"kind", "latent"}, where);
      break;
    case EditKind::kSwap:
      refuse_other_keys(json, {"kind", "latent", "with"}, where);
      edit.other = json_member<int64_t>(json, "with", where);
      break;
    case EditKind::kScale:
      refuse_other_keys(json, {"kind", "latent", "factor"}, where);
      break;
  }
  return edit;
}

Json edit_to_json(const Edit& edit) {
  const Written& form = written(edit.kind);
  Json json{{"kind", form.name}, {"latent", edit.latent}};
  if (form.amount != nullptr) json[form.amount] = edit.amount;
  if (edit.kind == EditKind::kAdd) json["unit"] = edit.unit;
  if (edit.kind == EditKind::kSwap) json["with"] = edit.other;
  return json;
}

/// One row of codes while it is edited: atoms ascending, no value 0.
class CodeRow {
 public:
  CodeRow(const int32_t* atoms, const float* values, int64_t count) : atoms_(atoms, atoms + count), values_(values, values + count) {}

  float get(int32_t atom) const {
    const auto place = find(atom);
    return place < atoms_.size() && atoms_[place] == atom ? values_[place] : 0.0f;
  }
  void set(int32_t atom, float value) {
    const auto place = find(atom);
    const bool there = place < atoms_.size() && atoms_[place] == atom;
    const auto offset = static_cast<std::ptrdiff_t>(place);
    if (there && value != 0.0f) {
      values_[place] = value;
    } else if (there) {
      atoms_.erase(atoms_.begin() + offset);
      values_.erase(values_.begin() + offset);
    } else if (value != 0.0f) {
      atoms_.insert(atoms_.begin() + offset, atom);
      values_.insert(values_.begin() + offset, value);
    }
  }
  const std::vector<int32_t>& atoms() const { return atoms_; }
  const std::vector<float>& values() const { return values_; }

 private:
  size_t find(int32_t atom) const { return std::lower_bound(atoms_.begin(), atoms_.end(), atom) - atoms_.begin(); }

  std::vector<int32_t> atoms_;
  std::vector<float> values_;
};

void apply(const Edit& edit, CodeRow& row) {
  const auto latent = static_cast<int32_t>(edit.latent);
  switch (edit.kind) {
    case EditKind::kAdd:
      break;
    case EditKind::kClamp:
      row.set(latent, static_cast<float>(edit.amount));
      break;
    case EditKind::kAblate:
      row.set(latent, 0.0f);
      break;
    case EditKind::kSwap: {
      const auto other = static_cast<int32_t>(edit.other);
      const float value = row.get(latent);
      row.set(latent, row.get(other));
      row.set(other, value);
      break;
    }
    case EditKind::kScale:
      row.set(latent, static_cast<float>(row.get(latent) * edit.amount));
      break;
  }
}

void check_site(const Intervention& intervention, const Network& network, std::string_view where) {
  const std::vector<Site>& sites = network.sites();
  const auto found = std::find_if(sites.begin(), sites.end(), [&](const Site& site) { return site.name == intervention.site; });
  if (found == sites.end())
    fail("{}: the model has no site \"{}\"; sememe model info lists those it has", where, intervention.site.substr(0, 60));
  if (found->width != intervention.width)
    fail("{}: the dictionary's width is {}, the site {} has {}; was it made for this model?", where, intervention.width, found->name,
         found->width);
}

std::string described(std::string_view architecture, int64_t latents, int64_t width) {
  return fmt::format("{} with {} latents of width {}", architecture, latents, width);
}

}  // namespace

std::string_view name_of(EditKind kind) { return written(kind).name; }

std::string to_string(const Edit& edit) {
  switch (edit.kind) {
    case EditKind::kAblate:
      return fmt::format("ablate {}", edit.latent);
    case EditKind::kSwap:
      return fmt::format("swap {},{}", edit.latent, edit.other);
    default:
      return fmt::format("{} {}={:g}", name_of(edit.kind), edit.latent, edit.amount);
  }
}

std::optional<std::string> fault_of(const Edit& edit, const Dictionary& dictionary) {
  const auto unknown = [&](int64_t latent) -> std::optional<std::string> {
    if (latent >= 0 && latent < dictionary.size()) return std::nullopt;
    return fmt::format("latent {}: the dictionary has latents 0 to {}", latent, dictionary.size() - 1);
  };
  if (auto fault = unknown(edit.latent)) return fault;
  const std::string name(name_of(edit.kind));
  switch (edit.kind) {
    case EditKind::kAdd:
      if (!std::isfinite(edit.amount * edit.unit))
        return fmt::format("{} latent {}: a strength of {} in units of norm {} is not finite", name, edit.latent, edit.amount, edit.unit);
      if (!(dictionary.atoms()[edit.latent].norm().item<double>() > 0))
        return fmt::format("{} latent {}: its atom is zero and has no direction; choose a latent that fires", name, edit.latent);
      break;
    case EditKind::kClamp:
    case EditKind::kScale:
      if (!std::isfinite(static_cast<float>(edit.amount)))
        return fmt::format("{} latent {}: {} is no finite number", name, edit.latent, edit.amount);
      break;
    case EditKind::kSwap:
      if (auto fault = unknown(edit.other)) return fault;
      if (edit.other == edit.latent) return fmt::format("{} latent {}: with itself changes nothing; give two latents", name, edit.latent);
      break;
    case EditKind::kAblate:
      break;
  }
  return std::nullopt;
}

Intervention::Intervention(std::string where, fs::path dictionary_folder, const Dictionary& dictionary)
    : site(std::move(where)),
      folder(std::move(dictionary_folder)),
      architecture(dictionary.architecture()),
      latents(dictionary.size()),
      width(dictionary.width()) {}

Json Intervention::to_json() const {
  Json json{{"format", kFormat},
            {"version", kVersion},
            {"site", site},
            {"dictionary", {{"folder", folder.string()}, {"architecture", architecture}, {"latents", latents}, {"width", width}}},
            {"edits", Json::array()}};
  for (const Edit& edit : edits) json["edits"].push_back(edit_to_json(edit));
  return json;
}

Intervention Intervention::from_json(const Json& json, std::string_view where) {
  if (json_member<std::string>(json, "format", where) != kFormat)
    fail("{}: is no intervention: the key \"format\" is not \"{}\"", where, kFormat);
  if (const auto version = json_member<int64_t>(json, "version", where); version != kVersion)
    fail("{}: the key \"version\" is {}, but this program reads version {}", where, version, kVersion);
  refuse_other_keys(json, {"format", "version", "site", "dictionary", "edits"}, where);
  Intervention intervention;
  intervention.site = json_member<std::string>(json, "site", where);
  const auto dictionary = json_member<Json>(json, "dictionary", where);
  const std::string inside = fmt::format("{}: dictionary", where);
  refuse_other_keys(dictionary, {"folder", "architecture", "latents", "width"}, inside);
  intervention.folder = json_member<std::string>(dictionary, "folder", inside);
  intervention.architecture = json_member<std::string>(dictionary, "architecture", inside);
  intervention.latents = json_member<int64_t>(dictionary, "latents", inside);
  intervention.width = json_member<int64_t>(dictionary, "width", inside);
  const auto edits = json_member<Json>(json, "edits", where);
  if (!edits.is_array() || edits.empty()) fail("{}: the key \"edits\" is no list of edits: {}", where, edits.dump().substr(0, 60));
  for (size_t i = 0; i < edits.size(); ++i) intervention.edits.push_back(edit_from_json(edits[i], fmt::format("{}: edits[{}]", where, i)));
  return intervention;
}

Intervention Intervention::load(const fs::path& path) { return from_json(read_json(path), path.string()); }

void Intervention::save(const fs::path& path) const { write_json(path, to_json()); }

void Intervention::check(const Dictionary& dictionary, std::string_view where) const {
  if (architecture != dictionary.architecture() || latents != dictionary.size() || width != dictionary.width())
    fail("{}: is for {}, but the dictionary is {}; give the one that it was made with by --dictionary", where,
         described(architecture, latents, width), described(dictionary.architecture(), dictionary.size(), dictionary.width()));
  for (size_t i = 0; i < edits.size(); ++i)
    if (const auto fault = fault_of(edits[i], dictionary)) fail("{}: edits[{}]: {}", where, i, *fault);
}

Intervention operator+(Intervention first, const Intervention& second) {
  if (first.site != second.site) fail("interventions at {} and {} cannot be one: their sites differ", first.site, second.site);
  if (first.folder != second.folder || first.architecture != second.architecture || first.latents != second.latents ||
      first.width != second.width)
    fail("interventions with {} ({}) and {} ({}) cannot be one: their dictionaries differ", first.folder.string(),
         described(first.architecture, first.latents, first.width), second.folder.string(),
         described(second.architecture, second.latents, second.width));
  first.edits.insert(first.edits.end(), second.edits.begin(), second.edits.end());
  return first;
}

SparseCodes edit_codes(const SparseCodes& codes, std::span<const Edit> edits) {
  const int64_t* const offsets = codes.offsets.const_data_ptr<int64_t>();
  const int32_t* const atoms = codes.atoms.const_data_ptr<int32_t>();
  const float* const values = codes.values.const_data_ptr<float>();
  std::vector<int64_t> edited_offsets{0};
  std::vector<int32_t> edited_atoms;
  std::vector<float> edited_values;
  for (int64_t i = 0; i < codes.rows(); ++i) {
    CodeRow row(atoms + offsets[i], values + offsets[i], offsets[i + 1] - offsets[i]);
    for (const Edit& edit : edits) apply(edit, row);
    edited_atoms.insert(edited_atoms.end(), row.atoms().begin(), row.atoms().end());
    edited_values.insert(edited_values.end(), row.values().begin(), row.values().end());
    edited_offsets.push_back(static_cast<int64_t>(edited_atoms.size()));
  }
  return {torch::tensor(edited_offsets, torch::kInt64), torch::tensor(edited_atoms, torch::kInt32),
          torch::tensor(edited_values, torch::kFloat32)};
}

torch::Tensor addition_of(const Edit& add, const Dictionary& dictionary) {
  const torch::Tensor atom = dictionary.atoms()[add.latent].to(torch::kFloat);
  return torch::nn::functional::normalize(atom, torch::nn::functional::NormalizeFuncOptions().dim(0)) * (add.amount * add.unit);
}

InterveneSite InterveneSite::on_every_row(std::string site, torch::Tensor addition) {
  InterveneSite visitor(std::move(site), std::move(addition));
  visitor.leading_rows_ = 0;
  return visitor;
}

InterveneSite::InterveneSite(std::string site, torch::Tensor addition, Passes passes)
    : site_(std::move(site)), addition_(std::move(addition)), passes_(passes) {}

InterveneSite::InterveneSite(const Intervention& intervention, const Dictionary& dictionary, Passes passes)
    : site_(intervention.site), dictionary_(&dictionary), passes_(passes) {
  for (const Edit& edit : intervention.edits) {
    if (const auto fault = fault_of(edit, dictionary)) fail_usage("{}", *fault);
    if (edit.kind != EditKind::kAdd) {
      code_edits_.push_back(edit);
      continue;
    }
    const torch::Tensor row = addition_of(edit, dictionary);
    addition_ = addition_.defined() ? addition_ + row : row;
  }
}

torch::Tensor InterveneSite::visit(const Site& site, torch::Tensor value) {
  if (site.name != site_) return value;
  const int64_t rows = value.size(-2), left_out = site.row == "token" ? std::min(leading_rows_, rows) : 0;
  if (passes_ == Passes::kOneContext) leading_rows_ -= left_out;
  if (rows == left_out) return value;
  const torch::Tensor part = value.narrow(-2, left_out, rows - left_out);
  edited_ += part.numel() / part.size(-1);
  torch::Tensor change = addition_;
  if (!code_edits_.empty()) change = change.defined() ? code_change(part) + change : code_change(part);
  if (!change.defined()) return value;
  change = change.to(value.device(), value.scalar_type());
  if (left_out == 0) return value + change;
  torch::Tensor changed = value.clone();
  changed.narrow(-2, left_out, rows - left_out).add_(change);
  return changed;
}

torch::Tensor InterveneSite::code_change(const torch::Tensor& part) const {
  const torch::NoGradGuard no_autograd;
  const torch::Tensor x = part.detach().reshape({-1, part.size(-1)}).to(torch::kFloat).contiguous();
  const SparseCodes codes = dictionary_->encode(x).to(torch::kCPU);  // where they are edited
  return (dictionary_->decode(edit_codes(codes, code_edits_)) - dictionary_->decode(codes)).view(part.sizes());
}

Interventions::Interventions(std::span<const fs::path> files, const fs::path& dictionary, const Network& network, Passes passes) {
  std::vector<Intervention> read;
  std::vector<fs::path> read_from;
  for (const fs::path& file : files) {
    if (file.filename().string().find(".gguf") != std::string::npos) {
      add_control_vector(file.string(), network);
      continue;
    }
    read.push_back(Intervention::load(file));
    read_from.push_back(file);
    if (!dictionary.empty() && read.back().folder != read.front().folder)
      fail_usage("--dictionary: stands for one dictionary, but {} names {} and {} names {}; leave it out", read_from[0].string(),
                 read.front().folder.string(), file.string(), read.back().folder.string());
  }
  std::map<fs::path, std::shared_ptr<const Dictionary>> loaded;
  for (size_t i = 0; i < read.size(); ++i) {
    Intervention& intervention = read[i];
    const std::string where = read_from[i].string();
    if (!dictionary.empty()) intervention.folder = dictionary;
    std::shared_ptr<const Dictionary>& found = loaded[intervention.folder];
    if (!found && !fs::exists(intervention.folder))
      fail("{}: its dictionary {} is not there; say where it is with --dictionary", where, intervention.folder.string());
    if (!found) found = load_dictionary(intervention.folder);
    intervention.check(*found, where);
    check_site(intervention, network, where);
    const auto joined = std::find_if(interventions_.begin(), interventions_.end(), [&](const Intervention& other) {
      return other.folder == intervention.folder && other.site == intervention.site;
    });
    if (joined != interventions_.end()) {
      *joined = *joined + intervention;
    } else {
      interventions_.push_back(intervention);
      dictionaries_.push_back(found);
    }
  }
  for (size_t i = 0; i < interventions_.size(); ++i) visitors_.emplace_back(interventions_[i], *dictionaries_[i], passes);
}

void Interventions::add_control_vector(const std::string& file, const Network& network) {
  const size_t end = file.rfind(".gguf") + 5;
  ScaledVector scaled{file.substr(0, end), 1.0};
  if (end < file.size()) {
    const char* const last = file.data() + file.size();
    const auto [stop, error] = std::from_chars(file.data() + end + 1, last, scaled.scale);
    if (file[end] != ':' || error != std::errc() || stop != last || !std::isfinite(scaled.scale))
      fail_usage("--intervention {}: give FILE.gguf or FILE.gguf:SCALE", file);
  }
  for (const auto& [layer, direction] : ControlVector::load(scaled.file).directions) {
    const std::string name = fmt::format("blocks.{}.output", layer);
    const std::vector<Site>& sites = network.sites();
    const auto found = std::find_if(sites.begin(), sites.end(), [&](const Site& site) { return site.name == name; });
    if (found == sites.end()) fail("{}: has a direction for block {}, which the model does not have", scaled.file, layer);
    if (found->width != direction.size(0))
      fail("{}: its width is {}, the model's is {}; was it made for this model?", scaled.file, direction.size(0), found->width);
    visitors_.push_back(InterveneSite::on_every_row(name, direction * scaled.scale));
  }
  vectors_.push_back(std::move(scaled));
}

Json Interventions::to_json() const {
  Json list = Json::array();
  for (const ScaledVector& vector : vectors_) list.push_back({{"control_vector", vector.file}, {"scale", vector.scale}});
  for (const Intervention& intervention : interventions_) list.push_back(intervention.to_json());
  return list;
}

std::string Interventions::description() const {
  std::string text;
  for (const ScaledVector& vector : vectors_) text += fmt::format("control vector {}, scale {:g}\n", vector.file, vector.scale);
  for (const Intervention& intervention : interventions_) {
    std::string edits;
    for (const Edit& edit : intervention.edits) edits += (edits.empty() ? "" : "  ") + to_string(edit);
    text += fmt::format("{}: {}\n", shown(intervention.site), edits.empty() ? "-" : edits);
  }
  return text;
}

torch::Tensor Interventions::visit(const Site& site, torch::Tensor value) {
  for (InterveneSite& visitor : visitors_) value = visitor.visit(site, std::move(value));
  return value;
}

}  // namespace sememe

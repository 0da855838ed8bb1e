#include <algorithm>
#include <array>

#include "sememe/base/error.h"
#include "sememe/base/files.h"
#include "sememe/base/progress.h"
#include "sememe/features/interchange/format.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;

bool has(const fs::path& folder, const char* file) { return fs::exists(folder / file); }

std::string no_site(const fs::path&) { return {}; }

}  // namespace

std::span<const DictionaryFormat> dictionary_formats() {
  static const std::array all{
      DictionaryFormat{"dictionary-learning", "ae.pt", [](const fs::path& folder) { return has(folder, "ae.pt"); },
                       read_dictionary_learning, dictionary_learning_site, write_dictionary_learning},
      DictionaryFormat{"sparsify", "sae.safetensors", [](const fs::path& folder) { return has(folder, "sae.safetensors"); }, read_sparsify,
                       sparsify_site, write_sparsify},
      DictionaryFormat{"saelens", "sae_weights.safetensors",
                       [](const fs::path& folder) { return has(folder, "sae_weights.safetensors") || has(folder, "cfg.json"); },
                       read_saelens, saelens_site, write_saelens},
      DictionaryFormat{"gemma-scope", "params.npz", [](const fs::path& folder) { return has(folder, "params.npz"); }, read_gemma_scope,
                       no_site, write_gemma_scope},
      DictionaryFormat{"openai", "", is_openai, read_openai, no_site, nullptr},
      DictionaryFormat{"neuronpedia", "features", [](const fs::path&) { return false; }, nullptr, nullptr, write_neuronpedia},
  };
  return all;
}

const DictionaryFormat* recognise_format(const fs::path& folder) {
  if (has(folder, "dictionary.safetensors")) return nullptr;
  for (const DictionaryFormat& format : dictionary_formats())
    if (format.read && format.recognises(folder)) return &format;
  return nullptr;
}

std::string writable_formats() {
  std::string names = "sememe";
  for (const DictionaryFormat& format : dictionary_formats())
    if (format.write) names += ", " + std::string(format.name);
  return names;
}

std::string dictionary_site(const fs::path& folder) {
  const fs::path path = folder / "config.json";
  const DictionaryFormat* const format = recognise_format(folder);
  return format ? format->site(folder) : json_member_or<std::string>(read_json(path), "site", "", path.string());
}

void write_dictionary(const Dictionary& dictionary, std::string_view name, const fs::path& folder, const WriteOptions& options) {
  if (name == "sememe") {
    AtomicFolder out(folder, "config.json");
    dictionary.save(out.path());
    return out.commit();
  }
  const auto formats = dictionary_formats();
  const auto format = std::find_if(formats.begin(), formats.end(), [&](const DictionaryFormat& each) { return each.name == name; });
  if (format == formats.end() || !format->write) fail_usage("--to {}: choose one of {}", name, writable_formats());
  const DictionaryParts parts = take_apart(dictionary);
  if (parts.architecture == "gsae")
    note("selection by influence on the loss cannot be held there: the k largest latents will be selected, as gsae does without gradients");
  AtomicFolder out(folder, format->mark);
  format->write(parts, out.path(), options);
  out.commit();
}

Json imported_config(std::string_view format, const Json& source, const std::string& site, const std::string& model) {
  Json config{{"origin", {{"format", format}, {"config", source}}}};
  if (!site.empty()) config["site"] = site;
  if (!model.empty()) config["model"] = model;
  return config;
}

Json source_config(const DictionaryParts& parts, std::string_view format) {
  if (parts.config.contains("origin") && parts.config["origin"].is_object() && parts.config["origin"].value("format", Json()) == format &&
      parts.config["origin"].contains("config") && parts.config["origin"]["config"].is_object())
    return parts.config["origin"]["config"];
  return Json::object();
}

int64_t checked_k(int64_t k, int64_t latents, std::string_view where) {
  if (k < 1 || k > latents) fail("{}: k {} cannot be with {} latents: 1 <= k <= latents", where, k, latents);
  return k;
}

}  // namespace sememe

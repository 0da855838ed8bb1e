#include "sememe/families/gguf_settings.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <variant>

#include "sememe/base/error.h"
#include "sememe/formats/shown.h"

namespace sememe {

namespace {

constexpr const char* kDivisors = "rope_freqs.weight";
constexpr const char* kShortFactors = "rope_factors_short.weight";
constexpr const char* kLongFactors = "rope_factors_long.weight";

/// Llama 3.1 and later, whose files have the divisors that its rule makes of a factor, the largest of them. Said by the rule, they can be
/// written to a config.json.
std::optional<RotaryScaling> llama3_scaling(const TransformerConfig& config) {
  TransformerConfig ruled = config, plain = config;
  const std::vector<float>& divisors = config.rotary_scaling.divisors;
  if (divisors.empty()) return std::nullopt;
  ruled.rotary_scaling = {.kind = RotaryScaling::Kind::kLlama3, .factor = *std::max_element(divisors.begin(), divisors.end()), .divisors = {}};
  plain.rotary_scaling = {};
  const std::vector<double> slow = rotary_frequencies(ruled, false), fast = rotary_frequencies(plain, false);
  for (size_t i = 0; i < divisors.size(); ++i)
    if (!(std::abs(fast[i] / slow[i] / divisors[i] - 1) < 1e-5)) return std::nullopt;
  return ruled.rotary_scaling;
}

}  // namespace

int64_t GgufSettings::size(const char* key) const {
  const int64_t size = file_.integer(full(key));
  if (size < 1 || size > (int64_t{1} << 31)) fail("{}: {} is {}; it must be from 1 to 2^31", file_.path().string(), full(key), size);
  return size;
}

bool GgufSettings::flag_or(const char* key, bool fallback) const {
  if (!has(key)) return fallback;
  const GgufValue& value = file_.value(full(key));
  if (const bool* const flag = std::get_if<bool>(&value)) return *flag;
  fail("{}: {} is of type {}, not a truth value", file_.path().string(), full(key), gguf_type_name(value));
}

void GgufSettings::only(const char* key, int64_t value) const {
  if (has(key) && file_.integer(full(key)) != value)
    fail("{}: {} is {}, which is not supported", file_.path().string(), full(key), file_.integer(full(key)));
}

TransformerConfig GgufSettings::common(const char* epsilon) const {
  TransformerConfig config;
  config.context = size("context_length");
  config.width = size("embedding_length");
  config.layers = size("block_count");
  config.heads = size("attention.head_count");
  config.key_value_heads = size_or("attention.head_count_kv", config.heads);
  config.head_width = size_or("attention.key_length", std::max<int64_t>(config.width / config.heads, 1));
  config.feed_forward_width = size("feed_forward_length");
  config.norm_epsilon = number(epsilon);
  config.vocabulary = static_cast<int64_t>(file_.texts("tokenizer.ggml.tokens").size());
  config.tied_head = !file_.contains("output.weight");
  only("attention.value_length", config.head_width);
  only("expert_count", 0);
  read_rotary(config);
  return config;
}

void GgufSettings::read_rotary(TransformerConfig& config) const {
  config.rotary_base = number_or("rope.freq_base", 10000.0);
  const int64_t rotated = size_or("rope.dimension_count", config.head_width);
  config.rotary_width = rotated == config.head_width ? 0 : rotated;
  const std::string type = has("rope.scaling.type") ? text("rope.scaling.type") : "none";
  RotaryScaling& scaling = config.rotary_scaling;
  if (type == "linear") {
    scaling = {.kind = RotaryScaling::Kind::kLinear, .factor = number("rope.scaling.factor"), .divisors = {}};
  } else if (type == "yarn") {
    scaling = {.kind = RotaryScaling::Kind::kYarn,
               .factor = number("rope.scaling.factor"),
               .low_turns = number_or("rope.scaling.yarn_beta_slow", 1.0),
               .high_turns = number_or("rope.scaling.yarn_beta_fast", 32.0),
               .original_context = size_or("rope.scaling.original_context_length", config.context),
               .divisors = {}};
    scaling.magnitude = number_or("rope.scaling.attn_factor", 1.0) * yarn_magnitude(scaling.factor);
    for (const auto& [key, plain] : {std::pair{"rope.scaling.yarn_log_multiplier", 0.0}, {"rope.scaling.yarn_ext_factor", 1.0}, {"rope.scaling.yarn_attn_factor", 1.0}})
      if (number_or(key, plain) != plain) fail("{}: {} is {}, which is not supported", file_.path().string(), full(key), number(key));
  } else if (type != "none" && type != "longrope") {
    fail("{}: {} is \"{}\", which is not supported", file_.path().string(), full("rope.scaling.type"), shown(type));
  }
  if (file_.contains(kShortFactors) || file_.contains(kLongFactors)) read_longrope(config, type);
  if (file_.contains(kDivisors)) {
    read_divisors(config, kDivisors, type);
    if (const std::optional<RotaryScaling> known = llama3_scaling(config)) scaling = *known;
  }
}

/// Those for the first context, to which the network then is held: see read_longrope in config_json.cpp.
void GgufSettings::read_longrope(TransformerConfig& config, const std::string& type) const {
  read_divisors(config, kShortFactors, type == "longrope" ? "none" : type);
  config.rotary_scaling.magnitude = number_or("rope.scaling.attn_factor", 1.0);
  config.context = std::min(config.context, size("rope.scaling.original_context_length"));
}

void GgufSettings::read_divisors(TransformerConfig& config, const char* name, const std::string& type) const {
  const GgufTensor& divisors = file_.tensor(name);
  if (const std::vector<int64_t> wanted = {rotated_width(config) / 2}; divisors.shape != wanted || type != "none")
    fail("{}: tensor \"{}\" is [{}] with scaling \"{}\"; it must be [{}] with none", file_.path().string(), name,
         fmt::join(divisors.shape, ", "), shown(type), wanted[0]);
  config.rotary_scaling.kind = RotaryScaling::Kind::kDivisors;
  config.rotary_scaling.divisors = dequantize(divisors);
}

bool is_rotary_tensor(std::string_view name) { return name == kDivisors || name == kShortFactors || name == kLongFactors; }

}  // namespace sememe

#pragma once
// What config.json files of all families have in common.

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include "sememe/base/json.h"
#include "sememe/families/transformer_config.h"

namespace sememe {

/// The member `key`, a size. @throws Error naming it unless it is from 1 to 2^31
int64_t size_member(const Json& json, const char* key, std::optional<int64_t> fallback, std::string_view where);

/// Fails unless the key is missing, null or equal to one of the values.
void only(const Json& json, const char* key, std::initializer_list<Json> values, std::string_view where);

/// The member `key` that names the MLP's function, as Hugging Face's libraries do.
FeedForward feed_forward_member(const Json& json, const char* key, const char* fallback, bool gated, std::string_view where);

/// The name that feed_forward_member reads.
const char* feed_forward_name(FeedForward function);

/// Writes "layer_types". @param config with local layers, or without
void write_layer_types(const TransformerConfig& config, Json& json);

/// How positions turn: rope_theta, rope_scaling, rope_parameters and partial_rotary_factor, of files old and new.
/// @param base_key, part_key the family's own names for rope_theta and partial_rotary_factor in old files
/// @param part               of each head's width, where the file does not say
void read_rotary(const Json& json, TransformerConfig& config, std::string_view where, const char* base_key = "rope_theta",
                 const char* part_key = "partial_rotary_factor", double part = 1.0);

/// How much of each head's width is rotated.
double rotated_part(const TransformerConfig& config);

/// One object of rope_scaling or rope_parameters.
/// @param original_context tokens of the first training's contexts, where the file says them outside the object
void read_rope_object(const Json& rope, std::optional<int64_t> original_context, TransformerConfig& config, const std::string& where);

/// The sizes and whether the head is tied, under the names that all but the oldest families use; heads share no keys and are
/// width / heads wide unless the file says so.
TransformerConfig common_config(const Json& json, std::string_view where);

/// Which layers are local: "layer_types", or where there is none what `local` says of the layer.
void read_local_layers(const Json& json, int64_t window, const std::function<bool(int64_t layer)>& local, TransformerConfig& config,
                       std::string_view where);

}  // namespace sememe

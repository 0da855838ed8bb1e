#pragma once
// What config.json files of all families have in common.

#include <cstdint>
#include <initializer_list>
#include <optional>
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

/// rope_theta, rope_scaling, rope_parameters and partial_rotary_factor, of files old and new.
void read_rotary(const Json& json, TransformerConfig& config, std::string_view where);

}  // namespace sememe

#pragma once
// What lies beside a tokenizer.json and says how its model begins and ends texts.

#include <filesystem>

#include "sememe/text/tokenizer_file.h"

namespace sememe {

/// Reads tokenizer_config.json, generation_config.json, config.json and chat_template.jinja in `folder`, as far as they are there.
/// @throws Error naming the file and the key that is malformed or names no token
void read_settings(TokenizerFile& file, const std::filesystem::path& folder);

/// What read_settings reads, as a tokenizer_config.json; empty where there is nothing to say.
Json settings_json(const TokenizerFile& file);

}  // namespace sememe

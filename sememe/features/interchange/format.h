#pragma once
// The folders in which other tools keep dictionaries. A new format is its source file and one line in formats.cpp.

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "sememe/features/interchange/parts.h"

namespace sememe {

struct ReadOptions {
  /// The dictionary will be given rows that are normalised already, as it wants them (mean 0 and deviation 1, or norm sqrt(width)): what
  /// depends on the row cannot be folded into weights.
  bool inputs_normalized = false;
};

struct WriteOptions {
  std::filesystem::path description;  ///< folder made by dictionary describe; empty: none
};

struct DictionaryFormat {
  std::string_view name;  ///< on the command line, e.g. "saelens"
  std::string_view mark;  ///< the file by which a folder is known that was written before
  bool (*recognises)(const std::filesystem::path& folder);
  /// Null where only writing is possible. @throws Error naming file and key
  DictionaryParts (*read)(const std::filesystem::path& folder, const ReadOptions& options);
  /// Where the dictionary was learnt, as its source says, without reading weights; empty if it does not say. Null as read.
  std::string (*site)(const std::filesystem::path& folder);
  /// Into an existing folder. Null where only reading is possible. @throws Error naming what the format cannot hold
  void (*write)(const DictionaryParts& parts, const std::filesystem::path& folder, const WriteOptions& options);
};

/// All but Sememe's own.
std::span<const DictionaryFormat> dictionary_formats();

/// The format of the folder; null if it is Sememe's own or none recognises it.
const DictionaryFormat* recognise_format(const std::filesystem::path& folder);

/// "saelens, sparsify, ...": those that can be written.
std::string writable_formats();

/// The site of the dictionary in `folder`, of whatever format; empty if it does not say.
std::string dictionary_site(const std::filesystem::path& folder);

/// Writes `dictionary` to `folder`, whole, as the format of that name, or as Sememe's own ("sememe").
/// @throws UsageError if there is no such format to write
void write_dictionary(const Dictionary& dictionary, std::string_view format, const std::filesystem::path& folder,
                      const WriteOptions& options = {});

/// What each format file has: read and, where there is one, write.
DictionaryParts read_saelens(const std::filesystem::path& folder, const ReadOptions& options);
std::string saelens_site(const std::filesystem::path& folder);
void write_saelens(const DictionaryParts& parts, const std::filesystem::path& folder, const WriteOptions& options);
DictionaryParts read_sparsify(const std::filesystem::path& folder, const ReadOptions& options);
std::string sparsify_site(const std::filesystem::path& folder);
void write_sparsify(const DictionaryParts& parts, const std::filesystem::path& folder, const WriteOptions& options);
DictionaryParts read_dictionary_learning(const std::filesystem::path& folder, const ReadOptions& options);
std::string dictionary_learning_site(const std::filesystem::path& folder);
void write_dictionary_learning(const DictionaryParts& parts, const std::filesystem::path& folder, const WriteOptions& options);
DictionaryParts read_gemma_scope(const std::filesystem::path& folder, const ReadOptions& options);
void write_gemma_scope(const DictionaryParts& parts, const std::filesystem::path& folder, const WriteOptions& options);
bool is_openai(const std::filesystem::path& folder);
DictionaryParts read_openai(const std::filesystem::path& folder, const ReadOptions& options);
void write_neuronpedia(const DictionaryParts& parts, const std::filesystem::path& folder, const WriteOptions& options);

/// The config.json of a dictionary that came from elsewhere: its site and model, and under "origin" all that its own config said.
Json imported_config(std::string_view format, const Json& source, const std::string& site, const std::string& model);

/// What the source's own config said, if the dictionary came from this format; else an empty object.
Json source_config(const DictionaryParts& parts, std::string_view format);

/// @throws Error naming file and key unless 1 <= k <= latents
int64_t checked_k(int64_t k, int64_t latents, std::string_view where);

}  // namespace sememe

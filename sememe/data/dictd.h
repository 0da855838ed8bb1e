#pragma once
// Dictionaries in the format of dictd: NAME.index lists "headword<TAB>offset<TAB>length" with numbers in base 64, the
// entries stand in NAME.dict or NAME.dict.dz beside it.

#include <filesystem>
#include <vector>

#include "sememe/data/corpus.h"

namespace sememe {

/// One document an entry, in the order of the text; entries that several headwords share come once, those whose
/// headword begins with "00-database" or "00database" (descriptions of the dictionary) not at all.
/// @throws Error naming file and line if the index does not fit the text
std::vector<Document> read_dictd(const std::filesystem::path& index);

/// One document a text between lines that hold only "%" (fortune files) or only '%' signs.
std::vector<Document> read_fortunes(const std::filesystem::path& path);

}  // namespace sememe

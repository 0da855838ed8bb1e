#pragma once
// A training corpus from a list of sources: read, unwrapped, freed of repeated sentences, and split so that no held-out
// text shares a sentence, or twelve words in a row, with training text.

#include <cstdint>
#include <filesystem>

namespace sememe {

/// Writes train.jsonl.zst, validation.jsonl.zst and heldout.jsonl.zst (members "text", "source") and sources.json
/// (files, documents and bytes of every source, with its package and licence) into the folder `out`, whole or not at
/// all. The same sources and seed give the same files.
/// @param sources JSON file {"sources": [{"name", "format", "paths": [glob ...], "package", "licence"} ...]}; format is one of
///                dictd (index files), fortunes, text, jsonl, html, pod, rst; any file they name may be compressed
/// @throws Error naming the source, and the Debian package that brings it, if no file matches
void build_corpus(const std::filesystem::path& sources, const std::filesystem::path& out, uint64_t seed);

}  // namespace sememe

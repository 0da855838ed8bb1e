#pragma once
// Sentences with a class, from WordNet: the gloss of a synset and the lexicographer file that the synset is kept in, e.g. noun.animal.

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace sememe {

struct LabelledSentence {
  std::string text;
  std::string label;
};

/// The name of a lexicographer file by its number, 0 .. 44 (WordNet 3.0, lexnames(5WN)). @throws Error for any other number
std::string_view lexicographer_file(int number);

/// The definitions in data.noun and data.verb: each gloss up to its first example. A text that stands at several synsets comes once, with
/// the class of the first; texts of fewer than `least_words` words do not come.
/// @param folder of the database files, e.g. /usr/share/wordnet of the Debian package wordnet-base
/// @throws Error naming the file if it is missing, or file and line if it is malformed
std::vector<LabelledSentence> read_wordnet_glosses(const std::filesystem::path& folder, int least_words = 5);

}  // namespace sememe

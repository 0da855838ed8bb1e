#include "sememe/data/wordnet.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <unordered_set>

#include "sememe/base/error.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 45> kLexicographerFiles = {
    "adj.all",         "adj.pert",       "adv.all",          "noun.Tops",      "noun.act",        "noun.animal",   "noun.artifact",
    "noun.attribute",  "noun.body",      "noun.cognition",   "noun.communication", "noun.event",  "noun.feeling",  "noun.food",
    "noun.group",      "noun.location",  "noun.motive",      "noun.object",    "noun.person",     "noun.phenomenon", "noun.plant",
    "noun.possession", "noun.process",   "noun.quantity",    "noun.relation",  "noun.shape",      "noun.state",    "noun.substance",
    "noun.time",       "verb.body",      "verb.change",      "verb.cognition", "verb.communication", "verb.competition", "verb.consumption",
    "verb.contact",    "verb.creation",  "verb.emotion",     "verb.motion",    "verb.perception", "verb.possession", "verb.social",
    "verb.stative",    "verb.weather",   "adj.ppl"};

std::string definition_of(std::string_view gloss) {
  gloss = gloss.substr(0, gloss.find("; \""));
  const auto begin = gloss.find_first_not_of(' '), end = gloss.find_last_not_of(" ;");
  return begin == std::string_view::npos || end == std::string_view::npos ? "" : std::string(gloss.substr(begin, end - begin + 1));
}

}  // namespace

std::string_view lexicographer_file(int number) {
  if (number < 0 || number >= static_cast<int>(kLexicographerFiles.size())) fail("WordNet has no lexicographer file {}", number);
  return kLexicographerFiles[number];
}

std::vector<LabelledSentence> read_wordnet_glosses(const fs::path& folder, int least_words) {
  std::vector<LabelledSentence> sentences;
  std::unordered_set<std::string> seen;
  for (const char* const name : {"data.noun", "data.verb"}) {
    const fs::path path = folder / name;
    std::ifstream file(path);
    if (!file) fail("{}: cannot be read; the Debian package wordnet-base brings it", path.string());
    std::string line;
    for (int64_t number = 1; std::getline(file, line); ++number) {
      if (line.starts_with("  ")) continue;  // the licence
      // "offset file kind words ... | gloss"
      const size_t first = line.find(' '), bar = line.find(" | ");
      int lexicographer = -1;
      if (first != std::string::npos && line.size() >= first + 3)
        std::from_chars(line.data() + first + 1, line.data() + first + 3, lexicographer);
      if (bar == std::string::npos || lexicographer < 0 || lexicographer >= static_cast<int>(kLexicographerFiles.size()))
        fail("{}: line {} is no synset of WordNet's database format", path.string(), number);
      std::string text = definition_of(std::string_view(line).substr(bar + 3));
      if (std::count(text.begin(), text.end(), ' ') + 1 < least_words || !seen.insert(text).second) continue;
      sentences.push_back({std::move(text), std::string(kLexicographerFiles[lexicographer])});
    }
  }
  return sentences;
}

}  // namespace sememe

#include "sememe/text/character_map.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "sememe/base/error.h"
#include "sememe/base/random.h"

namespace sememe {
namespace {

/// An array of a root and of the paths of `keys`, each with the place of its replacement; laid out by trying offsets.
std::string compiled(const std::vector<std::pair<std::string, std::string>>& entries) {
  std::string replacements;
  std::vector<std::pair<std::string, uint32_t>> keys;
  for (const auto& [key, replacement] : entries) {
    keys.emplace_back(key, static_cast<uint32_t>(replacements.size()));
    replacements += replacement + '\0';
  }
  std::vector<uint32_t> units(1024, 0xFFu << 10);
  std::vector<bool> taken(1024);
  taken[0] = true;
  // Lays out what follows `prefix`, whose unit is at `position`.
  const auto lay = [&](const auto& self, const std::string& prefix, uint32_t position) -> void {
    std::vector<unsigned char> labels;
    const uint32_t* value = nullptr;
    for (const auto& [key, place] : keys) {
      if (key == prefix) value = &place;
      if (key.size() <= prefix.size() || !key.starts_with(prefix)) continue;
      const auto label = static_cast<unsigned char>(key[prefix.size()]);
      if (std::find(labels.begin(), labels.end(), label) == labels.end()) labels.push_back(label);
    }
    for (uint32_t offset = 1; offset < 512; ++offset) {
      const uint32_t base = position ^ offset;
      bool free = base < 512 && !(value && taken[base]);
      for (const unsigned char label : labels) free = free && (base ^ label) < 1024 && !taken[base ^ label];
      if (!free) continue;
      if (value) taken[base] = true, units[base] = *value | 0x80000000u;
      units[position] = (units[position] & 0xFFu) | offset << 10 | (value ? 1u << 8 : 0u);
      for (const unsigned char label : labels) taken[base ^ label] = true, units[base ^ label] = label;
      for (const unsigned char label : labels) self(self, prefix + static_cast<char>(label), base ^ label);
      return;
    }
    FAIL() << "no room";
  };
  lay(lay, "", 0);
  const auto bytes = static_cast<uint32_t>(units.size() * sizeof(uint32_t));
  std::string all(sizeof bytes + bytes, '\0');
  std::memcpy(all.data(), &bytes, sizeof bytes);
  std::memcpy(all.data() + sizeof bytes, units.data(), bytes);
  return all + replacements;
}

TEST(CharacterMap, FindsTheShortestAndTheLongestBeginningThatIsReplaced) {
  const CharacterMap map(compiled({{"ab", "X"}, {"abcd", "long"}, {"b", ""}, {"\xC3\xA9", "e"}}), "map");
  ASSERT_TRUE(map.shortest("abcde"));
  EXPECT_EQ(map.shortest("abcde")->replacement, "X");
  EXPECT_EQ(map.shortest("abcde")->length, 2u);
  EXPECT_EQ(map.longest("abcde")->replacement, "long");
  EXPECT_EQ(map.longest("abcde")->length, 4u);
  EXPECT_EQ(map.longest("abce")->replacement, "X");
  EXPECT_EQ(map.longest("b")->replacement, "");
  EXPECT_EQ(map.longest("\xC3\xA9t\xC3\xA9")->replacement, "e");
  for (const char* const text : {"", "a", "c", "\xC3", "zab"}) EXPECT_FALSE(map.longest(text)) << text;
  EXPECT_EQ(map.longest_replacement(), 4u);
}

TEST(CharacterMap, CutShortItIsRefused) {
  const std::string whole = compiled({{"a", "b"}});
  for (const size_t size : {size_t{0}, size_t{3}, size_t{4}, size_t{5}, size_t{4 + 4 * 1024 - 1}, whole.size() - 1}) {
    try {
      CharacterMap(std::string_view(whole).substr(0, size), "map.json");
      FAIL() << size << " of " << whole.size() << " bytes";
    } catch (const Error& error) {
      EXPECT_EQ(std::string(error.what()).find("map.json: "), 0u) << error.what();
    }
  }
}

TEST(CharacterMap, OfAnyBytesStaysWithinThem) {
  RandomStream stream(3, "hostile");
  for (int round = 0; round < 300; ++round) {
    std::string bytes = compiled({{"ab", "X"}, {"b", "YY"}});
    for (int i = 0; i < 400; ++i) bytes[4 + stream.below(bytes.size() - 5)] = static_cast<char>(stream.below(256));
    const CharacterMap map(bytes, "map");
    for (const char* const text : {"abab", "b", "\xFF\xFE", "caf\xC3\xA9"})
      if (const auto match = map.longest(text)) EXPECT_LE(match->replacement.size(), map.longest_replacement());
  }
}

}  // namespace
}  // namespace sememe

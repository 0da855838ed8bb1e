#include "sememe/text/character_kind.h"

#include <unicode/uchar.h>

#include <algorithm>
#include <vector>

#include "sememe/text/utf8.h"

namespace sememe {
namespace {

using enum CharacterKind;

CharacterKind kind_of_category(UCharCategory category) {
  const uint32_t mask = U_MASK(category);
  if (mask & (U_GC_LU_MASK | U_GC_LT_MASK)) return kUpper;
  if (mask & U_GC_LL_MASK) return kLower;
  if (mask & U_GC_L_MASK) return kLetter;
  if (mask & U_GC_N_MASK) return kNumber;
  if (mask & U_GC_M_MASK) return kMark;
  return mask & U_GC_Z_MASK ? kSpace : kOther;
}

struct Range {
  char32_t first, last;
  CharacterKind kind;
};

/// Letters, numbers and marks that Unicode 15.1 and 16.0 added. Oniguruma, which Hugging Face splits with, knows them; an older ICU has
/// them unassigned.
constexpr Range kAddedAfterUnicode15[] = {
    {0x1C89, 0x1C89, kUpper},    {0x1C8A, 0x1C8A, kLower},    {0xA7CB, 0xA7CC, kUpper},    {0xA7CD, 0xA7CD, kLower},
    {0xA7DA, 0xA7DA, kUpper},    {0xA7DB, 0xA7DB, kLower},    {0xA7DC, 0xA7DC, kUpper},    {0x105C0, 0x105F3, kLetter},
    {0x10D40, 0x10D49, kNumber}, {0x10D4A, 0x10D4F, kLetter}, {0x10D50, 0x10D65, kUpper},  {0x10D6F, 0x10D6F, kLetter},
    {0x10D70, 0x10D85, kLower},  {0x10EC2, 0x10EC4, kLetter}, {0x11380, 0x11389, kLetter}, {0x1138B, 0x1138B, kLetter},
    {0x1138E, 0x1138E, kLetter}, {0x11390, 0x113B5, kLetter}, {0x113B7, 0x113B7, kLetter}, {0x113D1, 0x113D1, kLetter},
    {0x113D3, 0x113D3, kLetter}, {0x116D0, 0x116E3, kNumber}, {0x11BC0, 0x11BE0, kLetter}, {0x11BF0, 0x11BF9, kNumber},
    {0x13460, 0x143FA, kLetter}, {0x16100, 0x1611D, kLetter}, {0x16130, 0x16139, kNumber}, {0x16D40, 0x16D6C, kLetter},
    {0x16D70, 0x16D79, kNumber}, {0x18CFF, 0x18CFF, kLetter}, {0x1CCF0, 0x1CCF9, kNumber}, {0x1E5D0, 0x1E5ED, kLetter},
    {0x1E5F0, 0x1E5F0, kLetter}, {0x1E5F1, 0x1E5FA, kNumber}, {0x2EBF0, 0x2EE5D, kLetter}};

std::vector<CharacterKind> make_kinds() {
  std::vector<CharacterKind> kinds(kCodePoints, kOther);
  const auto fill = [](const void* context, UChar32 start, UChar32 limit, UCharCategory category) -> UBool {
    auto& all = *static_cast<std::vector<CharacterKind>*>(const_cast<void*>(context));
    std::fill(all.begin() + start, all.begin() + limit, kind_of_category(category));
    return true;
  };
  u_enumCharTypes(fill, &kinds);
  for (const Range& added : kAddedAfterUnicode15) std::fill(kinds.begin() + added.first, kinds.begin() + added.last + 1, added.kind);
  // White_Space is the separators (category Z) and these controls.
  for (const char32_t control : {0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x85}) kinds[control] = kSpace;
  return kinds;
}

}  // namespace

const CharacterKind* character_kinds() {
  static const std::vector<CharacterKind> table = make_kinds();
  return table.data();
}

CharacterKind character_kind(char32_t code_point) {
  return code_point < kCodePoints ? character_kinds()[code_point] : kOther;
}

}  // namespace sememe

#pragma once
// JSON from files that may be hostile, and JSON to files that are whole or absent.

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>
#include <type_traits>
#include <utility>

namespace sememe {

using Json = nlohmann::json;

/// @param where what is being read, for the message
/// @throws Error naming `where` and the place of the fault if the text is not JSON or is nested deeper than 200 levels
Json parse_json(std::string_view text, std::string_view where);

Json read_json(const std::filesystem::path& path);

/// Two-space indented, keys in order, a newline at the end. Non-finite numbers become null.
void write_json(const std::filesystem::path& path, const Json& value);

/// The member `key` of `object` as T.
/// @throws Error naming `where` and the key if it is missing or of another type
template <class T>
T json_member(const Json& object, const char* key, std::string_view where);

/// As json_member, but `fallback` where the key is missing or null.
template <class T>
T json_member_or(const Json& object, const char* key, T fallback, std::string_view where);

}  // namespace sememe

#include "sememe/base/error.h"

namespace sememe {

template <class T>
T json_member(const Json& object, const char* key, std::string_view where) {
  if (!object.is_object() || !object.contains(key)) fail("{}: the key \"{}\" is missing", where, key);
  // The parser's conversions would take 2.7 for 2, -1 for 2^64 - 1 and true for 1.
  if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
    const Json& value = object.at(key);
    bool fits = value.is_number_unsigned() ? std::in_range<T>(value.get<uint64_t>())
                                           : value.is_number_integer() && std::in_range<T>(value.get<int64_t>());
    if (value.is_number_float() && std::abs(value.get<double>()) <= 0x1p53)  // 2e6 is as good as 2000000
      fits = std::trunc(value.get<double>()) == value.get<double>() && std::in_range<T>(value.get<int64_t>());
    if (!fits) fail("{}: the key \"{}\" is no whole number in range: {}", where, key, value.dump().substr(0, 60));
  }
  try {
    return object.at(key).get<T>();
  } catch (const Json::exception&) {
    fail("{}: the key \"{}\" has the wrong type: {}", where, key, object.at(key).dump().substr(0, 60));
  }
}

template <class T>
T json_member_or(const Json& object, const char* key, T fallback, std::string_view where) {
  if (!object.is_object() || !object.contains(key) || object.at(key).is_null()) return fallback;
  return json_member<T>(object, key, where);
}

}  // namespace sememe

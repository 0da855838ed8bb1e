#pragma once
// One HTML file that needs nothing else: the template, the style and the drawing functions of web/, a script and its data.

#include <string>
#include <string_view>

#include "sememe/base/json.h"

namespace sememe {

/// JSON that can stand inside a script element of an HTML page: no <, >, & or line separator is left in it, and bytes that are not UTF-8
/// become U+FFFD.
std::string script_safe_json(const Json& value);

/// @param title  without characters that HTML sets apart
/// @param script draws `data`, with what web/drawing.js offers
std::string self_contained_page(std::string_view title, std::string_view script, const Json& data);

}  // namespace sememe

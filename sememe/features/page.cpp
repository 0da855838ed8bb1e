#include "sememe/features/page.h"

#include "sememe/base/error.h"

namespace sememe {

namespace embedded {  // made from web/ by cmake/embed.cmake
extern const std::string_view page_html, page_css, drawing_js;
}

namespace {

void replace_once(std::string& text, std::string_view mark, std::string_view by) {
  const size_t place = text.find(mark);
  if (place == std::string::npos) fail("the page template lacks {}; was the program built from a whole tree?", mark);
  text.replace(place, mark.size(), by);
}

}  // namespace

std::string script_safe_json(const Json& value) {
  std::string safe;
  const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  for (size_t i = 0; i < text.size(); ++i) {
    switch (text[i]) {
      case '<': safe += "\\u003c"; break;
      case '>': safe += "\\u003e"; break;
      case '&': safe += "\\u0026"; break;
      default:
        // U+2028 and U+2029 end a line in older scripts.
        if (text.compare(i, 2, "\xE2\x80") == 0 && i + 2 < text.size() && (text[i + 2] == '\xA8' || text[i + 2] == '\xA9')) {
          safe += text[i + 2] == '\xA8' ? "\\u2028" : "\\u2029";
          i += 2;
        } else {
          safe += text[i];
        }
    }
  }
  return safe;
}

std::string self_contained_page(std::string_view title, std::string_view script, const Json& data) {
  std::string page(embedded::page_html);
  replace_once(page, "{{title}}", title);
  replace_once(page, "{{style}}", embedded::page_css);
  replace_once(page, "{{script}}", std::string(embedded::drawing_js) + std::string(script));
  // Last, so that no text in the data can stand for a mark of the template.
  replace_once(page, "{{data}}", script_safe_json(data));
  return page;
}

}  // namespace sememe

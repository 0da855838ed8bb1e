#include "sememe/base/json.h"

#include <string>

#include "sememe/base/files.h"

namespace sememe {

Json parse_json(std::string_view text, std::string_view where) {
  // Values nested without end would exhaust memory or the stack of later walks; no file of ours comes near 200 levels.
  constexpr int kDeepest = 200;
  const auto limit = [&](int depth, Json::parse_event_t, Json&) {
    if (depth > kDeepest) fail("{}: JSON nested deeper than {} levels", where, kDeepest);
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), limit);
  } catch (const Json::exception& error) {
    std::string why = error.what();
    if (const auto colon = why.find("] "); colon != std::string::npos) why = why.substr(colon + 2);
    if (why.size() > 160) why = why.substr(0, 160) + " ...";
    for (char& c : why)
      if (static_cast<unsigned char>(c) < 32 || static_cast<unsigned char>(c) > 126) c = '?';
    fail("{}: is not JSON: {}", where, why);
  }
}

Json read_json(const std::filesystem::path& path) { return parse_json(read_file(path), path.string()); }

void write_json(const std::filesystem::path& path, const Json& value) {
  write_file(path, value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace sememe

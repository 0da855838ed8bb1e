#include "sememe/formats/shown.h"

namespace sememe {

std::string shown(std::string_view name) {
  std::string text(name.substr(0, 80));
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 32 || c == 127) c = '?';
  return name.size() > 80 ? text + "..." : text;
}

}  // namespace sememe

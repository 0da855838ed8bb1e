#include "sememe/network/network.h"

#include "sememe/base/error.h"

namespace sememe {

const Site& find_site(const Network& network, std::string_view name) {
  std::string names;
  for (const Site& site : network.sites()) {
    if (site.name == name) return site;
    names += (names.empty() ? "" : ", ") + site.name;
  }
  fail_usage("there is no site \"{}\"; this network has {}", name, names);
}

}  // namespace sememe

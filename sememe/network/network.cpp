#include "sememe/network/network.h"

#include "sememe/base/error.h"

namespace sememe {

const Site& find_site(const Network& network, std::string_view name) {
  std::string names;
  for (const Site& site : network.sites()) {
    if (site.name == name) return site;
    names += (names.empty() ? "" : ", ") + site.name;
  }
  if (name.find('+') != std::string_view::npos)
    fail_usage("\"{}\" are several sites side by side; only capture, training, evaluation and descriptions take those", name);
  fail_usage("there is no site \"{}\"; this network has {}", name, names);
}

std::vector<std::string> split_sites(std::string_view joined) {
  std::vector<std::string> names(1);
  for (const char letter : joined) {
    if (letter == '+')
      names.emplace_back();
    else
      names.back() += letter;
  }
  return names;
}

std::vector<Site> find_sites(const Network& network, std::string_view joined) {
  std::vector<Site> found;
  ptrdiff_t before = -1;
  for (const std::string& name : split_sites(joined)) {
    const ptrdiff_t place = &find_site(network, name) - network.sites().data();
    if (place <= before)
      fail_usage("\"{}\": give each site once, in the order in which the network reaches them; {} comes after {}", joined, found.back().name,
                 name);
    found.push_back(network.sites()[place]);
    before = place;
  }
  return found;
}

}  // namespace sememe

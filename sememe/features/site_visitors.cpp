#include "sememe/features/site_visitors.h"

#include "sememe/base/error.h"

namespace sememe {

std::vector<Site> written_sites(const Dictionary& dictionary, const LanguageModel& model, std::string_view joined) {
  const Columns columns = dictionary.written();
  std::vector<Site> written;
  int64_t begin = 0, count = 0;
  for (const Site& site : find_sites(*model.network, joined)) {
    if (begin >= columns.begin && begin + site.width <= columns.begin + columns.count) {
      written.push_back(site);
      count += site.width;
    }
    begin += site.width;
  }
  if (begin != dictionary.width() || count != columns.count)
    fail("the dictionary takes rows of width {}, but site \"{}\" of {} has width {}; was it learnt there?", dictionary.width(), joined,
         model.folder.string(), begin);
  return written;
}

}  // namespace sememe

#include "sememe/features/architectures.h"

#include <array>

#include "sememe/base/error.h"
#include "sememe/features/gradient_top_k.h"
#include "sememe/features/top_k.h"

namespace sememe {

std::span<const Architecture> architectures() {
  static const std::array all{
      Architecture{"topk", "the k largest latents of each row (Gao et al. 2024)", false, load_top_k, learn_top_k},
      Architecture{"gsae", "as topk, selecting also by influence on the loss (Olmo et al. 2024)", true, load_gradient_top_k,
                   learn_gradient_top_k},
  };
  return all;
}

const Architecture& find_architecture(std::string_view name) {
  std::string names;
  for (const Architecture& architecture : architectures()) {
    if (architecture.name == name) return architecture;
    names += (names.empty() ? "" : ", ") + std::string(architecture.name);
  }
  fail_usage("--architecture {}: there is no such architecture; choose one of {}", name, names);
}

std::shared_ptr<Dictionary> load_dictionary(const std::filesystem::path& folder) {
  const std::filesystem::path config_path = folder / "config.json";
  if (!std::filesystem::exists(config_path))
    fail("{}: is not a dictionary (there is no config.json in it)", folder.string());
  const Json config = read_json(config_path);
  const auto name = json_member<std::string>(config, "architecture", config_path.string());
  for (const Architecture& architecture : architectures())
    if (architecture.name == name) return architecture.load(config, SafetensorsFile(folder / "dictionary.safetensors"));
  fail("{}: the architecture \"{}\" is not known here", config_path.string(), name);
}

}  // namespace sememe

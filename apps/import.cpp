#include <fmt/format.h>

#include <memory>
#include <set>
#include <string>

#include "apps/command.h"
#include "sememe/base/error.h"
#include "sememe/base/files.h"
#include "sememe/base/json.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;

/// What is known of a model before its weights are read.
struct Source {
  TransformerConfig config;
  std::set<std::string> types;  ///< of its weights
  uint64_t bytes = 0;           ///< of its weights
};

Source source_of(const fs::path& path) {
  Source source;
  if (path.extension() == ".gguf") {
    const GgufFile file(path);
    source.config = describe_gguf(file).config;
    for (const GgufTensor& tensor : file.tensors()) {
      source.types.insert(std::string(block_layout(tensor.type).name));
      source.bytes += tensor.data.size();
    }
  } else if (path.extension() == ".bin") {
    const Llama2cFile file(path);
    source.config = describe_llama2c(file).config;
    source.types = {"F32"};
    source.bytes = fs::file_size(path);
  } else {
    const fs::path place = path / "config.json";
    if (!fs::exists(place)) read_json(place);  // says so, rather than that the weights are missing
    const WeightFiles files(path);
    source.config = describe_folder(files).config;
    for (const auto& [name, file] : files.names()) {
      const TensorView& view = files.holding(name).tensor(name);
      source.types.insert(std::string(dtype_name(view.dtype)));
      source.bytes += view.data.size();
    }
  }
  return source;
}

struct ImportCommand {
  CommonOptions common;
  fs::path path, tokenizer, out;
  bool float32 = false;

  void run() const {
    apply(common);
    if (is_encoder_folder(path)) fail("{}: is an encoder's folder, which `model embed`, `model info` and `capture` take as it is", path.string());
    if (!fs::exists(path)) fail("{}: there is no such file or folder", path.string());
    if (fs::exists(out) && fs::equivalent(out, path)) fail_usage("--out {}: is the model's own folder; give another", out.string());
    check_output_folder(out, "model.safetensors");
    const Source source = source_of(path);
    Json config;
    try {
      config = describe_written(source.config).config_json;
    } catch (const Error& error) {
      fail("{}: {}; commands take the {} as it is", path.string(), error.what(), fs::is_directory(path) ? "folder" : "file");
    }
    const LanguageModel model = LanguageModel::load(path, Precision::kFloat32, tokenizer);
    const char* const type = float32 ? "float32" : "float16";
    model.save(out, float32 ? torch::kFloat32 : torch::kFloat16);
    int64_t parameters = 0;
    for (const torch::Tensor& parameter : model.network->parameters()) parameters += parameter.numel();
    const uint64_t bytes = fs::file_size(out / "model.safetensors");
    const double ratio = static_cast<double>(bytes) / static_cast<double>(source.bytes);
    const auto family = config.at("model_type").get<std::string>();
    if (!common.json.empty())
      write_json(common.json, {{"family", family},
                               {"parameters", parameters},
                               {"from_types", source.types},
                               {"from_bytes", source.bytes},
                               {"type", type},
                               {"bytes", bytes}});
    fmt::print("{}: {}, {} parameters, {:.1f} MB of {}\n", path.string(), family, parameters, static_cast<double>(source.bytes) / 1e6,
               fmt::join(source.types, ", "));
    fmt::print("{}: {:.1f} MB of {}, {}\n", out.string(), static_cast<double>(bytes) / 1e6, type,
               ratio > 1.005   ? fmt::format("{:.2f} times as large", ratio)
               : ratio < 0.995 ? fmt::format("{:.2f} of the size", ratio)
                               : "of the same size");
  }
};

}  // namespace

void add_import_command(CLI::App& model) {
  const auto command = std::make_shared<ImportCommand>();
  CLI::App* const app = add_command(model, "import", "Bring a model of any file that is read into a folder of this program's own form",
                                    "sememe model import SmolLM2-135M.gguf --out runs/smollm2\n"
                                    "  sememe model import stories.bin --tokenizer tok512.bin --float32 --out runs/stories");
  app->add_option("path", command->path, "A .gguf file, a folder of Hugging Face's form or a llama2.c checkpoint (.bin)")->required();
  app->add_option("--out", command->out, "Folder to write: config.json, model.safetensors, tokenizer.json")->required();
  app->add_flag("--float32", command->float32, "Write every bit of float32 weights; by default they are rounded to float16, half as large");
  add_tokenizer_option(*app, command->tokenizer);
  add_common_options(*app, command->common);
  app->callback([command] { command->run(); });
}

}  // namespace sememe

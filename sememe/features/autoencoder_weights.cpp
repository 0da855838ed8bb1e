#include "sememe/features/autoencoder_weights.h"

#include "sememe/base/error.h"
#include "sememe/base/random.h"

namespace sememe {

AutoencoderWeights AutoencoderWeights::zeros(int64_t latents, int64_t width) {
  return {torch::zeros({latents, width}), torch::zeros({latents}), torch::zeros({latents, width}), torch::zeros({width})};
}

AutoencoderWeights AutoencoderWeights::to(torch::Device device) const {
  return {encoder.to(device), encoder_bias.to(device), decoder.to(device), decoder_bias.to(device)};
}

NamedTensors AutoencoderWeights::named(const std::string& prefix) const {
  return {{prefix + "encoder", encoder},
          {prefix + "encoder_bias", encoder_bias},
          {prefix + "decoder", decoder},
          {prefix + "decoder_bias", decoder_bias}};
}

AutoencoderWeights AutoencoderWeights::load(const Json& config, const SafetensorsFile& file) {
  const std::string where = config_path(file);
  const auto latents = json_member<int64_t>(config, "latents", where), width = json_member<int64_t>(config, "width", where);
  if (latents < 1 || width < 1) fail("{}: latents {} and width {} cannot be: both are at least 1", where, latents, width);
  return {load_weight(file, "encoder", {latents, width}), load_weight(file, "encoder_bias", {latents}),
          load_weight(file, "decoder", {latents, width}), load_weight(file, "decoder_bias", {width})};
}

NamedTensors named_with_moments(const AutoencoderWeights& weights, const AutoencoderWeights& first_moments,
                                const AutoencoderWeights& second_moments) {
  NamedTensors all = weights.named("weights.");
  for (const auto& tensor : first_moments.named("first_moments.")) all.push_back(tensor);
  for (const auto& tensor : second_moments.named("second_moments.")) all.push_back(tensor);
  return all;
}

std::string config_path(const SafetensorsFile& file) { return (file.path().parent_path() / "config.json").string(); }

torch::Tensor random_directions(int64_t rows, int64_t width, uint64_t seed, std::string_view name, int64_t first) {
  RandomStream stream(seed, name);
  stream.seek(static_cast<uint64_t>(first * width) * 2);  // a normal number draws two
  torch::Tensor directions = torch::empty({rows, width});
  float* const values = directions.data_ptr<float>();
  for (int64_t i = 0; i < rows * width; ++i) values[i] = static_cast<float>(stream.normal());
  return directions / directions.norm(2, {1}, true);
}

void check_inputs(const torch::Tensor& x, int64_t width) {
  if (x.dim() != 2 || x.size(1) != width)
    fail("the dictionary takes rows of width {}, it was given {}", width, fmt::format("[{}]", fmt::join(x.sizes(), ", ")));
}

}  // namespace sememe

#include "sememe/language/predictor_training.h"

#include <torch/torch.h>

#include <algorithm>

#include "sememe/base/error.h"
#include "sememe/base/interrupt.h"
#include "sememe/base/progress.h"
#include "sememe/base/random.h"
#include "sememe/inference/core_neurons.h"

namespace sememe {
namespace {

/// Of each layer what its MLP read and which activations that gave.
class Examples : public InputVisitor {
 public:
  Examples(const TransformerConfig& config, int64_t tokens) : inputs(config.layers), activations(config.layers) {
    for (int64_t i = 0; i < config.layers; ++i)
      inputs[i] = torch::empty({tokens, config.width}), activations[i] = torch::empty({tokens, config.feed_forward_width});
  }
  bool wants(int64_t, MatrixInput input) const override { return input == MatrixInput::kMlpDown; }
  void visit(const InputRows& rows, int64_t first, int64_t last, int, int) override {
    float* const input = inputs[rows.layer].data_ptr<float>();
    float* const activation = activations[rows.layer].data_ptr<float>();
    for (int64_t t = first; t < last; ++t) {
      std::copy_n(rows.mlp_input + t * rows.mlp_width, rows.mlp_width, input + t * rows.mlp_width);
      std::copy_n(rows.values + t * rows.stride, rows.width, activation + t * rows.width);
    }
  }
  std::vector<torch::Tensor> inputs, activations;  ///< [layers] of [tokens, width] and [tokens, neurons]
};

torch::Tensor normal(at::IntArrayRef shape, double size, RandomStream& stream) {
  torch::Tensor values = torch::empty(shape);
  float* const data = values.data_ptr<float>();
  for (int64_t i = 0; i < values.numel(); ++i) data[i] = static_cast<float>(size * stream.normal());
  return values.requires_grad_();
}

std::vector<float> values_of(const torch::Tensor& tensor) {
  return {tensor.const_data_ptr<float>(), tensor.const_data_ptr<float>() + tensor.numel()};
}

}  // namespace

std::vector<NeuronPredictor> train_predictors(QuantizedTransformer& engine, std::span<const std::vector<int32_t>> texts,
                                              const PredictorOptions& options) {
  const TransformerConfig& config = engine.config();
  if (options.rank < 1 || options.rank > config.width) fail_usage("the predictors' rank is {}; it must be from 1 to the model's width of {}", options.rank, config.width);
  if (texts.empty()) fail("there is no text to train predictors on");
  const int64_t kept = kept_of(options.keep, config.feed_forward_width);
  const bool relu = config.feed_forward == FeedForward::kRelu || config.feed_forward == FeedForward::kGatedRelu;
  struct Layer {
    torch::Tensor down, up, offset;
    std::unique_ptr<torch::optim::Adam> adam;
  };
  std::vector<Layer> layers;
  for (int64_t i = 0; i < config.layers; ++i) {
    RandomStream stream(options.seed, fmt::format("neuron-predictor/{}", i));
    Layer layer{normal({options.rank, config.width}, 1 / std::sqrt(static_cast<double>(config.width)), stream),
                normal({config.feed_forward_width, options.rank}, 0.1 / std::sqrt(static_cast<double>(options.rank)), stream),
                torch::zeros({config.feed_forward_width}).requires_grad_(), nullptr};
    layer.adam = std::make_unique<torch::optim::Adam>(std::vector<torch::Tensor>{layer.down, layer.up, layer.offset},
                                                      torch::optim::AdamOptions(options.learning_rate));
    layers.push_back(std::move(layer));
  }
  Progress progress("train predictors", static_cast<int64_t>(texts.size()), "texts");
  for (size_t step = 0; step < texts.size(); ++step) {
    Examples examples(config, static_cast<int64_t>(texts[step].size()));
    TokenCache cache(config);
    const TokenRun run{texts[step], &cache};
    engine.forward({&run, 1}, LogitsOf::kLastTokens, {.inputs = &examples});
    // The rate falls to nothing in a straight line.
    const double rate = options.learning_rate * (1 - static_cast<double>(step) / static_cast<double>(texts.size()));
    for (int64_t i = 0; i < config.layers; ++i) {
      Layer& layer = layers[i];
      const torch::Tensor& act = examples.activations[i];
      const torch::Tensor fires =
          relu ? (act > 0).to(torch::kFloat32) : torch::zeros_like(act).scatter_(1, std::get<1>(act.abs().topk(kept, 1, true, false)), 1.0);
      const torch::Tensor logits = torch::linear(torch::linear(examples.inputs[i], layer.down), layer.up, layer.offset);
      const torch::Tensor loss = torch::binary_cross_entropy_with_logits(logits, fires);
      layer.adam->zero_grad();
      loss.backward();
      static_cast<torch::optim::AdamOptions&>(layer.adam->param_groups()[0].options()).lr(rate);
      layer.adam->step();
    }
    progress.update(static_cast<int64_t>(step) + 1);
    if (interrupted()) throw Interrupted("stopped while training predictors; nothing was written");
  }
  std::vector<NeuronPredictor> predictors;
  for (const Layer& layer : layers) {
    const torch::NoGradGuard no_grad;
    predictors.emplace_back(config.width, options.rank, values_of(layer.down), values_of(layer.up), values_of(layer.offset));
  }
  return predictors;
}

}  // namespace sememe

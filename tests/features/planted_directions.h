#pragma once
// Rows made of few known directions, for dictionaries to find again.

#include <map>
#include <string>

#include "sememe/base/random.h"
#include "sememe/features/architectures.h"
#include "sememe/features/autograd_learner.h"
#include "sememe/features/evaluation.h"

namespace sememe {

struct PlantedDirections {
  torch::Tensor directions;  // [128, 32] of norm 1
  torch::Tensor rows, held_out;

  /// Each direction is in a row with probability `density`, at an amplitude from 0.5 to 1.5.
  explicit PlantedDirections(double density = 0.03) {
    torch::manual_seed(11);
    directions = torch::nn::functional::normalize(torch::randn({128, 32}));
    const auto draw = [&](int64_t count) {
      return torch::mm((torch::rand({count, 128}) < density) * (torch::rand({count, 128}) + 0.5), directions);
    };
    rows = draw(40000);
    held_out = draw(8000);
  }

  /// Mean over the directions of the cosine with the nearest atom.
  double found_by(const Dictionary& dictionary) const {
    const torch::Tensor atoms = torch::nn::functional::normalize(dictionary.atoms());
    return std::get<0>(torch::mm(directions, atoms.t()).max(1)).mean().item<double>();
  }
};

inline const PlantedDirections& planted_directions() {
  static const PlantedDirections planted;
  return planted;
}

/// Random batches of 512 rows, with a rate that falls to 0 over the last third; 256 latents.
inline std::unique_ptr<DictionaryLearner> learn_planted(const char* architecture, LearnerOptions options, int64_t steps,
                                                        double rate) {
  const torch::Tensor& rows = planted_directions().rows;
  options.width = 32;
  options.latents = 256;
  options.dead_after = 10000;
  options.steps = steps;
  auto learner = find_architecture(architecture).learn(options, measure_activations(rows));
  torch::manual_seed(5);
  for (int64_t step = 0; step < steps; ++step) {
    const torch::Tensor batch = rows.index_select(0, torch::randint(rows.size(0), {512}));
    learner->step({batch, torch::randn({512, 32})}, rate * std::min(1.0, 3.0 * static_cast<double>(steps - step) / static_cast<double>(steps)));
  }
  return learner;
}

struct HeldOut {
  double explained_variance, l0;
};

inline HeldOut measure_held_out(const Dictionary& dictionary) {
  const torch::Tensor& x = planted_directions().held_out;
  ReconstructionFigures figures(dictionary.size(), dictionary.width());
  const SparseCodes codes = dictionary.encode(x);
  figures.add(x, codes, dictionary.decode(codes));
  return {1.0 - figures.fvu(), figures.l0()};
}

using Parameters = std::map<std::string, torch::Tensor>;

inline Parameters in_double(const NamedTensors& tensors) {
  Parameters converted;
  for (const auto& [name, tensor] : tensors) converted[name] = tensor.detach().to(torch::kDouble);
  return converted;
}

/// Compares gradients with differences of `loss`, a function of parameters in float64: along each gradient, where the slope is its norm,
/// and along a random direction.
template <class Loss>
void expect_slopes(const NamedTensors& parameters, const NamedTensors& gradients, const Loss& loss) {
  const Parameters at = in_double(parameters);
  for (const auto& [name, gradient] : in_double(gradients)) {
    const double norm = gradient.norm().item<double>();
    EXPECT_GT(norm, 0.0) << name;
    const torch::Tensor any = torch::randn(gradient.sizes(), torch::kDouble);
    for (const torch::Tensor& direction : {torch::Tensor(gradient / norm), torch::Tensor(any / any.norm())}) {
      const auto moved = [&](double distance) {
        Parameters changed = at;
        changed[name] = at.at(name) + direction * distance;
        return loss(changed);
      };
      EXPECT_NEAR((moved(1e-6) - moved(-1e-6)) / 2e-6, (direction * gradient).sum().item<double>(), 1e-4 * norm) << name;
    }
  }
}

}  // namespace sememe

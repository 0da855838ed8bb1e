#include "sememe/network/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "sememe/base/error.h"
#include "sememe/base/files.h"
#include "sememe/base/interrupt.h"
#include "sememe/base/progress.h"

namespace sememe {

namespace {

bool inside_matrix(const std::string& name, const torch::Tensor& parameter) {
  const std::string last = name.substr(name.rfind('.') + 1);
  return parameter.dim() == 2 && last != "embedding" && last != "positions" && last != "head";
}

class Run {
 public:
  Run(Network& network, const BatchSource& next_batch, const TrainerOptions& options)
      : network_(network),
        next_batch_(next_batch),
        options_(options),
        parameters_(named(network)),
        muon_(chosen(true), {.weight_decay = options.weight_decay}),
        adamw_(chosen(false), {.weight_decay = options.weight_decay}) {}

  TrainingResult train() {
    if (options_.resume) restore();
    const auto start = std::chrono::steady_clock::now();
    const double seconds_before = result_.seconds;
    const auto seconds_since = [](auto when) {
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - when).count();
    };
    auto saved = start;
    const int64_t unit = std::max<int64_t>(options_.rows_per_step, 1);
    Progress progress(options_.label, options_.steps * unit, options_.rows_per_step ? options_.row : "steps", step_ * unit);
    while (step_ < options_.steps) {
      take_step();
      result_.seconds = seconds_before + seconds_since(start);
      progress.update(step_ * unit, fmt::format("loss {:.4f}", result_.losses.back()));
      const bool stop = interrupted() && step_ < options_.steps;
      const bool due = seconds_since(saved) >= options_.checkpoint_seconds || step_ == options_.steps ||
                       (options_.checkpoint_steps > 0 && step_ % options_.checkpoint_steps == 0);
      if ((stop || due) && !options_.checkpoint.empty()) {
        save();
        saved = std::chrono::steady_clock::now();
      }
      if (stop) stop_here();
    }
    return std::move(result_);
  }

 private:
  static NamedTensors named(const Network& network) {
    NamedTensors parameters;
    for (const auto& item : network.named_parameters()) parameters.emplace_back(item.key(), item.value());
    return parameters;
  }

  NamedTensors chosen(bool matrices) const {
    NamedTensors some;
    for (const auto& [name, parameter] : parameters_) {
      const bool matrix = options_.is_matrix ? options_.is_matrix(name, parameter) : inside_matrix(name, parameter);
      if (matrix == matrices && parameter.requires_grad()) some.emplace_back(name, parameter);
    }
    return some;
  }

  void take_step() {
    const double fraction = schedule(options_, step_);
    double loss = 0;
    for (auto& [name, parameter] : parameters_) parameter.mutable_grad() = torch::Tensor();
    for (int64_t part = 0; part < options_.parts; ++part) {
      const Batch batch = next_batch_(step_, part);
      SiteVisitor nobody;
      const torch::Tensor part_loss = network_.loss(network_.forward(batch, nobody), batch) / options_.parts;
      part_loss.backward();
      loss += part_loss.item<double>();
    }
    const double norm = clip_gradient();
    if (!std::isfinite(loss) || !std::isfinite(norm)) {
      const std::string kept = saved_step_ < 0 ? "no checkpoint was written before"
                                               : fmt::format("{} keeps step {}", options_.checkpoint.string(), saved_step_);
      fail("training step {}: the {} is {} at learning rates {} (matrices) and {}; train with lower rates ({})", step_ + 1,
           std::isfinite(loss) ? "gradient's norm" : "loss", std::isfinite(loss) ? norm : loss,
           options_.matrix_learning_rate * fraction, options_.learning_rate * fraction, kept);
    }
    muon_.step(options_.matrix_learning_rate * fraction);
    adamw_.step(options_.learning_rate * fraction);
    result_.losses.push_back(loss);
    ++step_;
  }

  /// Scales the gradient to the largest norm allowed. @returns the norm before
  double clip_gradient() {
    torch::NoGradGuard no_grad;
    std::vector<torch::Tensor> gradients, norms;
    for (const auto& [name, parameter] : parameters_) {
      if (!parameter.grad().defined()) continue;
      gradients.push_back(parameter.grad());
      norms.push_back(gradients.back().norm());
    }
    if (norms.empty()) return 0.0;
    const torch::Tensor all = torch::stack(norms).to(torch::kCPU, torch::kDouble);  // one wait for a device, not one a parameter
    double squares = 0;
    for (int64_t i = 0; i < all.size(0); ++i) squares += std::pow(all.data_ptr<double>()[i], 2);
    const double norm = std::sqrt(squares);
    if (options_.clip > 0 && norm > options_.clip)
      for (torch::Tensor& gradient : gradients) gradient.mul_(options_.clip / norm);
    return norm;
  }

  void save() {
    AtomicFolder folder(options_.checkpoint, "state.json");
    save_tensors(folder.path() / "weights.safetensors", parameters_);
    NamedTensors state = muon_.state();
    for (auto& tensor : adamw_.state()) state.push_back(std::move(tensor));
    save_tensors(folder.path() / "optimizer.safetensors", state);
    write_json(folder.path() / "state.json", {{"step", step_},
                                              {"losses", result_.losses},
                                              {"seconds", result_.seconds},
                                              {"settings", options_.settings}});
    folder.commit();
    saved_step_ = step_;
  }

  void restore() {
    const std::filesystem::path place = options_.checkpoint / "state.json";
    if (options_.checkpoint.empty() || !std::filesystem::exists(place)) {
      note("nothing to resume from yet; training starts at step 0");
      return;
    }
    const Json state = read_json(place);
    const std::string where = place.string();
    if (json_member<Json>(state, "settings", where) != options_.settings)
      fail("{}: the checkpoint is of a run with other settings; give the same recipe and options, or train into another folder",
           where);
    step_ = saved_step_ = json_member<int64_t>(state, "step", where);
    result_.losses = json_member<std::vector<double>>(state, "losses", where);
    result_.seconds = json_member<double>(state, "seconds", where);
    if (step_ < 0 || result_.losses.size() != static_cast<size_t>(step_))
      fail("{}: step {} does not go with {} losses", where, step_, result_.losses.size());
    torch::NoGradGuard no_grad;
    const SafetensorsFile weights(options_.checkpoint / "weights.safetensors");
    for (auto& [name, parameter] : parameters_) parameter.copy_(load_weight(weights, name, parameter.sizes()));
    const SafetensorsFile optimizer(options_.checkpoint / "optimizer.safetensors");
    muon_.load(optimizer);
    adamw_.load(optimizer);
  }

  [[noreturn]] void stop_here() const {
    if (options_.checkpoint.empty()) throw Interrupted(fmt::format("stopped after step {}; nothing was saved", step_));
    throw Interrupted(fmt::format("stopped after step {} of {}, saved in {}; resume with --resume", step_, options_.steps,
                                  options_.checkpoint.string()));
  }

  Network& network_;
  const BatchSource& next_batch_;
  const TrainerOptions& options_;
  NamedTensors parameters_;
  Muon muon_;
  AdamW adamw_;
  TrainingResult result_;
  int64_t step_ = 0;
  int64_t saved_step_ = -1;
};

}  // namespace

double schedule(const TrainerOptions& options, int64_t step) {
  const double warm = step < options.warmup_steps ? (step + 1.0) / options.warmup_steps : 1.0;
  const double decay_steps = options.decay_fraction * options.steps;
  const double left = options.steps - step;
  return std::min(warm, left < decay_steps ? left / decay_steps : 1.0);
}

TrainingResult train(Network& network, const BatchSource& next_batch, const TrainerOptions& options) {
  if (options.steps < 1 || options.parts < 1) fail_usage("training needs at least one step of at least one part");
  if (!(options.decay_fraction >= 0 && options.decay_fraction <= 1))
    fail_usage("the decay fraction is {}; it must lie in [0, 1]", options.decay_fraction);
  return Run(network, next_batch, options).train();
}

}  // namespace sememe

#include "sememe/features/dictionary_training.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <future>
#include <iterator>
#include <limits>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "sememe/base/error.h"
#include "sememe/base/files.h"
#include "sememe/base/interrupt.h"
#include "sememe/base/progress.h"
#include "sememe/base/random.h"
#include "sememe/features/architectures.h"
#include "sememe/features/sharded_tensors.h"
#include "sememe/ranks/ranks.h"

namespace sememe {
namespace {

constexpr int64_t kSampleRows = 65536;
constexpr int64_t kCurvePoints = 200;
constexpr double kCheckpointSeconds = 60.0;
constexpr const char* kDictionaryFile = "dictionary.safetensors";  // by which a dictionary's folder is known

constexpr int64_t kDefaultK = 16;

template <class T>
Json or_null(const std::optional<T>& option) {
  return option ? Json(*option) : Json();
}

int64_t k_of(const DictionaryTrainingOptions& options) { return options.k.value_or(kDefaultK); }

/// @throws UsageError naming an option that was given and that the architecture does not have
void refuse_foreign_options(const Architecture& architecture, const DictionaryTrainingOptions& options) {
  const std::pair<std::string_view, bool> given[] = {{"k", options.k.has_value()},
                                                     {"auxiliary-k", options.auxiliary_k.has_value()},
                                                     {"beta", options.gradient.beta.has_value()},
                                                     {"score", options.gradient.score.has_value()},
                                                     {"gradient-scaling", options.gradient.scaling.has_value()},
                                                     {"multi-topk", options.multi_top_k},
                                                     {"sparsity", options.sparsity.has_value()},
                                                     {"target-l0", options.target_l0.has_value()},
                                                     {"penalty", options.penalty.has_value()},
                                                     {"attribution", options.attribution.has_value()},
                                                     {"unexplained", options.unexplained.has_value()},
                                                     {"prefixes", options.prefixes.has_value()}};
  for (const auto& [name, is_given] : given)
    if (is_given && !architecture.takes(name))
      fail_usage("--{}: --architecture {} has no such option; {}{}", name, architecture.name,
                 architecture.options.empty() ? "it has none of its own" : "its own are --", fmt::join(architecture.options, ", --"));
  if (architecture.rate == 0 && options.learning_rate > 0)
    fail_usage("--learning-rate: --architecture {} has no such option; it learns without gradients", architecture.name);
}

void check_options(const ActivationStore& store, const DictionaryTrainingOptions& options) {
  const Architecture& architecture = find_architecture(options.architecture);
  if (options.latents < 1 || options.latents > std::numeric_limits<int32_t>::max())
    fail_usage("--latents {}: give a number from 1 to 2147483647", options.latents);
  refuse_foreign_options(architecture, options);
  if (k_of(options) < 1) fail_usage("--k {}: give at least 1", k_of(options));
  if (architecture.takes("k") && k_of(options) > options.latents)
    fail_usage("--k {}: is larger than the number of latents, {}; give at most that", k_of(options), options.latents);
  if (options.batch < 1) fail_usage("--batch {}: give at least 1", options.batch);
  if (options.tokens < 1) fail_usage("--tokens {}: give at least 1", options.tokens);
  if (!(options.learning_rate >= 0) || !std::isfinite(options.learning_rate))
    fail_usage("--learning-rate {}: give a positive number, or 0 for the default", options.learning_rate);
  if (!(options.decay >= 0 && options.decay <= 1)) fail_usage("--decay {}: give a share from 0 to 1", options.decay);
  if (options.checkpoint_every < 0 || options.dead_after < 0)
    fail_usage("--checkpoint-every and --dead-after: give 0 for the default, or more");
  if (!options.device.is_cpu() && architecture.rate == 0)
    fail_usage("--device {}: --architecture {} learns without gradients, on the cpu only", options.device.str(), architecture.name);
  const Ranks& ranks = Ranks::of_run();
  if (!ranks.alone() && architecture.sharing == Sharing::kNothing)
    fail_usage("--architecture {}: learns on one rank; run it without mpirun", architecture.name);
  if (!ranks.alone() && !options.device.is_cpu())
    fail_usage("--device {}: several ranks train on the cpu; leave out mpirun, or --device", options.device.str());
  if (options.shards < 0) fail_usage("--shards {}: give 0 for the default, or more", options.shards);
  if (options.shards > 1 && architecture.sharing != Sharing::kRowsAndLatents)
    fail_usage("--shards {}: --architecture {} shares rows among ranks, not latents; give 1", options.shards, architecture.name);
  if (architecture.needs_gradients && !store.has_gradients())
    fail("{}: holds no gradients, which --architecture {} needs; capture with --gradients", store.path().string(),
         options.architecture);
}

/// Rows spread evenly over the store.
torch::Tensor sample_rows(const ActivationStore& store) {
  if (store.rows() <= kSampleRows) return store.read(0, store.rows()).activations;
  constexpr int64_t parts = 256, part = kSampleRows / parts;
  std::vector<torch::Tensor> rows;
  for (int64_t i = 0; i < parts; ++i) rows.push_back(store.read(i * (store.rows() - part) / (parts - 1), part).activations);
  return torch::cat(rows);
}

/// Widths of the sites whose rows stand side by side in a store; empty if there is one.
std::vector<int64_t> parts_of(const ActivationStore& store) {
  if (!store.origin().contains("parts")) return {};
  return json_member<std::vector<int64_t>>(store.origin(), "parts", store.path().string());
}

int64_t shards_of(const ActivationStore& store, const DictionaryTrainingOptions& options) {
  if (options.shards > 0) return options.shards;
  if (find_architecture(options.architecture).sharing != Sharing::kRowsAndLatents) return 1;
  return fewest_bytes_shards({options.batch, store.width(), options.latents, k_of(options)}, Ranks::of_run().size());
}

/// Everything that must agree for a checkpoint to be continued.
Json settings_of(const ActivationStore& store, const DictionaryTrainingOptions& options) {
  return {{"architecture", options.architecture},
          {"latents", options.latents},
          {"k", find_architecture(options.architecture).takes("k") ? Json(k_of(options)) : Json()},
          {"tokens", options.tokens},
          {"batch", options.batch},
          {"learning_rate", options.learning_rate},
          {"decay", options.decay},
          {"auxiliary_k", or_null(options.auxiliary_k)},
          {"dead_after", options.dead_after},
          {"drop_sinks", options.drop_sinks},
          {"beta", or_null(options.gradient.beta)},
          {"score", or_null(options.gradient.score)},
          {"gradient_scaling", or_null(options.gradient.scaling)},
          {"multi_topk", options.multi_top_k},
          {"sparsity", or_null(options.sparsity)},
          {"target_l0", or_null(options.target_l0)},
          {"penalty", or_null(options.penalty)},
          {"attribution", or_null(options.attribution)},
          {"unexplained", or_null(options.unexplained)},
          {"prefixes", or_null(options.prefixes)},
          {"seed", options.seed},
          {"rows", store.rows()},
          {"width", store.width()}};
}

/// Sums over some steps.
struct Means {
  double loss = 0.0, fvu = 0.0, l0 = 0.0;
  int64_t steps = 0, dead = 0;

  void add(const StepReport& report) {
    loss += report.loss;
    fvu += report.fvu;
    l0 += report.l0;
    dead = report.dead;
    ++steps;
  }
  Json point(int64_t tokens) const {
    const double n = static_cast<double>(std::max<int64_t>(steps, 1));
    return {{"tokens", tokens}, {"loss", loss / n}, {"fvu", fvu / n}, {"l0", l0 / n}, {"dead", dead}};
  }
  Json save() const { return {{"loss", loss}, {"fvu", fvu}, {"l0", l0}, {"steps", steps}, {"dead", dead}}; }
  static Means load(const Json& saved, const std::string& where) {
    return {json_member<double>(saved, "loss", where), json_member<double>(saved, "fvu", where),
            json_member<double>(saved, "l0", where), json_member<int64_t>(saved, "steps", where),
            json_member<int64_t>(saved, "dead", where)};
  }
};

/// The batches of a run, one after another. Where another device learns, the next is read while it works on the last.
class Batches {
 public:
  using Position = ShuffledActivations::Position;

  Batches(ShuffledActivations rows, int64_t batch, Share share, bool ahead)
      : rows_(std::move(rows)), position_(rows_.position()), batch_(batch), share_(share), ahead_(ahead) {}

  /// @param last whether no other will be asked for
  ActivationRows next(bool last) {
    ActivationRows batch = coming_.valid() ? coming_.get() : read();
    position_ = rows_.position();
    if (ahead_ && !last) coming_ = std::async(std::launch::async, [this] { return read(); });
    return batch;
  }
  /// Where the batch begins that is given next.
  Position position() const { return position_; }
  void seek(Position position) {
    if (coming_.valid()) coming_.wait();
    coming_ = {};
    rows_.seek(position);
    position_ = position;
  }
  /// Rows left out so far in this process.
  int64_t dropped() const { return rows_.dropped(); }

 private:
  ActivationRows read() { return rows_.next(batch_, share_.begin, share_.count); }

  ShuffledActivations rows_;
  Position position_;
  int64_t batch_;
  Share share_;  // of the rows of a batch
  bool ahead_;
  std::future<ActivationRows> coming_;
};

class Training {
 public:
  Training(const ActivationStore& store, const DictionaryTrainingOptions& options, std::filesystem::path folder)
      : store_(store),
        options_(options),
        ranks_(Ranks::of_run(), shards_of(store, options)),
        settings_(settings_of(store, options)),
        folder_(std::move(folder)),
        checkpoint_(folder_.string() + ".checkpoint"),
        steps_((options.tokens + options.batch - 1) / options.batch) {
    if (!folder_.has_filename()) {
      folder_ = folder_.parent_path();
      checkpoint_ = folder_.string() + ".checkpoint";
    }
    prepare();
  }

  Json run() {
    Progress progress("train " + options_.architecture, steps_ * options_.batch, "tokens", step_ * options_.batch);
    saved_at_ = std::chrono::steady_clock::now();
    while (step_ < steps_) {
      one_step();
      progress.update(step_ * options_.batch, fmt::format("loss {:.4f}  fvu {:.4f}  dead {}", last_.loss, last_.fvu, last_.dead));
      if (step_ < steps_) save_if_due();
    }
    return finish(progress.rate());
  }

 private:
  void prepare() {
    say_where_to_continue();
    check_output_folder(folder_, kDictionaryFile);
    const torch::Tensor sample = sample_rows(store_);
    float largest_norm = std::numeric_limits<float>::infinity();
    if (options_.drop_sinks) largest_norm = 10.0f * sample.norm(2, {1}).median().item<float>();
    const torch::Tensor kept = options_.drop_sinks ? sample.index({sample.norm(2, {1}) <= largest_norm}) : sample;
    const std::vector<int64_t> parts = parts_of(store_);
    LearnerOptions learner{.width = store_.width(), .parts = parts, .latents = options_.latents, .k = k_of(options_), .seed = options_.seed,
                           .auxiliary_k = options_.auxiliary_k.value_or(-1), .dead_after = options_.dead_after,
                           .multi_top_k = options_.multi_top_k, .steps = steps_, .device = options_.device, .sparsity = options_.sparsity,
                           .target_l0 = options_.target_l0, .penalty = options_.penalty, .attribution = options_.attribution,
                           .unexplained = options_.unexplained, .prefixes = options_.prefixes, .ranks = ranks_};
    learner.gradient.beta = options_.gradient.beta.value_or(learner.gradient.beta);
    learner.gradient.score = options_.gradient.score.value_or(learner.gradient.score);
    learner.gradient.scaling = options_.gradient.scaling.value_or(learner.gradient.scaling);
    if (learner.dead_after == 0) learner.dead_after = std::clamp<int64_t>(options_.tokens / 10, 1, 10'000'000);
    const Architecture& architecture = find_architecture(options_.architecture);
    rate_ = options_.learning_rate > 0 ? options_.learning_rate : default_learning_rate(options_.latents) * architecture.rate;
    learner_ = architecture.learn(learner, measure_activations(kept, parts));
    batches_ = std::make_unique<Batches>(ShuffledActivations(store_, options_.seed, largest_norm), options_.batch,
                                         ranks_.own_rows(options_.batch), !options_.device.is_cpu());
    if (options_.resume && std::filesystem::exists(checkpoint_)) load_checkpoint();
    check_agreement();
    if (!ranks_.all.alone())
      note(fmt::format("{} ranks: {} of rows x {} of latents", ranks_.all.size(), ranks_.rows.size(), ranks_.latents.size()));
  }

  /// @throws Error unless all ranks have found the same files
  void check_agreement() const {
    const int64_t found[] = {store_.rows(), store_.width(), step_};
    std::vector<int64_t> extremes;
    for (const int64_t number : found) extremes.insert(extremes.end(), {number, -number});
    ranks_.all.largest(extremes);
    for (size_t i = 0; i < std::size(found); ++i)
      if (extremes[2 * i] != -extremes[2 * i + 1])
        fail("rank {}: does not see the same {} as the others ({} and {}); give all ranks the same files", ranks_.all.rank(),
             i == 2 ? checkpoint_.string() : store_.path().string(), extremes[2 * i], -extremes[2 * i + 1]);
  }

  void say_where_to_continue() const {
    set_farewell(fmt::format("another rank has ended, and the run with it; {}",
                             saved_step_ > 0 ? fmt::format("continue at step {} with --resume, from {}", saved_step_, checkpoint_.string())
                                             : "there is no checkpoint yet, so begin anew"));
  }

  double rate_at(int64_t step) const {
    const double left = static_cast<double>(steps_ - step) / static_cast<double>(steps_);
    return rate_ * (options_.decay > 0 ? std::min(1.0, left / options_.decay) : 1.0);
  }

  void one_step() {
    const auto before = batches_->position();
    try {
      last_ = learner_->step(batches_->next(step_ + 1 == steps_), rate_at(step_));
    } catch (const Interrupted&) {  // a step of minutes, which has changed nothing
      batches_->seek(before);
      stop();
    }
    ++step_;
    since_point_.add(last_);
    if (step_ > steps_ - std::max<int64_t>(1, steps_ / 20)) final_.add(last_);
    const int64_t every = std::max<int64_t>(1, steps_ / kCurvePoints);
    if (step_ % every != 0 && step_ != steps_) return;
    curve_.push_back(since_point_.point(step_ * options_.batch));
    since_point_ = {};
  }

  void save_if_due() {
    const auto now = std::chrono::steady_clock::now();
    const bool due = options_.checkpoint_every > 0 ? step_ % options_.checkpoint_every == 0
                                                   : std::chrono::duration<double>(now - saved_at_).count() > kCheckpointSeconds;
    // Ranks stop and save at the same step.
    int64_t wishes[] = {interrupted() ? 1 : 0, due ? 1 : 0};
    ranks_.all.largest(wishes);
    if (wishes[0] != 0) stop();
    if (wishes[1] == 0) return;
    save_checkpoint();
    saved_at_ = now;
  }

  [[noreturn]] void stop() {
    save_checkpoint();
    throw Interrupted(fmt::format("interrupted at step {} of {}; continue with --resume", step_, steps_));
  }

  void save_checkpoint() {
    const auto position = batches_->position();
    const Json state{{"settings", settings_},
                     {"step", step_},
                     {"position", {position.epoch, position.window, position.row}},
                     {"curve", curve_},
                     {"since_point", since_point_.save()},
                     {"final", final_.save()}};
    // Rank groups hold the same but for their latents.
    if (ranks_.rows.first())
      save_sharded(checkpoint_, learner_->state(), [&](std::string_view name) { return learner_->is_sharded(name); }, ranks_.latents,
                   {{"sememe", state.dump()}});
    saved_step_ = step_;
    say_where_to_continue();
  }

  void load_checkpoint() {
    const SafetensorsFile file(checkpoint_);
    const std::string where = checkpoint_.string();
    const auto found = file.metadata().find("sememe");
    if (found == file.metadata().end()) fail("{}: is not a checkpoint of `sememe dictionary train`", where);
    const Json state = parse_json(found->second, where);
    const Json settings = json_member<Json>(state, "settings", where);
    if (!settings.is_object()) fail("{}: \"settings\" is no object", where);
    for (const auto& [key, value] : settings_.items())
      if (!settings.contains(key) || settings[key] != value)
        fail("{}: was made with {} {}, not {}; give the same options or train anew without --resume", where, key,
             settings.value(key, Json()).dump(), value.dump());
    learner_->restore(file);
    step_ = json_member<int64_t>(state, "step", where);
    const auto position = json_member<std::vector<int64_t>>(state, "position", where);
    const bool possible = position.size() == 3 && std::all_of(position.begin(), position.end(), [](int64_t at) { return at >= 0; });
    if (!possible || step_ < 0 || step_ > steps_) fail("{}: \"position\" or \"step\" cannot be", where);
    batches_->seek({position[0], position[1], position[2]});
    curve_ = json_member<std::vector<Json>>(state, "curve", where);
    since_point_ = Means::load(json_member<Json>(state, "since_point", where), where);
    final_ = Means::load(json_member<Json>(state, "final", where), where);
    saved_step_ = step_;
    note(fmt::format("continuing at step {} of {}", step_, steps_));
    say_where_to_continue();
  }

  Json finish(double tokens_per_second) {
    Json result = final_.point(steps_ * options_.batch);
    result["tokens_per_second"] = tokens_per_second;
    result["settings"] = settings_;
    result["learning_rate"] = rate_;
    result["dropped_sinks"] = batches_->dropped();
    result["curve"] = curve_;
    Json origin = store_.origin();
    origin["activations"] = store_.path().filename().string();
    const std::shared_ptr<Dictionary> learnt = learner_->dictionary(origin);
    if (!ranks_.all.first()) return result;
    AtomicFolder folder(folder_, kDictionaryFile);
    learnt->save(folder.path());
    write_json(folder.path() / "training.json", result);
    folder.commit();
    std::error_code ignored;
    std::filesystem::remove(checkpoint_, ignored);
    if (last_.dead > 0) note(fmt::format("{} of {} latents are dead at the end of training", last_.dead, options_.latents));
    if (batches_->dropped() > 0) note(fmt::format("{} attention-sink rows were left out", batches_->dropped()));
    return result;
  }

  ActivationStore store_;
  DictionaryTrainingOptions options_;
  RankGrid ranks_;
  Json settings_;
  std::filesystem::path folder_, checkpoint_;
  int64_t steps_, step_ = 0, saved_step_ = 0;
  double rate_ = 0.0;
  std::unique_ptr<DictionaryLearner> learner_;
  std::unique_ptr<Batches> batches_;
  StepReport last_;
  Means since_point_, final_;
  Json curve_ = Json::array();
  std::chrono::steady_clock::time_point saved_at_;
};

}  // namespace

double default_learning_rate(int64_t latents) { return 5e-3 / std::sqrt(static_cast<double>(latents) / 1024.0); }

Json train_dictionary(const ActivationStore& store, const DictionaryTrainingOptions& options,
                      const std::filesystem::path& folder) {
  check_options(store, options);
  return Training(store, options, folder).run();
}

}  // namespace sememe

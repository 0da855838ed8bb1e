#include "sememe/features/capture.h"

#include <algorithm>

#include "sememe/base/error.h"
#include "sememe/base/files.h"
#include "sememe/base/interrupt.h"
#include "sememe/base/progress.h"
#include "sememe/base/random.h"
#include "sememe/data/corpus.h"
#include "sememe/features/site_visitors.h"

namespace sememe {
namespace {

/// Says whether a file is still the same: its size and a hash of its first and last MiB.
std::string fingerprint(const std::filesystem::path& path) {
  const MappedFile file(path);
  const auto bytes = file.bytes();
  const size_t part = std::min<size_t>(bytes.size(), size_t{1} << 20);
  const auto hash = [](std::span<const std::byte> some) {
    return hash64({reinterpret_cast<const char*>(some.data()), some.size()});
  };
  return fmt::format("{}-{:016x}-{:016x}", bytes.size(), hash(bytes.first(part)), hash(bytes.last(part)));
}

std::string weights_fingerprint(const std::filesystem::path& model) {
  const std::filesystem::path weights = std::filesystem::is_directory(model) ? model / "model.safetensors" : model;
  return std::filesystem::exists(weights) ? fingerprint(weights) : "";
}

Json origin_of(const Network& network, const std::filesystem::path& folder, int64_t context, const std::filesystem::path& text,
               const CaptureOptions& options) {
  Json origin{{"model", folder.string()},
              {"model_fingerprint", weights_fingerprint(folder)},
              {"site", options.site},
              {"context", context},
              {"text", text.filename().string()},
              {"text_fingerprint", fingerprint(text)},
              {"tokens", options.tokens},
              {"batch_tokens", options.batch_tokens}};
  if (!options.interventions.empty()) origin["interventions"] = options.interventions;
  if (const std::vector<Site> sites = find_sites(network, options.site); sites.size() > 1)
    for (const Site& site : sites) origin["parts"].push_back(site.width);
  if (options.gradients)
    origin["gradient_loss"] = {{"reduction", options.gradient_loss.mean ? "mean" : "sum"},
                               {"target", options.gradient_loss.own_choice ? "argmax" : "next"}};
  return origin;
}

/// The rows at valid positions [valid tokens, width].
torch::Tensor valid_rows(const torch::Tensor& value, const torch::Tensor& valid) { return value.index({valid}); }

class Capture {
 public:
  Capture(Network& network, const CaptureOptions& options, ActivationWriter& writer)
      : network_(network), options_(options), writer_(writer) {}

  void add(const TokenBatch& batch) {
    SiteActivations seen;
    if (options_.gradients) {
      seen = differentiate_at(network_, options_.site, batch, options_.gradient_loss);
    } else {
      const torch::NoGradGuard no_autograd;
      RecordSite visitor(options_.site, true);
      network_.forward({batch.tokens.to(options_.device), {}}, visitor);
      seen.activations = visitor.value();
    }
    const torch::Tensor valid = batch.valid.to(options_.device);
    const int64_t wanted = std::min(batch.valid_tokens, options_.tokens - writer_.rows());
    const auto rows = [&](const torch::Tensor& value) {
      return value.defined() ? valid_rows(value, valid).narrow(0, 0, wanted).to(torch::kCPU) : torch::Tensor();
    };
    writer_.append(rows(seen.activations), rows(seen.gradients));
  }

 private:
  Network& network_;
  const CaptureOptions& options_;
  ActivationWriter& writer_;
};

/// The work of capture() on what its arguments give: where the tokens come from, and what identifies the capture.
int64_t store(Network& network, TokenContexts contexts, Json origin, const std::filesystem::path& text, const CaptureOptions& options,
              const std::filesystem::path& folder) {
  int64_t width = 0;
  for (const Site& site : find_sites(network, options.site)) width += site.width;
  if (options.tokens < 1) fail_usage("--tokens {}: give at least 1", options.tokens);
  ActivationWriter writer(folder, {.width = width, .gradients = options.gradients, .half = options.half, .origin = std::move(origin)});
  if (writer.complete()) {
    note(fmt::format("{}: holds this capture already", folder.string()));
    return writer.rows();
  }
  if (writer.stored_batches() > 0) note(fmt::format("continuing after {} tokens", writer.rows()));
  contexts.skip(writer.stored_batches());
  Capture work(network, options, writer);
  Progress progress("capture " + options.site, options.tokens, "tokens", writer.rows());
  while (writer.rows() < options.tokens) {
    const std::optional<TokenBatch> batch = contexts.next();
    if (!batch) break;
    work.add(*batch);
    progress.update(writer.rows());
    if (interrupted())
      throw Interrupted(fmt::format("interrupted; run the same command again to go on, whole shards are kept in {}", folder.string()));
  }
  if (writer.rows() == 0) fail("{}: gave no tokens; is it empty?", text.string());
  if (writer.rows() < options.tokens) note(fmt::format("{}: holds only {} tokens", text.string(), writer.rows()));
  writer.finish();
  return writer.rows();
}

}  // namespace

SiteActivations differentiate_at(Network& network, const std::string& site, const TokenBatch& batch, const GradientLoss& loss) {
  if (network.parameters().empty()) fail("this network runs in its file's own precision, which has no gradients; load it in float32");
  // Only the activations' gradient is wanted, not the weights'.
  for (torch::Tensor& parameter : network.parameters()) parameter.requires_grad_(false);
  const torch::Device device = network.parameters().front().device();
  const torch::AutoGradMode with_autograd(true);
  DifferentiateSite visitor(site);
  const torch::Tensor logits = network.forward({batch.tokens.to(device), {}}, visitor);
  torch::Tensor targets = batch.targets.to(device);
  if (loss.own_choice) targets = torch::where(targets >= 0, logits.detach().argmax(-1), targets);
  const int64_t vocabulary = logits.size(-1);
  const torch::Tensor losses =
      torch::nn::functional::cross_entropy(logits.reshape({-1, vocabulary}), targets.reshape({-1}),
                                           torch::nn::functional::CrossEntropyFuncOptions().ignore_index(-100).reduction(
                                               torch::kNone))
          .reshape(targets.sizes());
  const torch::Tensor sums = losses.sum(1);  // one context does not reach another: each has its own sum
  (loss.mean ? (sums / (targets >= 0).sum(1).clamp_min(1)).sum() : sums.sum()).backward();
  return {visitor.value(), visitor.gradient(), logits.detach()};
}

TokenContexts open_contexts(const LanguageModel& model, const std::filesystem::path& text, int64_t batch_tokens) {
  const int64_t context = model.text_context();
  return TokenContexts(open_corpus(text), model.tokenizer, context, std::max(batch_tokens, context));
}

int64_t capture(const LanguageModel& model, const std::filesystem::path& text, const CaptureOptions& options,
                const std::filesystem::path& folder) {
  if (options.gradients && !model.network->has_gradients())
    fail("{}: runs in the file's own precision, which has no gradients; load it in float32", model.folder.string());
  CaptureOptions fitted = options;
  fitted.batch_tokens = std::min(options.batch_tokens, model.network->pass_tokens());
  Json origin = origin_of(*model.network, model.folder, model.text_context(), text, fitted);
  if (!model.network->has_gradients()) origin["precision"] = "of the file";
  return store(*model.network, open_contexts(model, text, fitted.batch_tokens), std::move(origin), text, fitted, folder);
}

int64_t capture(const SentenceEncoder& encoder, const std::filesystem::path& text, const CaptureOptions& options,
                const std::filesystem::path& folder) {
  if (options.gradients) fail_usage("--gradients: {} is an encoder, which has no loss to take gradients of", encoder.folder.string());
  const int64_t context = encoder.text_context();
  Json origin = origin_of(*encoder.network, encoder.folder, context, text, options);
  TokenContexts contexts(open_corpus(text), encoder.tokenizer, context, std::max(options.batch_tokens, context), 0, ContextReader::kEncoder);
  return store(*encoder.network, std::move(contexts), std::move(origin), text, options, folder);
}

}  // namespace sememe

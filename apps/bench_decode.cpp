#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <vector>

#include "apps/bench.h"
#include "apps/command.h"
#include "sememe/base/error.h"
#include "sememe/base/json.h"
#include "sememe/base/progress.h"
#include "sememe/base/threads.h"
#include "sememe/inference/continuous_decoder.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;

struct DecodeBench {
  CommonOptions common;
  fs::path model;
  int64_t prompt = 512, tokens = 128, rounds = 3, at_once = 8;
  fs::path python = ".venv/bin/python", script = "bench/peers/llama_cpp.py", library = ".npm-peers/node_modules/@node-llama-cpp/linux-x64/bins/linux-x64";

  void run() {
    apply(common);
    const auto start = Clock::now();
    QuantizedTransformer network(model, thread_count());
    const double load = seconds_since(start);
    if (prompt + tokens >= network.config().context)
      fail_usage("--prompt {} and --tokens {}: do not fit the model's context of {}", prompt, tokens, network.config().context);
    const bool has_peer = fs::exists(python) && fs::exists(script) && fs::exists(library);
    if (!has_peer) note(fmt::format("no llama.cpp found at {}: ./setup --models installs it", library.string()));
    std::vector<Measured> decoding{{"sememe", {}}, {"limit: reading the weights", {}}}, reading{{"sememe", {}}};
    std::vector<Measured> many{{fmt::format("sememe, {} texts at once", at_once), {}}};
    if (has_peer) decoding.push_back({"llama.cpp", {}}), reading.push_back({"llama.cpp", {}});
    for (int64_t round = 0; round < rounds; ++round) {
      reading[0].rates.push_back(read_prompt(network));
      decoding[0].rates.push_back(decode(network));
      if (round == 0) decoding[0].memory = peak_memory();
      decoding[1].rates.push_back(read_weights(network.weight_bytes()));
      many[0].rates.push_back(decode_many(network));
      if (has_peer) run_peer(decoding[2], reading[1]);
      note(fmt::format("round {} of {} done", round + 1, rounds));
    }
    fmt::print("{}: {:.1f} MB of weights, loaded in {:.2f} s, {} threads, {} rounds\n", model.string(),
               static_cast<double>(network.weight_bytes()) / 1e6, load, thread_count(), rounds);
    Json result{{"model", model.string()}, {"weight_bytes", network.weight_bytes()}, {"load_seconds", load}, {"threads", thread_count()},
                {"prompt", prompt}, {"tokens", tokens}};
    result["decode"] = print(fmt::format("decoding {} tokens one by one; tokens per second", tokens), decoding);
    result["decode_many"] = print("of all texts together, one token of each a pass; tokens per second", many);
    result["read"] = print(fmt::format("reading a prompt of {} tokens; tokens per second", prompt), reading);
    if (!common.json.empty()) write_json(common.json, result);
  }

  std::vector<int32_t> some_ids(const QuantizedTransformer& network) const {
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < prompt; ++i) ids.push_back(static_cast<int32_t>((1000 + 37 * i) % network.config().vocabulary));
    return ids;
  }

  double read_prompt(QuantizedTransformer& network) const {
    const std::vector<int32_t> ids = some_ids(network);
    TokenCache cache(network.config());
    const TokenRun run{ids, &cache};
    const auto start = Clock::now();
    network.forward({&run, 1});
    return static_cast<double>(prompt) / seconds_since(start);
  }

  double decode(QuantizedTransformer& network) const {
    TokenCache cache(network.config());
    std::vector<int32_t> next{1};
    const auto one = [&] {
      const TokenRun run{next, &cache};
      const std::span<const float> logits = network.forward({&run, 1});
      next[0] = static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    };
    one();
    const auto start = Clock::now();
    for (int64_t i = 0; i < tokens; ++i) one();
    return static_cast<double>(tokens) / seconds_since(start);
  }

  double decode_many(QuantizedTransformer& network) const {
    ContinuousDecoder decoder(network, at_once, network.config().vocabulary);
    for (int64_t i = 0; i < at_once; ++i)
      decoder.add({static_cast<int32_t>(i + 1)}, Sampler({.temperature = 0}, 1, "bench"), [](int32_t) { return true; });
    decoder.step();
    const auto start = Clock::now();
    for (int64_t i = 0; i < tokens; ++i) decoder.step();
    return static_cast<double>(at_once * tokens) / seconds_since(start);
  }

  /// How often a second this machine can read as many bytes as the weights have, with nothing else to do.
  double read_weights(int64_t bytes) const {
    std::vector<uint64_t> memory(bytes / sizeof(uint64_t), 1);
    ThreadTeam team(thread_count());
    std::vector<uint64_t> sums(team.size() * 8);
    const auto all = [&](int thread) {
      const Share share(static_cast<int64_t>(memory.size()), thread, team.size());
      uint64_t sum[8] = {};
      for (int64_t i = share.begin; i + 8 <= share.end; i += 8)
        for (int64_t j = 0; j < 8; ++j) sum[j] += memory[i + j];
      sums[8 * thread] = std::accumulate(sum, sum + 8, uint64_t{0});
    };
    constexpr int kTimes = 20;
    team.run(all);
    const auto start = Clock::now();
    for (int i = 0; i < kTimes; ++i) team.run(all);
    const double seconds = seconds_since(start);
    if (sums[0] == 0) fail("nothing was read");  // keeps the reading from being left out
    return kTimes / seconds;
  }

  void run_peer(Measured& decoding, Measured& reading) const {
    const fs::path out = fs::temp_directory_path() / fmt::format("sememe-bench-{}.json", getpid());
    output_of(fmt::format("{} {} --library '{}' --model '{}' --threads {} --tokens {} --prompt {} --repeats 1 --json {}", python.string(),
                          script.string(), library.string(), model.string(), thread_count(), tokens, prompt, out.string()));
    const Json peer = read_json(out);
    fs::remove(out);
    decoding.rates.push_back(json_member<std::vector<double>>(peer, "decode_tokens_per_second", script.string()).at(0));
    reading.rates.push_back(json_member<std::vector<double>>(peer, "prompt_tokens_per_second", script.string()).at(0));
  }

  static Json print(const std::string& title, const std::vector<Measured>& measured) {
    fmt::print("{}\n{:<38} {:>9} {:>9} {:>9}  {:>11}\n", title, "", "least", "median", "most", "ours / this");
    Json list = Json::array();
    for (const Measured& one : measured) {
      const auto [least, most] = std::minmax_element(one.rates.begin(), one.rates.end());
      const double ratio = measured[0].median() / one.median();
      fmt::print("{:<38} {:>9.1f} {:>9.1f} {:>9.1f}  {:>11.2f}{}\n", one.name, *least, one.median(), *most, ratio,
                 one.memory > 0 ? fmt::format("  {:.0f} MiB", one.memory) : "");
      list.push_back({{"name", one.name}, {"tokens_per_second", one.rates}, {"median", one.median()}, {"ours_over_this", ratio}});
    }
    return list;
  }
};

}  // namespace

void add_decode_bench(CLI::App& group) {
  const auto command = std::make_shared<DecodeBench>();
  CLI::App* const app = add_command(group, "decode", "Tokens a second of a GGUF file, beside llama.cpp and beside reading its weights",
                                    "sememe bench decode --model SmolLM2-135M.gguf");
  app->add_option("--model", command->model, "The .gguf file")->required();
  app->add_option("--prompt", command->prompt, "Tokens of the prompt that is read")->check(CLI::PositiveNumber)->capture_default_str();
  app->add_option("--tokens", command->tokens, "Tokens that are decoded one by one")->check(CLI::PositiveNumber)->capture_default_str();
  app->add_option("--at-once", command->at_once, "Texts that are decoded together")->check(CLI::PositiveNumber)->capture_default_str();
  app->add_option("--rounds", command->rounds, "Rounds, in each of which everything is measured once")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app->add_option("--python", command->python, "Python that has NumPy")->capture_default_str();
  app->add_option("--library", command->library, "Folder of a built llama.cpp")->capture_default_str();
  add_common_options(*app, command->common);
  app->callback([command] { command->run(); });
}

}  // namespace sememe

#pragma once
// Activations on disk: a folder of shards with a manifest, or one array file; read in a shuffled order at disk speed, straight from the
// mapped files, of which a bounded window is brought into memory ahead.

#include <torch/torch.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "sememe/base/json.h"

namespace sememe {

/// Rows of a store as float32; `gradients` is undefined where the store has none.
struct ActivationRows {
  torch::Tensor activations;  ///< [rows, width]
  torch::Tensor gradients;    ///< [rows, width], gradients of the model's loss with respect to the activations
};

/// A store opened for reading; cheap to copy.
class ActivationStore {
 public:
  /// Opens a folder that ActivationWriter filled, a two-dimensional .npy (float16, float32), or a .safetensors with
  /// "activations" [rows, width] and optionally "gradients" of the same shape.
  /// @throws Error naming the file if it is missing, malformed, empty, of another shape or type, or a capture not yet complete
  static ActivationStore open(const std::filesystem::path& path);

  int64_t rows() const;
  int64_t width() const;
  bool has_gradients() const;
  const std::filesystem::path& path() const;
  /// Where the rows come from, e.g. "model", "site", "context"; empty for an array file.
  const Json& origin() const;

  /// Rows [begin, begin + count), in the order in which they were stored.
  /// @throws Error naming file and row if a value is NaN or infinite
  ActivationRows read(int64_t begin, int64_t count) const;
  /// The rows of these numbers, in that order. @throws as read()
  ActivationRows gather(std::span<const int64_t> rows) const;
  /// Rows [begin, begin + count) will soon be read: the system brings them into memory meanwhile.
  void prefetch(int64_t begin, int64_t count) const;

 private:
  struct Contents;
  explicit ActivationStore(std::shared_ptr<const Contents> contents) : contents_(std::move(contents)) {}
  std::shared_ptr<const Contents> contents_;
};

/// Fills a folder with shards, each whole or absent, and a manifest that is rewritten after each. What was written before an
/// interruption stays valid: the manifest says at which batch of the source to go on.
class ActivationWriter {
 public:
  struct Settings {
    int64_t width = 0;
    bool gradients = false;
    bool half = true;          ///< float16 on disk, else float32
    Json origin = Json::object();  ///< identifies the capture: a folder with another origin is not continued
    int64_t shard_rows = 65536;
  };

  /// Starts the folder, or takes up an interrupted one. Nothing is created before the first shard is whole.
  /// @throws Error if the folder holds something else
  ActivationWriter(std::filesystem::path folder, Settings settings);

  /// True if the folder held the whole capture already.
  bool complete() const { return complete_; }
  int64_t rows() const { return stored_rows_ + pending_rows_; }
  /// Batches of the source that are safely stored.
  int64_t stored_batches() const { return stored_batches_; }

  /// Appends the rows of one batch of the source.
  /// @throws Error if a value is NaN, infinite or beyond the range of float16
  void append(const torch::Tensor& activations, const torch::Tensor& gradients);
  /// Writes the last shard and marks the store complete. @throws Error if it has no rows
  void finish();

 private:
  void write_shard();
  void write_manifest();

  std::filesystem::path folder_;
  Settings settings_;
  Json shards_ = Json::array();
  std::vector<torch::Tensor> activations_, gradients_;
  int64_t stored_rows_ = 0, pending_rows_ = 0, stored_batches_ = 0, pending_batches_ = 0;
  bool complete_ = false;
};

/// The rows of a store over and over, each epoch in another random order: blocks of neighbouring rows are permuted over the whole
/// store, and rows within a window of many blocks. A store smaller than the window is permuted exactly.
class ShuffledActivations {
 public:
  /// Where the reading stands; restoring it continues with the same rows.
  struct Position {
    int64_t epoch = 0, window = 0, row = 0;
  };

  /// @param largest_norm rows of a larger Euclidean norm are left out (attention sinks); infinity keeps all
  /// @param window_rows  0 chooses as many as fit 256 MiB
  ShuffledActivations(ActivationStore store, uint64_t seed, float largest_norm, int64_t window_rows = 0);

  /// The next `rows` rows. @throws Error as ActivationStore::read, or if every row is left out
  ActivationRows next(int64_t rows) { return next(rows, 0, rows); }
  /// Of the next `rows` rows those from `begin` on, `count` of them; the position moves past all.
  ActivationRows next(int64_t rows, int64_t begin, int64_t count);

  Position position() const { return position_; }
  void seek(Position position);
  /// Rows left out so far in this process.
  int64_t dropped() const { return dropped_; }

 private:
  void open_window();
  void prefetch_window(int64_t window) const;

  ActivationStore store_;
  uint64_t seed_;
  float largest_norm_;
  int64_t blocks_per_window_;
  Position position_;
  int64_t dropped_ = 0;
  std::vector<int64_t> window_;  // its rows in their random order; empty if none is open
  std::vector<int64_t> blocks_;  // order of the blocks in the current epoch
  int64_t blocks_epoch_ = -1;
};

}  // namespace sememe

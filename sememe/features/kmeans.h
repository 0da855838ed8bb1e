#pragma once
// Spherical (gain-shape) k-means, the plainest dictionary of all: a row is the centre plus its nearest centroid, a direction, times a gain
// (Coates & Ng 2012, "Learning feature representations with k-means"), learnt from mini-batches (Sculley 2010). With y = x - centre and
// centroids c_j of norm 1, the code of a row is one latent, the j of the largest product c_j . y, at that product if it is positive: a TopK
// dictionary of k = 1 whose encoder is its decoder.

#include "sememe/features/learner.h"
#include "sememe/features/screening.h"
#include "sememe/features/sparse_codes.h"

namespace sememe {

class KMeansLearner : public DictionaryLearner {
 public:
  /// The centre is the geometric median of the statistics and stays.
  KMeansLearner(const LearnerOptions& options, const ActivationStatistics& statistics);

  /// Moves each centroid to the direction of its cluster's sum of (c_j . y) y over this and all earlier batches, batch s of t weighing
  /// (s / t)^4, so that what was assigned to worse centroids fades; there is no learning rate. Clusters that are empty, as all are at
  /// first and those that no row chose for options.dead_after rows are again, begin at rows of the batch drawn as in k-means++ (Arthur &
  /// Vassilvitskii 2007): in proportion to the error that the others leave.
  /// Reports the centroids as they were before the step: loss and fvu are the same, and about 1 at the first. `dead` are the clusters
  /// that are empty after it, for want of rows that point elsewhere than the centroids do.
  /// @throws Error naming the row if a value is NaN or infinite
  StepReport step(const ActivationRows& rows, double learning_rate) override;
  /// @throws Error if the rows pointed in fewer directions than there are latents
  std::shared_ptr<Dictionary> dictionary(const Json& origin) const override;
  NamedTensors state() const override;
  void restore(const SafetensorsFile& file) override;

  /// [latents, width] of norm 1; zeros where a cluster has not begun
  const torch::Tensor& centroids() const { return centroids_; }

 private:
  void move_centroids(const torch::Tensor& centred);
  void begin_empty_clusters(const torch::Tensor& centred, torch::Tensor errors);
  std::vector<int64_t> empty_clusters() const;
  int64_t steps_done() const { return step_.item<int64_t>(); }

  LearnerOptions options_;
  double variance_;
  torch::Tensor centre_;  // [width]
  torch::Tensor centroids_, sums_;  // [latents, width]
  torch::Tensor rows_since_selected_, step_;
  ScreenedMatrix screened_;  // centroids_
  SelectedCodes codes_;      // of the last batch
};

std::unique_ptr<DictionaryLearner> learn_kmeans(const LearnerOptions& options, const ActivationStatistics& statistics);

}  // namespace sememe

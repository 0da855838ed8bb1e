#include "sememe/features/text_judges.h"

#include <gtest/gtest.h>

#include <cmath>

#include "sememe/base/error.h"

namespace sememe {
namespace {

TEST(NaiveBayes, PosteriorIsThatOfSmoothedCounts) {
  // Label 0: ids 0 0 1; label 1: id 2. With Laplace smoothing over 3 ids: P(0|0) = 3/6, P(0|1) = 1/4.
  const std::vector<std::vector<int32_t>> documents = {{0, 0}, {1}, {2}};
  const std::vector<int64_t> labels = {0, 0, 1};
  const NaiveBayes classifier(documents, labels, 2, 3);
  const std::vector<int32_t> zero = {0}, nothing;
  EXPECT_NEAR(classifier.posterior(zero)[0], 0.5 / 0.75, 1e-12);
  EXPECT_DOUBLE_EQ(classifier.posterior(nothing)[1], 0.5);
  EXPECT_DOUBLE_EQ(classifier.accuracy(documents, labels), 1.0);
}

TEST(NaiveBayes, LongTextsDoNotUnderflow) {
  const std::vector<std::vector<int32_t>> documents = {{0}, {1}};
  const std::vector<int64_t> labels = {0, 1};
  const NaiveBayes classifier(documents, labels, 2, 2);
  const std::vector<int32_t> text(100'000, 1);
  EXPECT_NEAR(classifier.posterior(text)[1], 1.0, 1e-12);
}

TEST(NaiveBayes, RefusesWhatItCannotLearnFrom) {
  const std::vector<std::vector<int32_t>> documents = {{0}, {7}};
  const std::vector<int64_t> labels = {0, 1}, same = {0, 0};
  EXPECT_THROW(NaiveBayes(documents, labels, 2, 3), Error);
  EXPECT_THROW(NaiveBayes(documents, same, 2, 8), Error);
}

TEST(LabelWordLists, HoldTheEligibleWordsOfTheLabel) {
  std::vector<std::vector<int32_t>> documents;
  std::vector<int64_t> labels;
  for (int i = 0; i < 20; ++i) {
    documents.push_back({0, 1, 4});
    labels.push_back(0);
    documents.push_back({0, 2, 3});
    labels.push_back(1);
  }
  const auto lists = label_word_lists(documents, labels, 2, {true, true, true, true, false}, 1);
  EXPECT_EQ(lists[0], (std::vector<int32_t>{1}));  // 4 is as telling, but not eligible; 0 is everywhere
  EXPECT_EQ(lists[1], (std::vector<int32_t>{2}));
}

TEST(ConceptScore, AddsTheMassGainedAndTheProbability) {
  EXPECT_NEAR(concept_score(std::log(2.0), 0.25), 0.75, 1e-12);
  EXPECT_NEAR(concept_score(-3.0, 0.25), 0.25, 1e-12);
}

TEST(FluencyScore, RisesToFullMarksAtTheMedianOfUnsteeredText) {
  const std::vector<double> unsteered = {-4, -3, -2, -1};
  EXPECT_DOUBLE_EQ(fluency_score(-5, unsteered), 0.0);
  EXPECT_DOUBLE_EQ(fluency_score(-4, unsteered), 1.0);
  EXPECT_DOUBLE_EQ(fluency_score(-3, unsteered), 2.0);
  EXPECT_DOUBLE_EQ(fluency_score(0, unsteered), 2.0);
}

TEST(HarmonicMean, IsZeroIfEitherIs) {
  EXPECT_DOUBLE_EQ(harmonic_mean(1.0, 2.0), 4.0 / 3.0);
  EXPECT_DOUBLE_EQ(harmonic_mean(0.0, 2.0), 0.0);
}

}  // namespace
}  // namespace sememe

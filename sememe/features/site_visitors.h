#pragma once
// Visitors that record, differentiate at, or replace what passes one site, or several joined with '+' (find_sites): a row is then the
// rows of all, side by side.

#include <torch/torch.h>

#include <algorithm>
#include <string>
#include <vector>

#include "sememe/features/dictionary.h"
#include "sememe/language/language_model.h"
#include "sememe/network/network.h"

namespace sememe {

/// Of the joined sites of the model those that the dictionary reconstructs: all, or of a transcoder the one that it predicts.
/// @throws UsageError for a site that does not exist, Error if the dictionary does not take rows of these widths
std::vector<Site> written_sites(const Dictionary& dictionary, const LanguageModel& model, std::string_view joined);

/// Keeps the tensor at a site; with `stop` the forward pass ends there.
class RecordSite : public SiteVisitor {
 public:
  RecordSite(std::string_view joined, bool stop) : names_(split_sites(joined)), stop_(stop) {}

  torch::Tensor visit(const Site& site, torch::Tensor value) override {
    if (wants(site)) values_.push_back(value);
    return value;
  }
  bool wants(const Site& site) const override { return std::find(names_.begin(), names_.end(), site.name) != names_.end(); }
  bool finished() const override { return stop_ && values_.size() == names_.size(); }
  torch::Tensor value() const { return values_.size() == 1 ? values_[0] : torch::cat(values_, -1); }

 private:
  std::vector<std::string> names_;
  bool stop_;
  std::vector<torch::Tensor> values_;
};

/// Cuts the autograd graph at the first of the sites: the tensor there becomes a leaf, so that a backward pass of the loss runs through
/// the layers above it only and leaves the gradient at each site in gradient().
class DifferentiateSite : public SiteVisitor {
 public:
  explicit DifferentiateSite(std::string_view joined) : names_(split_sites(joined)) {}

  torch::Tensor visit(const Site& site, torch::Tensor value) override {
    if (std::find(names_.begin(), names_.end(), site.name) == names_.end()) return value;
    if (values_.empty())
      value = value.detach().clone().requires_grad_(true);
    else
      value.retain_grad();
    values_.push_back(value);
    return value;
  }
  torch::Tensor value() const { return side_by_side([](const torch::Tensor& value) { return value.detach(); }); }
  torch::Tensor gradient() const { return side_by_side([](const torch::Tensor& value) { return value.grad(); }); }

 private:
  template <class Of>
  torch::Tensor side_by_side(const Of& of) const {
    if (values_.size() == 1) return of(values_[0]);
    std::vector<torch::Tensor> parts;
    for (const torch::Tensor& value : values_) parts.push_back(of(value));
    return torch::cat(parts, -1);
  }

  std::vector<std::string> names_;
  std::vector<torch::Tensor> values_;
};

/// Puts rows of another tensor in place at a site, in one forward pass.
class ReplaceSite : public SiteVisitor {
 public:
  /// @param replacement what takes the place, broadcast to the tensors there, side by side [batch, length, width]
  /// @param where       [batch, length] bool: the rows to replace
  ReplaceSite(std::string_view joined, torch::Tensor replacement, torch::Tensor where)
      : names_(split_sites(joined)), replacement_(std::move(replacement)), where_(where.unsqueeze(-1)) {}

  torch::Tensor visit(const Site& site, torch::Tensor value) override {
    if (!wants(site)) return value;
    const torch::Tensor part = names_.size() == 1 ? replacement_ : replacement_.narrow(-1, begin_, value.size(-1));
    begin_ += value.size(-1);
    return torch::where(where_, part, value);
  }
  bool wants(const Site& site) const override { return std::find(names_.begin(), names_.end(), site.name) != names_.end(); }

 private:
  std::vector<std::string> names_;
  torch::Tensor replacement_, where_;
  int64_t begin_ = 0;  // of the next site's columns
};

}  // namespace sememe

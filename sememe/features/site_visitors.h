#pragma once
// Visitors that record, differentiate at, or replace what passes one site.

#include <torch/torch.h>

#include <string>

#include "sememe/network/network.h"

namespace sememe {

/// Keeps the tensor at a site; with `stop` the forward pass ends there.
class RecordSite : public SiteVisitor {
 public:
  RecordSite(std::string site, bool stop) : site_(std::move(site)), stop_(stop) {}

  torch::Tensor visit(const Site& site, torch::Tensor value) override {
    if (site.name == site_) value_ = value;
    return value;
  }
  bool finished() const override { return stop_ && value_.defined(); }
  const torch::Tensor& value() const { return value_; }

 private:
  std::string site_;
  bool stop_;
  torch::Tensor value_;
};

/// Cuts the autograd graph at a site: the tensor there becomes a leaf, so that a backward pass of the loss runs through the layers
/// above the site only and leaves its gradient in value().grad().
class DifferentiateSite : public SiteVisitor {
 public:
  explicit DifferentiateSite(std::string site) : site_(std::move(site)) {}

  torch::Tensor visit(const Site& site, torch::Tensor value) override {
    if (site.name != site_) return value;
    value_ = value.detach().clone().requires_grad_(true);
    return value_;
  }
  const torch::Tensor& value() const { return value_; }

 private:
  std::string site_;
  torch::Tensor value_;
};

/// Puts rows of another tensor in place at a site.
class ReplaceSite : public SiteVisitor {
 public:
  /// @param replacement what takes the place, broadcast to the tensor there [batch, length, width]
  /// @param where       [batch, length] bool: the rows to replace
  ReplaceSite(std::string site, torch::Tensor replacement, torch::Tensor where)
      : site_(std::move(site)), replacement_(std::move(replacement)), where_(where.unsqueeze(-1)) {}

  torch::Tensor visit(const Site& site, torch::Tensor value) override {
    return site.name == site_ ? torch::where(where_, replacement_, value) : value;
  }

 private:
  std::string site_;
  torch::Tensor replacement_, where_;
};

}  // namespace sememe

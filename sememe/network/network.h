#pragma once
// A network with sites: named places in the forward pass whose tensor a visitor may read or replace. Recording, steering,
// ablating and patching are visitors; none of them knows what kind of network it visits.

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sememe {

/// A place in a network where tensors pass by, e.g. "blocks.2.output".
struct Site {
  std::string name;
  int64_t width = 0;        ///< size of the last dimension of the tensor there
  std::string row = "token";  ///< what one row is: token, pixel, node
};

class SiteVisitor {
 public:
  virtual ~SiteVisitor() = default;
  /// Called with the tensor at `site`; what it returns flows on. The default is the identity and costs nothing.
  virtual torch::Tensor visit(const Site& site, torch::Tensor value) { return value; }
  /// Whether visit() may do anything at `site`; asked only where handing a tensor over costs something.
  virtual bool wants(const Site& site) const { return true; }
  /// True once nothing after this site is wanted: forward() then stops and returns an undefined tensor.
  virtual bool finished() const { return false; }
};

/// Sees nothing and changes nothing.
struct NoVisitor : SiteVisitor {
  bool wants(const Site& site) const override { return false; }
};

/// What a network is given: `inputs` (for a language model token ids [batch, context] int64) and, where there are any,
/// `targets` of the shape its loss needs.
struct Batch {
  torch::Tensor inputs;
  torch::Tensor targets;
};

class Network : public torch::nn::Module {
 public:
  /// In the order in which forward() reaches them.
  virtual const std::vector<Site>& sites() const = 0;

  /// The output (for a language model logits [batch, context, vocabulary]), or undefined where the visitor finished early.
  virtual torch::Tensor forward(const Batch& batch, SiteVisitor& visitor) = 0;

  /// The training loss, one number, of forward()'s output against batch.targets.
  virtual torch::Tensor loss(const torch::Tensor& output, const Batch& batch) const = 0;

  /// From now on `visitor` visits every pass, before the visitor that forward() is given. It cannot end a pass.
  void add_visitor(std::shared_ptr<SiteVisitor> visitor) { visitors_.push_back(std::move(visitor)); }

 protected:
  /// What flows on from a site: forward() calls this with the tensor there and its visitor.
  torch::Tensor pass(const Site& site, torch::Tensor value, SiteVisitor& visitor) const {
    for (const std::shared_ptr<SiteVisitor>& each : visitors_) value = each->visit(site, std::move(value));
    return visitor.visit(site, std::move(value));
  }

  /// Whether any visitor wants what pass() would show.
  bool is_visited(const Site& site, const SiteVisitor& visitor) const {
    for (const std::shared_ptr<SiteVisitor>& each : visitors_)
      if (each->wants(site)) return true;
    return visitor.wants(site);
  }

 private:
  std::vector<std::shared_ptr<SiteVisitor>> visitors_;
};

/// The site called `name`.
/// @throws UsageError that lists the sites there are
const Site& find_site(const Network& network, std::string_view name);

/// The sites whose names are joined with '+', e.g. "blocks.0.output+blocks.1.output", in the order in which forward() reaches them.
/// @throws UsageError for one that does not exist, one named twice, or another order
std::vector<Site> find_sites(const Network& network, std::string_view joined);

/// The names in "first+second".
std::vector<std::string> split_sites(std::string_view joined);

}  // namespace sememe

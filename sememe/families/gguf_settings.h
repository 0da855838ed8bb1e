#pragma once
// The metadata of one architecture in a GGUF file, whose keys begin with its name.

#include <cstdint>
#include <string>
#include <string_view>

#include "sememe/families/transformer_config.h"
#include "sememe/formats/gguf.h"

namespace sememe {

class GgufSettings {
 public:
  explicit GgufSettings(const GgufFile& file) : file_(file), architecture_(file.text("general.architecture")) {}

  bool has(const char* key) const { return file_.has_key(full(key)); }
  /// @throws Error unless it is a size from 1 to 2^31
  int64_t size(const char* key) const;
  int64_t size_or(const char* key, int64_t fallback) const { return has(key) ? size(key) : fallback; }
  double number(const char* key) const { return file_.number(full(key)); }
  double number_or(const char* key, double fallback) const { return has(key) ? number(key) : fallback; }
  /// @throws Error if it is there and no truth value
  bool flag_or(const char* key, bool fallback) const;
  const std::string& text(const char* key) const { return file_.text(full(key)); }
  /// Fails if the key is there and has another value.
  void only(const char* key, int64_t value) const;

  /// The sizes, named alike in all architectures, whether the head is tied, and how positions turn.
  /// @param epsilon the key of the norms' epsilon
  TransformerConfig common(const char* epsilon) const;

 private:
  std::string full(const char* key) const { return architecture_ + "." + key; }
  void read_rotary(TransformerConfig& config) const;
  void read_longrope(TransformerConfig& config, const std::string& type) const;
  void read_divisors(TransformerConfig& config, const char* name, const std::string& type) const;

  const GgufFile& file_;
  std::string architecture_;
};

/// Whether the tensor holds divisors of rotary frequencies, which `common` reads.
bool is_rotary_tensor(std::string_view name);

}  // namespace sememe

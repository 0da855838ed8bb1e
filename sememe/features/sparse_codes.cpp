#include "sememe/features/sparse_codes.h"

#include "sememe/base/error.h"
#include "sememe/kernels/sparse_decode.h"
#include "sememe/kernels/sparse_gradients.h"

namespace sememe {

void select_codes(const torch::Tensor& pre_activations, const kernels::TopKOptions& options, SelectedCodes& codes) {
  const int64_t rows = pre_activations.size(0), k = options.k;
  std::vector<int32_t> counts(rows);
  codes.atoms.resize(rows * k);
  codes.values.resize(rows * k);
  const auto fault = kernels::top_k(pre_activations.data_ptr<float>(), rows, pre_activations.size(1), options,
                                    {codes.atoms.data(), codes.values.data(), counts.data()});
  if (fault) fail("{}: the weights or the activations are out of range", kernels::describe(*fault));
  // The kernel leaves k places a row; they are closed up in place, since an entry never moves to the right.
  codes.offsets.assign(1, 0);
  int64_t entries = 0;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t place = row * k; place < row * k + counts[row]; ++place, ++entries) {
      codes.atoms[entries] = codes.atoms[place];
      codes.values[entries] = codes.values[place];
    }
    codes.offsets.push_back(entries);
  }
  codes.atoms.resize(entries);
  codes.values.resize(entries);
}

void decode_codes(const kernels::CodeRows& codes, const torch::Tensor& decoder, const torch::Tensor& bias,
                  torch::Tensor& reconstruction) {
  kernels::sparse_decode(codes, decoder.data_ptr<float>(), decoder.size(0), decoder.size(1),
                         bias.defined() ? bias.data_ptr<float>() : nullptr, reconstruction.data_ptr<float>());
}

void add_code_gradients(const SelectedCodes& codes, const torch::Tensor& inputs, const torch::Tensor& reconstruction_gradient,
                        const torch::Tensor& decoder, torch::Tensor& encoder_gradient, torch::Tensor& encoder_bias_gradient,
                        torch::Tensor& decoder_gradient) {
  const int64_t size = decoder.size(0), width = decoder.size(1);
  const float* const output_gradients = reconstruction_gradient.data_ptr<float>();
  const kernels::CodeColumns columns = kernels::columns_of(codes.view(), size);
  std::vector<float> code_gradients(codes.values.size());
  kernels::sparse_code_gradients(codes.view(), output_gradients, decoder.data_ptr<float>(), size, width, code_gradients.data());
  kernels::add_atom_gradients(columns, codes.values.data(), output_gradients, width, decoder_gradient.data_ptr<float>());
  kernels::add_atom_gradients(columns, code_gradients.data(), inputs.data_ptr<float>(), width,
                              encoder_gradient.data_ptr<float>());
  kernels::add_bias_gradients(columns, code_gradients.data(), encoder_bias_gradient.data_ptr<float>());
}

void SparseCodesBuilder::append(const SelectedCodes& codes) {
  const int64_t before = static_cast<int64_t>(atoms_.size());
  atoms_.insert(atoms_.end(), codes.atoms.begin(), codes.atoms.end());
  values_.insert(values_.end(), codes.values.begin(), codes.values.end());
  for (int64_t row = 1; row <= codes.rows(); ++row) offsets_.push_back(before + codes.offsets[row]);
}

SparseCodes SparseCodesBuilder::finish() {
  return {torch::tensor(offsets_, torch::kLong), torch::tensor(atoms_, torch::kInt), torch::tensor(values_, torch::kFloat)};
}

torch::Tensor decode_sparse(const SparseCodes& codes, const torch::Tensor& decoder, const torch::Tensor& bias) {
  torch::Tensor reconstruction = torch::empty({codes.rows(), decoder.size(1)});
  decode_codes({codes.rows(), codes.offsets.data_ptr<int64_t>(), codes.atoms.data_ptr<int32_t>(), codes.values.data_ptr<float>()},
               decoder, bias, reconstruction);
  return reconstruction;
}

}  // namespace sememe

#pragma once
// A device that the CPU plays, for tests of what runs on other devices than the CPU where there is none: "played" to LibTorch, which hands
// all of its operations to the fallback here. It is as strict as a GPU: an operation on tensors of two devices is an error, and a pointer
// to its memory is not one that the CPU can follow, so that a CPU kernel that is given one crashes. Include it in one file of a program.

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>
#include <torch/torch.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

namespace sememe::played {

inline const c10::Device kDevice(c10::kPrivateUse1, 0);
constexpr uintptr_t kTag = uintptr_t{1} << 62;  // no address that a processor takes has this bit

inline void* tagged(void* memory) {
  return memory == nullptr ? nullptr : reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(memory) | kTag);
}
inline void* memory_of(const void* pointer) { return reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(pointer) & ~kTag); }

struct Allocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* const memory = bytes == 0 ? nullptr : std::malloc(bytes);
    return {tagged(memory), memory, std::free, kDevice};
  }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(memory_of(to), memory_of(from), bytes); }
};
inline Allocator allocator;

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return c10::kPrivateUse1; }
  c10::Device exchangeDevice(c10::Device) const override { return kDevice; }
  c10::Device getDevice() const override { return kDevice; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return c10::Stream(c10::Stream::DEFAULT, kDevice); }
  c10::Stream getDefaultStream(c10::Device) const override { return c10::Stream(c10::Stream::DEFAULT, kDevice); }
  c10::Stream exchangeStream(c10::Stream stream) const override { return stream; }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const c10::Stream&, c10::DeviceIndex, c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  void init() const override {}
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  bool isPinnedPtr(const void*) const override { return false; }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override { return at::detail::getDefaultCPUGenerator(); }
};

inline const bool registered = [] {
  c10::SetAllocator(c10::kPrivateUse1, &allocator);
  at::RegisterPrivateUse1HooksInterface(new Hooks);
  c10::register_privateuse1_backend("played");
  return true;
}();

inline const c10::DispatchKeySet kKeys(c10::DispatchKey::PrivateUse1);

/// The same memory as a tensor of another device.
inline at::Tensor alias(const at::Tensor& tensor, c10::DataPtr data, c10::Allocator* with, c10::DispatchKey key) {
  const size_t bytes = at::detail::computeStorageNbytes(tensor.sizes(), tensor.strides(), tensor.element_size());
  at::Tensor result = at::detail::make_tensor<c10::TensorImpl>(
      c10::Storage(c10::Storage::use_byte_size_t(), bytes, std::move(data), with, true), c10::DispatchKeySet(key), tensor.dtype());
  result.unsafeGetTensorImpl()->set_sizes_and_strides(tensor.sizes(), tensor.strides());
  return result;
}

inline at::Tensor on_cpu(const at::Tensor& tensor) {
  if (!tensor.defined() || !tensor.is_privateuseone()) return tensor;
  void* const memory = memory_of(tensor.unsafeGetTensorImpl()->data());
  return alias(tensor, {memory, c10::Device(c10::kCPU)}, at::getCPUAllocator(), c10::DispatchKey::CPU);
}

inline at::Tensor on_device(const at::Tensor& tensor) {
  if (!tensor.defined()) return tensor;
  c10::DataPtr data(
      tagged(tensor.unsafeGetTensorImpl()->mutable_data()), new at::Tensor(tensor),
      [](void* kept) { delete static_cast<at::Tensor*>(kept); }, kDevice);
  return alias(tensor, std::move(data), &allocator, c10::DispatchKey::PrivateUse1);
}

inline const at::Tensor& resize(const at::Tensor& tensor, at::IntArrayRef size, std::optional<at::MemoryFormat>) {
  const size_t bytes = at::detail::computeStorageNbytesContiguous(size, tensor.element_size());
  if (bytes > tensor.storage().nbytes()) {
    tensor.storage().set_data_ptr_noswap(allocator.allocate(bytes));
    tensor.storage().set_nbytes(bytes);
  }
  tensor.unsafeGetTensorImpl()->set_sizes_contiguous(size);
  return tensor;
}

/// Any operation: by the CPU on the same memory.
inline void by_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const c10::FunctionSchema& schema = op.schema();
  const size_t count = schema.arguments().size();
  const std::vector<c10::IValue> given(stack->end() - static_cast<std::ptrdiff_t>(count), stack->end());
  const auto converted = [&](const at::Tensor& tensor) {
    const bool fits = !tensor.defined() || tensor.is_privateuseone() || tensor.dim() == 0;  // numbers may come from the CPU
    TORCH_CHECK(fits, schema.name(), ": a tensor is on ", tensor.device(), ", another on ", kDevice);
    return on_cpu(tensor);
  };
  for (size_t i = 0; i < count; ++i) {
    c10::IValue& value = (*stack)[stack->size() - count + i];
    if (value.isTensor()) {
      value = converted(value.toTensor());
    } else if (value.isTensorList()) {
      std::vector<at::Tensor> tensors;
      for (const at::Tensor& tensor : value.toTensorVector()) tensors.push_back(converted(tensor));
      value = tensors;
    } else if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> tensors;
      for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector())  // indices, which may be on the CPU
        tensors.push_back(tensor ? std::optional(on_cpu(*tensor)) : std::nullopt);
      value = tensors;
    } else if (value.isDevice()) {
      value = c10::Device(c10::kCPU);
    }
  }
  const at::AutoDispatchBelowAutograd below_autograd;
  op.callBoxed(stack);
  const size_t results = schema.returns().size();
  for (size_t i = 0; i < results; ++i) {
    c10::IValue& value = (*stack)[stack->size() - results + i];
    const c10::AliasInfo* const alias = schema.returns()[i].alias_info();
    const auto written = [&] {  // the argument that is returned
      for (size_t j = 0; j < count; ++j) {
        const c10::AliasInfo* const of_argument = schema.arguments()[j].alias_info();
        if (alias != nullptr && of_argument != nullptr && alias->isWrite() && alias->beforeSets() == of_argument->beforeSets()) return j;
      }
      return count;
    }();
    if (written < count) {
      if (value.isTensor() && value.toTensor().data_ptr() != memory_of(given[written].toTensor().unsafeGetTensorImpl()->data())) {
        const at::Tensor resized = value.toTensor();  // what it was to write was too small
        on_cpu(played::resize(given[written].toTensor(), resized.sizes(), std::nullopt)).copy_(resized);
      }
      value = given[written];
    } else if (value.isTensor()) {
      value = on_device(value.toTensor());
    } else if (value.isTensorList()) {
      std::vector<at::Tensor> tensors;
      for (const at::Tensor& tensor : value.toTensorVector()) tensors.push_back(on_device(tensor));
      value = tensors;
    }
  }
}

inline at::Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> type, std::optional<at::Layout>, std::optional<at::Device>,
                        std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &allocator, kKeys, type.value_or(at::kFloat), format);
}

inline at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> type, std::optional<at::Layout>,
                                std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &allocator, kKeys, type.value_or(at::kFloat));
}

inline at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool) {
  on_cpu(to).copy_(on_cpu(from));
  return to;
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) { library.fallback(torch::CppFunction::makeFromBoxedFunction<&by_cpu>()); }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &empty_strided);
  library.impl("_copy_from", &copy_from);
  library.impl("resize_", &resize);
  library.impl("as_strided", &at::native::as_strided_tensorimpl);
  library.impl("view", &at::native::view);
  library.impl("_reshape_alias", &at::native::_reshape_alias);
}

}  // namespace sememe::played

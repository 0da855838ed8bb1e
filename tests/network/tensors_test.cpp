#include "sememe/network/tensors.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <limits>

#include "sememe/base/error.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;

constexpr c10::ScalarType kScalarTypes[] = {
    torch::kBool,   torch::kUInt8,  torch::kInt8,    torch::kUInt16,   torch::kInt16,         torch::kUInt32,
    torch::kInt32,  torch::kUInt64, torch::kInt64,   torch::kFloat16,  torch::kBFloat16,      torch::kFloat32,
    torch::kFloat64, torch::kFloat8_e4m3fn, torch::kFloat8_e5m2};

struct TensorsTest : ::testing::Test {
  ~TensorsTest() override { fs::remove(file); }

  /// Expects load_weight to fail with a message that names the file and holds all of `words`.
  void refuses(const std::string& name, const std::vector<int64_t>& shape, const std::vector<std::string>& words) const {
    try {
      load_weight(SafetensorsFile(file), name, shape);
      ADD_FAILURE() << "loaded";
    } catch (const Error& error) {
      const std::string message = error.what();
      EXPECT_NE(message.find(file.string()), std::string::npos) << message;
      for (const std::string& word : words) EXPECT_NE(message.find(word), std::string::npos) << message;
    }
  }

  fs::path file = fs::temp_directory_path() / ("sememe_tensors_" + std::to_string(::getpid()) + ".safetensors");
};

TEST_F(TensorsTest, EveryElementTypeAndShapeComesBackByteForByte) {
  for (const c10::ScalarType type : kScalarTypes) {
    NamedTensors tensors;
    for (const std::vector<int64_t>& shape : std::vector<std::vector<int64_t>>{{}, {0}, {5}, {2, 3}, {2, 0, 3}})
      tensors.emplace_back(fmt::format("of {} dimensions, {}", shape.size(), tensors.size()),
                           torch::arange(6, torch::kFloat32).slice(0, 0, c10::multiply_integers(shape)).view(shape).to(type));
    save_tensors(file, tensors);
    const SafetensorsFile read(file);
    for (const auto& [name, tensor] : tensors) {
      const torch::Tensor loaded = load_tensor(read, name);
      ASSERT_EQ(loaded.scalar_type(), type);
      ASSERT_EQ(loaded.sizes(), tensor.sizes());
      const bool same = tensor.numel() == 0 || std::memcmp(loaded.data_ptr(), tensor.data_ptr(), tensor.nbytes()) == 0;
      EXPECT_TRUE(same) << name << " " << c10::toString(type);
    }
  }
}

TEST_F(TensorsTest, TypesGoThereAndBack) {
  for (const c10::ScalarType type : kScalarTypes) EXPECT_EQ(scalar_type(dtype_of(type)), type);
}

TEST_F(TensorsTest, TheLoadedTensorOutlivesTheFile) {
  save_tensors(file, {{"a", torch::arange(1000, torch::kFloat32)}});
  const torch::Tensor loaded = load_tensor(SafetensorsFile(file), "a");
  fs::remove(file);
  EXPECT_TRUE(loaded.equal(torch::arange(1000, torch::kFloat32)));
}

TEST_F(TensorsTest, StridedTensorsAndParametersAreSavedByTheirValues) {
  const torch::Tensor matrix = torch::arange(6, torch::kFloat32).view({2, 3}).requires_grad_();
  save_tensors(file, {{"turned", matrix.t()}, {"column", matrix.select(1, 1)}});
  const SafetensorsFile read(file);
  EXPECT_TRUE(load_tensor(read, "turned").equal(matrix.t()));
  EXPECT_TRUE(load_tensor(read, "column").equal(matrix.select(1, 1)));
  EXPECT_FALSE(load_tensor(read, "turned").requires_grad());
}

TEST_F(TensorsTest, MetadataIsKept) {
  save_tensors(file, {{"a", torch::ones({1})}}, {{"format", "pt"}});
  EXPECT_EQ(SafetensorsFile(file).metadata(), (std::map<std::string, std::string>{{"format", "pt"}}));
}

TEST_F(TensorsTest, ComplexTensorsAreRefusedByTypeAndLeaveNoFile) {
  try {
    save_tensors(file, {{"a", torch::ones({2}, torch::kComplexDouble)}});
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("ComplexDouble"), std::string::npos) << error.what();
  }
  EXPECT_FALSE(fs::exists(file));
}

TEST_F(TensorsTest, WeightsBecomeFloat32) {
  const torch::Tensor values = torch::linspace(-2, 2, 12).view({3, 4});
  for (const c10::ScalarType type : {torch::kFloat16, torch::kBFloat16, torch::kFloat64, torch::kFloat32}) {
    save_tensors(file, {{"weight", values.to(type)}});
    const torch::Tensor weight = load_weight(SafetensorsFile(file), "weight", {3, 4});
    EXPECT_EQ(weight.scalar_type(), torch::kFloat32);
    EXPECT_TRUE(weight.equal(values.to(type).to(torch::kFloat32))) << c10::toString(type);
  }
}

TEST_F(TensorsTest, AWeightOfAnotherShapeIsRefusedWithBothShapes) {
  save_tensors(file, {{"weight", torch::zeros({3, 4})}});
  refuses("weight", {4, 3}, {"\"weight\"", "[3, 4]", "[4, 3]"});
  refuses("weight", {12}, {"[12]"});
  refuses("weight", {3, 4, 1}, {"[3, 4, 1]"});
}

TEST_F(TensorsTest, AMissingWeightIsRefusedByName) {
  save_tensors(file, {{"weight", torch::zeros({3, 4})}});
  refuses("bias", {3}, {"\"bias\"", "weight"});
}

TEST_F(TensorsTest, AWeightThatHoldsNoNumberIsRefusedByName) {
  for (const float value : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()}) {
    torch::Tensor weight = torch::zeros({3, 4});
    weight[2][3] = value;
    for (const c10::ScalarType type : {torch::kFloat32, torch::kFloat16}) {
      save_tensors(file, {{"weight", weight.to(type)}});
      refuses("weight", {3, 4}, {"\"weight\"", "NaN or infinite"});
    }
  }
}

TEST_F(TensorsTest, AWeightTooLargeForFloat32IsRefused) {
  save_tensors(file, {{"weight", torch::full({1}, 1e300, torch::kFloat64)}});
  refuses("weight", {1}, {"\"weight\""});
}

}  // namespace
}  // namespace sememe

// The C++ side of formats_oracle.py, which makes the folder, runs this and compares with what the reference libraries
// read.
#include <gtest/gtest.h>

#include <cstdlib>

#include "sememe/formats/npy.h"
#include "sememe/formats/npz.h"
#include "sememe/formats/pickle.h"
#include "sememe/formats/safetensors.h"

namespace sememe {
namespace {

TEST(Oracle, DISABLED_CopiesTheFilesOfTheFolder) {
  const char* const folder = std::getenv("SEMEME_ORACLE_FOLDER");
  ASSERT_NE(folder, nullptr) << "run tests/formats/formats_oracle.py";
  const std::filesystem::path from = std::filesystem::path(folder) / "reference",
                              to = std::filesystem::path(folder) / "copied";
  for (const auto& entry : std::filesystem::directory_iterator(from)) {
    const std::filesystem::path& path = entry.path();
    if (path.extension() == ".safetensors") {
      const SafetensorsFile file(path);
      write_safetensors(to / path.filename(), file.tensors(), file.metadata());
      continue;
    }
    if (path.extension() == ".npz") {
      const NpzFile file(path);
      write_npz(to / path.filename(), file.tensors());
      continue;
    }
    if (path.extension() == ".pt") {
      TorchCheckpoint file(path);
      std::vector<TensorView> tensors;
      for (const std::string& name : file.names()) tensors.push_back(file.tensor(name));
      write_torch_checkpoint(to / path.filename(), tensors);
      continue;
    }
    const NpyFile file(path);
    const std::vector<TensorView> tensors = {{"array", file.dtype(), file.shape(), file.data()}};
    write_safetensors(to / path.filename().replace_extension(".npy.safetensors"), tensors);
    if (file.dtype() != DType::kF32 || file.shape().size() != 2 || file.shape()[1] == 0) continue;
    NpyWriter writer(to / path.filename(), file.shape()[1]);
    writer.write({reinterpret_cast<const float*>(file.data().data()), file.data().size() / sizeof(float)});
    writer.commit();
  }
}

}  // namespace
}  // namespace sememe

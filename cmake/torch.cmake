# LibTorch as the target sememe_torch, and the one precompiled header of every room that uses it.
# SEMEME_TORCH names the folder of a torch package (the one that holds include/ and lib/).

set(SEMEME_TORCH "$ENV{SEMEME_TORCH}" CACHE PATH "Folder of the torch package to build against")
if(NOT SEMEME_TORCH OR NOT EXISTS ${SEMEME_TORCH}/include/torch)
  message(FATAL_ERROR "LibTorch not found at '${SEMEME_TORCH}': run ./setup, or set SEMEME_TORCH to a torch package's folder")
endif()

add_library(sememe_torch INTERFACE)
# After the system's folders: LibTorch carries copies of fmt and others that would hide Debian's.
target_compile_options(sememe_torch INTERFACE
  "SHELL:-idirafter ${SEMEME_TORCH}/include" "SHELL:-idirafter ${SEMEME_TORCH}/include/torch/csrc/api/include")
# LibTorch is built by GCC. Where a template of its headers is chosen by enable_if (const_data_ptr, before 2.13), Clang spells its name the same
# way only if told to.
file(STRINGS ${SEMEME_TORCH}/include/ATen/core/TensorBase.h chosen_templates REGEX "enable_if_t<!?std::is_const_v<T>")
if(chosen_templates AND CMAKE_CXX_COMPILER_ID STREQUAL Clang AND CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 18)
  target_compile_options(sememe_torch INTERFACE -fclang-abi-compat=17)
endif()
file(GLOB torch_libraries ${SEMEME_TORCH}/lib/libtorch.so ${SEMEME_TORCH}/lib/libtorch_cpu.so ${SEMEME_TORCH}/lib/libc10.so
     ${SEMEME_TORCH}/lib/libtorch_cuda.so ${SEMEME_TORCH}/lib/libc10_cuda.so)
# libstdc++ before LibTorch, which exports parts of the one it was built with (std::filesystem): a call is then answered from one place. Built
# and run with different ones, remove_all() crashed.
target_link_libraries(sememe_torch INTERFACE -Wl,--push-state,--no-as-needed stdc++ ${torch_libraries} -Wl,--pop-state)
set(CMAKE_BUILD_RPATH ${SEMEME_TORCH}/lib)

sememe_header(torch LINKS sememe_torch fmt::fmt nlohmann_json::nlohmann_json HEADERS <torch/torch.h> <fmt/format.h> <nlohmann/json.hpp> <CLI/CLI.hpp>)

#!/usr/bin/env bash
# The tests of the kernels on NEON: compiled for 64-bit Arm and run by qemu, on a machine that is none. Not part of ./test: it fetches Debian
# packages of the other architecture, into build/neon.
#   tests/kernels/on_neon.sh [options of the test program, such as --gtest_filter='*Panels*']
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$PWD/build/neon root=$PWD/build/neon/root
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
command -v qemu-aarch64 >/dev/null && command -v aarch64-linux-gnu-g++ >/dev/null ||
  as_root apt-get install -y -qq --no-install-recommends g++-aarch64-linux-gnu qemu-user >/dev/null
mkdir -p "$folder"
if [ ! -d "$root" ]; then
  foreign=$(dpkg --print-foreign-architectures)
  as_root dpkg --add-architecture arm64
  as_root apt-get update -qq
  (cd "$folder" && apt-get download -qq lib{hwy-dev,hwy1,fmt-dev,gtest-dev,rapidcheck-dev}:arm64 nlohmann-json3-dev)
  [[ $foreign == *arm64* ]] || as_root dpkg --remove-architecture arm64
  for package in "$folder"/*.deb; do dpkg -x "$package" "$root"; done
fi
objects=()
for source in sememe/base/*.cpp sememe/kernels/*.cpp tests/kernels/*_test.cpp; do
  [ "$source" = tests/kernels/cuda_kernels_test.cpp ] && continue
  object=$folder/objects/${source%.cpp}.o
  objects+=("$object")
  [ "$object" -nt "$source" ] && continue
  mkdir -p "$(dirname "$object")"
  clang++-19 --target=aarch64-linux-gnu -std=c++20 -O1 -fno-math-errno -Wall -Wextra -Wno-unused-parameter -DFMT_HEADER_ONLY -I. -I"$root/usr/include" \
    -c "$source" -o "$object"
done
libraries=$root/usr/lib/aarch64-linux-gnu
clang++-19 --target=aarch64-linux-gnu -fuse-ld=lld-19 "${objects[@]}" -L"$libraries" -lgtest_main -lgtest -lrapidcheck -lhwy -o "$folder/kernels_test"
QEMU_LD_PREFIX=/usr/aarch64-linux-gnu qemu-aarch64 -E LD_LIBRARY_PATH="$libraries:/usr/aarch64-linux-gnu/lib" "$folder/kernels_test" "$@"

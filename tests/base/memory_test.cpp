#include "sememe/base/memory.h"

#include <gtest/gtest.h>

#include <limits>

#include "sememe/base/error.h"

namespace sememe {
namespace {

TEST(Memory, WhatIsAvailableIsMoreThanThisTestAndLessThanAnyMachineHas) {
  EXPECT_GT(available_memory(), int64_t{1} << 20);
  EXPECT_LT(available_memory(), int64_t{1} << 50);
}

TEST(Memory, NeedingMoreThanThereIsSaysHowMuch) {
  EXPECT_NO_THROW(require_memory(1, "this"));
  try {
    require_memory(std::numeric_limits<int64_t>::max(), "a model");
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_TRUE(message.starts_with("a model needs 9223372036.9 GB of memory, and ")) << message;
  }
}

}  // namespace
}  // namespace sememe

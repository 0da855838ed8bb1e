#pragma once
// What an error says, for tests of its words.

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <string_view>

#include "sememe/base/error.h"

namespace sememe {

/// The message of the Error that `work` throws, "no error" if it throws none.
template <class Work>
std::string error_from(Work work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

inline testing::AssertionResult contains(std::string_view text, std::initializer_list<std::string_view> parts) {
  for (const std::string_view part : parts)
    if (text.find(part) == std::string_view::npos)
      return testing::AssertionFailure() << '"' << text << "\" lacks \"" << part << '"';
  return testing::AssertionSuccess();
}

}  // namespace sememe

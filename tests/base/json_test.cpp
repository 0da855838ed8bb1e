#include "sememe/base/json.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>

namespace sememe {
namespace {

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Json, AFaultNamesTheFile) {
  for (const char* text : {"", "{", "[1,]", "\xff\xfe", "{\"a\":1} tail"})
    EXPECT_EQ(message_of([&] { parse_json(text, "config.json"); }).find("config.json: is not JSON"), 0u) << text;
}

TEST(Json, AMissingKeyNamesFileAndKey) {
  const std::string message = message_of([] { json_member<int>(Json{{"a", 1}}, "width", "config.json"); });
  EXPECT_EQ(message, "config.json: the key \"width\" is missing");
}

TEST(Json, AKeyOfAnotherTypeNamesFileKeyAndValue) {
  const std::string message = message_of([] { json_member<bool>(Json{{"tied", "yes"}}, "tied", "config.json"); });
  EXPECT_EQ(message, "config.json: the key \"tied\" has the wrong type: \"yes\"");
}

TEST(Json, NumbersThatWouldBeChangedAreErrors) {
  const auto read = [](auto kind, const Json& value) {
    return message_of([&] { json_member<decltype(kind)>(Json{{"k", value}}, "k", "config.json"); });
  };
  EXPECT_EQ(read(int64_t{}, 2.7), "config.json: the key \"k\" is no whole number in range: 2.7");
  EXPECT_NE(read(uint64_t{}, -1), "no error");
  EXPECT_NE(read(int32_t{}, int64_t{1} << 40), "no error");
  EXPECT_NE(read(int64_t{}, ~uint64_t{0}), "no error");
  EXPECT_NE(read(int64_t{}, true), "no error");
  EXPECT_NE(read(int64_t{}, 1e300), "no error");
  EXPECT_EQ(read(int64_t{}, 2e6), "no error");
  EXPECT_EQ(read(int64_t{}, -3), "no error");
  EXPECT_EQ(read(uint64_t{}, ~uint64_t{0}), "no error");
}

TEST(Json, NestingWithoutEndIsAnError) {
  const std::string message = message_of([] { parse_json(std::string(1000000, '['), "bomb.json"); });
  EXPECT_NE(message.find("bomb.json"), std::string::npos);
  EXPECT_NE(message.find("200 levels"), std::string::npos);
  EXPECT_NO_THROW(parse_json(std::string(150, '[') + std::string(150, ']'), "deep.json"));
}

TEST(Json, AnAbsentOrNullMemberGivesTheFallback) {
  EXPECT_EQ(json_member_or(Json{{"a", nullptr}}, "a", 3, "here"), 3);
  EXPECT_EQ(json_member_or(Json{{"a", 4}}, "a", 3, "here"), 4);
  EXPECT_THROW(json_member_or(Json{{"a", "x"}}, "a", 3, "here"), Error);
}

}  // namespace
}  // namespace sememe

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
  const std::string message = message_of([] { json_member<int>(Json{{"width", "wide"}}, "width", "config.json"); });
  EXPECT_EQ(message, "config.json: the key \"width\" has the wrong type: \"wide\"");
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

#include "core/json.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "tests/support/files.h"

namespace exactmamba::core {
namespace {

using testing::error_of;

std::string message_of(const std::string& text) {
  return error_of<InputError>([&] { parse_json(text, "f.json"); });
}

TEST(Json, ReadsEveryKindOfValueAndKeepsTheOrder) {
  const Json value =
      parse_json(R"({"z": [1, -2, 2.5, 18446744073709551615], "a": {"é\n": null, "t": true}, "s": ""})", "f");
  EXPECT_EQ(value.begin().key(), "z");
  EXPECT_EQ(value["z"][1], -2);
  EXPECT_EQ(value["z"][2], 2.5);
  EXPECT_EQ(value["z"][3].get<uint64_t>(), UINT64_MAX);
  EXPECT_TRUE(value["a"]["é\n"].is_null());
  EXPECT_EQ(value["a"]["t"], true);
  EXPECT_EQ(value["s"], "");
}

TEST(Json, ErrorsCarryLineAndColumn) {
  EXPECT_TRUE(message_of("{\n  \"a\": 1,\n  \"b\": x\n}").starts_with("f.json:3:8: "))
      << message_of("{\n  \"a\": 1,\n  \"b\": x\n}");
  EXPECT_TRUE(message_of("").starts_with("f.json:1:1: ")) << message_of("");
  EXPECT_TRUE(message_of("[1, 2").starts_with("f.json:1:6: ")) << message_of("[1, 2");
  EXPECT_TRUE(message_of("{} 1").starts_with("f.json:1:4: ")) << message_of("{} 1");
}

TEST(Json, ColumnsCountCharacters) {
  EXPECT_TRUE(message_of("[\"ééé\", x]").starts_with("f.json:1:9: ")) << message_of("[\"ééé\", x]");
}

TEST(Json, MessagesAreOneShortPrintableLine) {
  for (const std::string text : {"[\"a\nb\"]", "\x1b[31m", "[\"\xff\"]"}) {
    const std::string message = message_of(text);
    for (const char c : message) EXPECT_TRUE(c >= 0x20 && c < 0x7F) << message;
  }
  EXPECT_LT(message_of("[\"" + std::string(100000, 'a')).size(), 400u);
}

TEST(Json, RefusesWhatUntrustedFilesMayHold) {
  EXPECT_CONTAINS(message_of("[\"\xff\"]"), "UTF-8");
  EXPECT_CONTAINS(message_of("{\"a\": 1, \"b\": {\"a\": 2}, \"a\": 3}"),
                  "f.json:1:25: the key 'a' is given twice");
  EXPECT_CONTAINS(message_of("{\"x\\\"y\": 1,\n \"x\\\"y\": 2}"),
                  "f.json:2:2: the key 'x\"y' is given twice");
  EXPECT_CONTAINS(message_of(std::string(65, '[') + std::string(65, ']')),
                  "f.json:1:65: nested deeper than 64 levels");
  EXPECT_CONTAINS(message_of(std::string(1 << 20, '[')), "f.json:1:65: nested deeper");
  EXPECT_NO_THROW(parse_json(std::string(64, '[') + std::string(64, ']'), "f"));
  for (const char* text : {"1e999", "[1,]", "{\"a\"}", "{1: 2}", "'a'", "[1] []", "nul", "01", "// c\n1",
                           "\"\\x\"", "[\"\\ud800\"]"}) {
    EXPECT_FALSE(message_of(text).empty()) << text;
  }
  EXPECT_FALSE(message_of(std::string("[1]\0", 4)).empty());
}

TEST(Json, BareNonFiniteNumbersAreRead) {
  const Json value =
      parse_json(R"({"a": [0.0, Infinity], "b":-Infinity,"c": NaN, "d": "Infinity \" NaN"})", "f");
  EXPECT_EQ(json_number(value["a"][1], "a"), std::numeric_limits<double>::infinity());
  EXPECT_EQ(json_number(value["b"], "b"), -std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(json_number(value["c"], "c")));
  EXPECT_EQ(value["d"], "Infinity \" NaN");
  EXPECT_EQ(json_number(parse_json("Infinity", "f"), "f"), std::numeric_limits<double>::infinity());
}

TEST(Json, PositionsAreRightBehindBareWords) {
  EXPECT_TRUE(message_of("[Infinity, NaN, x]").starts_with("f.json:1:17: "))
      << message_of("[Infinity, NaN, x]");
  EXPECT_TRUE(message_of("[-Infinity\n, NaN, {\"a\": 1, \"a\": NaN}]").starts_with("f.json:2:17: "));
  EXPECT_TRUE(message_of("[1 Infinity]").starts_with("f.json:1:4: ")) << message_of("[1 Infinity]");
  EXPECT_TRUE(message_of("[Infinityx]").starts_with("f.json:1:2: ")) << message_of("[Infinityx]");
  EXPECT_FALSE(message_of("{Infinity: 1}").empty());
}

TEST(Json, NumbersThatAreNone) {
  for (const char* text : {"\"1\"", "null", "{\"__float__\": \"1\"}", "{\"__float__\": 1}", "{}", "[1]"}) {
    const Json value = parse_json(text, "f");
    EXPECT_CONTAINS(error_of<InputError>([&] { json_number(value, "f.json: eps"); }),
                    "f.json: eps: expected a number");
  }
  EXPECT_EQ(json_number(Json(3), "x"), 3.0);
}

TEST(Json, WritesAndReadsBack) {
  const testing::TemporaryFolder folder;
  const Json value = {{"b", {1, 2.5, "ü\n"}}, {"a", std::numeric_limits<double>::infinity()}};
  write_json(folder / "x.json", value);
  const std::string text = read_file(folder / "x.json");
  EXPECT_EQ(text,
            "{\n  \"b\": [\n    1,\n    2.5,\n    \"ü\\n\"\n  ],\n  \"a\": {\n    \"__float__\": "
            "\"Infinity\"\n  }\n}\n");
  EXPECT_EQ(json_number(read_json(folder / "x.json")["a"], "a"), std::numeric_limits<double>::infinity());
  EXPECT_CONTAINS(error_of<InputError>([] { json_text(Json("\xff")); }), "UTF-8");
}

TEST(Json, LargeObjectsTakeLinearTime) {
  std::string text = "{";
  for (int i = 0; i < 100000; ++i) text += "\"token" + std::to_string(i) + "\":" + std::to_string(i) + ",";
  text.back() = '}';
  EXPECT_EQ(parse_json(text, "f").size(), 100000u);
}

TEST(Json, BareWordsCanBeRefused) {
  for (const std::string text : {"{\"x\": NaN}", "[1, -Infinity]", "Infinity"}) {
    EXPECT_NO_THROW(parse_json(text, "f", 64, 3));
    const std::string message =
        error_of<InputError>([&] { parse_json(text, "f", 64, 3, BareWords::kRefused); });
    EXPECT_CONTAINS(message, "f:3:");
  }
}

}  // namespace
}  // namespace exactmamba::core

#include "collector/cli/row_printer.h"

#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

namespace keytrail {
namespace {

using Value = Store::QueryValue;

Value Text(const std::string& s) {
  Value v;
  v.type = Value::Type::kText;
  v.bytes = s;
  return v;
}
Value Blob(const std::string& s) {
  Value v = Text(s);
  v.type = Value::Type::kBlob;
  return v;
}
Value Integer(int64_t n) {
  Value v;
  v.type = Value::Type::kInteger;
  v.integer = n;
  return v;
}
Value Real(double d) {
  Value v;
  v.type = Value::Type::kReal;
  v.real = d;
  return v;
}

std::string Print(const std::string& format, const std::vector<std::string>& names,
                  const std::vector<std::vector<Value>>& rows, const TableLook& look = {}) {
  const std::unique_ptr<RowPrinter> printer = MakeRowPrinter(format, look);
  std::string out;
  printer->Columns(names, out);
  for (const std::vector<Value>& row : rows) printer->Row(row, out);
  printer->End(out);
  return out;
}

TEST(RowPrinter, Table) {
  EXPECT_EQ(Print("table", {"name", "n", "key", "end"},
                  {{Text("naïve"), Integer(7), Blob("\x01\xFF"), Text("a\nb")},
                   {Text("b"), Integer(-12345), Value(), Text("\x1B[2J")}}),
            "name        n  key     end\n"
            "-----  ------  ------  ----\n"
            "naïve       7  0x01ff  a b\n"
            "b      -12345  null    ?[2J\n");
  EXPECT_EQ(Print("table", {"n"}, {}), "n\n-\n");
}

TEST(RowPrinter, ATableOfManyRowsKeepsTheWidthsOfTheFirst) {
  std::vector<std::vector<Value>> rows(1500, {Integer(1), Text("x")});
  rows.push_back({Integer(123456), Text("y")});
  const std::string out = Print("table", {"n", "t"}, rows);
  EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 1503);
  EXPECT_TRUE(out.ends_with("1  x\n123456  y\n"));
}

TEST(RowPrinter, ATableFitsATerminal) {
  const std::vector<std::vector<Value>> rows = {
      {Integer(7), Blob("0123456789abcdefghij"), Text("a few words that are long")}};
  const std::string whole = Print("table", {"n", "key", "text"}, rows);
  EXPECT_EQ(Print("table", {"n", "key", "text"}, rows, {.width = 80}), whole) << "it fits as it is";
  // The widest columns lose their middle first, to the same width.
  EXPECT_EQ(Print("table", {"n", "key", "text"}, rows, {.width = 45}),
            "n  key                   text\n"
            "-  --------------------  --------------------\n"
            "7  0x3031323334…768696a  a few words …re long\n");
  EXPECT_EQ(Print("table", {"n", "key", "text"}, {}, {.width = 5}), "n  key  text\n-  ---  ----\n");
}

TEST(RowPrinter, WhatDoesNotFitBecomesLines) {
  const std::vector<std::vector<Value>> rows = {
      {Integer(7), Blob("0123456789abcdefghij"), Text("a few words that are long"), Value()},
      {Integer(8), Blob(""), Text(""), Value()}};
  const std::string lines =
      "   n  7\n"
      " key  0x3031323334353…6768696a\n"
      "text  a few words that are\n"
      "      long\n"
      "none  null\n"
      "\n"
      "   n  8\n"
      " key  0x\n"
      "text\n"
      "none  null\n";
  EXPECT_EQ(Print("table", {"n", "key", "text", "none"}, rows, {.width = 30}), lines);
  EXPECT_EQ(Print("line", {"n", "key", "text", "none"}, rows, {.width = 30}), lines);
}

TEST(RowPrinter, NumbersAsPeopleWriteThem) {
  EXPECT_EQ(
      Print("csv", {"r"}, {{Real(0.0005)}, {Real(-0.25)}, {Real(0)}, {Real(123456789.5)}, {Real(1e300)}}),
      "r\n0.0005\n-0.25\n0\n123456789.5\n1e+300\n");
}

// RFC 4180, section 2: quotes around fields with commas, quotes or line breaks; quotes doubled.
TEST(RowPrinter, Csv) {
  EXPECT_EQ(Print("csv", {"a", "b,c"},
                  {{Text("plain"), Text("say \"hi\", you")},
                   {Value(), Text("")},
                   {Blob("\x0A"), Text("two\nlines")}}),
            "a,\"b,c\"\nplain,\"say \"\"hi\"\", you\"\n,\"\"\n0a,\"two\nlines\"\n");
}

// Oracle: a JSON parser.
TEST(RowPrinter, Json) {
  const std::string out = Print("json", {"t", "i", "r", "b", "n", "\"q\""},
                                {{Text("a\"\n\x01ü"), Integer(std::numeric_limits<int64_t>::min()), Real(0.1),
                                  Blob("\xFF"), Value(), Text("\xFF bad")},
                                 {Text(""), Integer(0), Real(1e300), Blob(""), Value(),
                                  Real(std::numeric_limits<double>::infinity())}});
  const nlohmann::json parsed = nlohmann::json::parse(out);
  ASSERT_EQ(parsed.size(), 2u);
  EXPECT_EQ(parsed[0]["t"], "a\"\n\x01ü");
  EXPECT_EQ(parsed[0]["i"], std::numeric_limits<int64_t>::min());
  EXPECT_EQ(parsed[0]["r"], 0.1);
  EXPECT_EQ(parsed[0]["b"], "ff");
  EXPECT_TRUE(parsed[0]["n"].is_null());
  EXPECT_EQ(parsed[0]["\"q\""], "\uFFFD bad");
  EXPECT_EQ(parsed[1]["r"], 1e300);
  EXPECT_TRUE(parsed[1]["\"q\""].is_null());
  EXPECT_EQ(nlohmann::json::parse(Print("json", {"a"}, {})), nlohmann::json::array());
}

}  // namespace
}  // namespace keytrail

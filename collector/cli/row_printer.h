// Rows of a query as a table, CSV or JSON.
//
// Not thread-safe. Output is appended to a string that the caller writes out as it grows.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "collector/store/store.h"

namespace keytrail {

class RowPrinter {
 public:
  virtual ~RowPrinter() = default;
  virtual void Columns(const std::vector<std::string>& names, std::string& out) = 0;
  virtual void Row(const std::vector<Store::QueryValue>& values, std::string& out) = 0;
  virtual void End(std::string& out) = 0;
};

// How a table fits a terminal.
struct TableLook {
  int width = 0;       // columns of the terminal; 0: as wide as the rows are, nothing is shortened
  bool color = false;  // ANSI colours
};

// `format` is table, line, csv or json.
//   table  aligned; the widths are those of the first rows. BLOBs as 0x…, NULL as "null". With a width, long
//   cells
//          lose their middle, and rows that still do not fit are printed as by `line`.
//   line   a line a value, a block a row
//   csv    RFC 4180 with a header and LF; BLOBs as hex, NULL as nothing.
//   json   an array of objects, one a line; BLOBs as hex; bytes that are no UTF-8 become U+FFFD.
std::unique_ptr<RowPrinter> MakeRowPrinter(const std::string& format, const TableLook& look = {});

}  // namespace keytrail

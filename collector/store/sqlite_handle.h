// A thin hold on SQLite's C interface for this room: an owned connection and prepared statements.
//
// Not thread-safe. No exception, no allocation but SQLite's. Errors keep SQLite's own words.
#pragma once

#include <sqlite3.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "common/bytes.h"
#include "common/result.h"

namespace keytrail {

// A prepared statement. Values are bound in order; text and blobs must live until Step().
class SqlStatement {
 public:
  SqlStatement() = default;
  SqlStatement(const SqlStatement&) = delete;
  SqlStatement& operator=(const SqlStatement&) = delete;
  SqlStatement(SqlStatement&& other) noexcept
      : statement_(std::exchange(other.statement_, nullptr)), next_(other.next_) {}
  SqlStatement& operator=(SqlStatement&& other) noexcept {
    std::swap(statement_, other.statement_);
    next_ = other.next_;
    return *this;
  }
  ~SqlStatement() { sqlite3_finalize(statement_); }

  // Error: SQLite's words and the statement.
  static Result<SqlStatement> Prepare(sqlite3* db, const std::string& sql) {
    SqlStatement s;
    if (sqlite3_prepare_v3(db, sql.c_str(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT,
                           &s.statement_, nullptr) != SQLITE_OK) {
      return Error{std::string(sqlite3_errmsg(db)) + " in: " + sql};
    }
    return s;
  }

  // The first statement of `sql`, for one use; `tail` is what follows. A code of SQLite; raw() is null if
  // there is no statement.
  int PrepareOnce(sqlite3* db, const char* sql, const char** tail) {
    return sqlite3_prepare_v2(db, sql, -1, &statement_, tail);
  }

  SqlStatement& Null() {
    sqlite3_bind_null(statement_, ++next_);
    return *this;
  }
  // Unsigned numbers above 2^63 are kept as their two's complement.
  SqlStatement& Number(uint64_t n) {
    sqlite3_bind_int64(statement_, ++next_, static_cast<sqlite3_int64>(n));
    return *this;
  }
  SqlStatement& Signed(int64_t n) {
    sqlite3_bind_int64(statement_, ++next_, n);
    return *this;
  }
  SqlStatement& NumberOrNull(bool known, uint64_t n) { return known ? Number(n) : Null(); }
  template <class N>
  SqlStatement& Optional(const std::optional<N>& n) {
    return n.has_value() ? Signed(static_cast<int64_t>(*n)) : Null();
  }
  SqlStatement& Text(std::string_view s) {
    // A null pointer would bind NULL.
    sqlite3_bind_text64(statement_, ++next_, s.data() == nullptr ? "" : s.data(), s.size(), SQLITE_STATIC,
                        SQLITE_UTF8);
    return *this;
  }
  SqlStatement& TextOrNull(std::string_view s) { return s.empty() ? Null() : Text(s); }
  SqlStatement& Blob(Bytes b) {
    if (b.empty()) {
      sqlite3_bind_zeroblob(statement_, ++next_, 0);
    } else {
      sqlite3_bind_blob64(statement_, ++next_, b.data(), b.size(), SQLITE_STATIC);
    }
    return *this;
  }
  SqlStatement& BlobOrNull(bool known, Bytes b) { return known ? Blob(b) : Null(); }
  SqlStatement& BlobOrNull(const std::optional<std::string>& b) {
    return b.has_value() ? Blob(AsBytes(*b)) : Null();
  }

  // SQLITE_ROW, SQLITE_DONE or an error. After anything but a row the statement is ready for new values.
  int Step() {
    const int code = sqlite3_step(statement_);
    if (code != SQLITE_ROW) Reset();
    return code;
  }
  // For statements that give no rows.
  bool Run() { return Step() == SQLITE_DONE; }
  void Reset() {
    sqlite3_reset(statement_);
    next_ = 0;
  }

  int64_t ColumnSigned(int i) const { return sqlite3_column_int64(statement_, i); }
  uint64_t ColumnNumber(int i) const { return static_cast<uint64_t>(ColumnSigned(i)); }
  bool ColumnIsNull(int i) const { return sqlite3_column_type(statement_, i) == SQLITE_NULL; }
  // Valid until the next Step().
  Bytes ColumnBytes(int i) const {
    const void* data = sqlite3_column_blob(statement_, i);
    return {static_cast<const uint8_t*>(data), static_cast<size_t>(sqlite3_column_bytes(statement_, i))};
  }
  std::string ColumnText(int i) const { return ToString(ColumnBytes(i)); }
  std::optional<std::string> ColumnOptionalBytes(int i) const {
    if (ColumnIsNull(i)) return std::nullopt;
    return ColumnText(i);
  }

  sqlite3_stmt* raw() const { return statement_; }

 private:
  sqlite3_stmt* statement_ = nullptr;
  int next_ = 0;
};

struct SqliteClose {
  void operator()(sqlite3* db) const { sqlite3_close_v2(db); }
};

}  // namespace keytrail

#include "collector/store/folder.h"
#include "collector/store/store_state.h"

namespace keytrail {

namespace {

constexpr const char* kReportTables[] = {"verdicts",      "inconclusive", "verdict_notes", "occurrences",
                                         "evidence",      "hosts",        "benign",        "report_losses",
                                         "clock_offsets", "translations"};

Component ComponentOf(const std::string& name) {
  return name == "tidb" ? Component::kTidb : name == "pd" ? Component::kPd : Component::kTikv;
}

// Numbers of the whole report, by their names in `about`.
struct NamedCount {
  const char* name;
  uint64_t InvestigationReport::*member;
};
constexpr NamedCount kCounts[] = {{"calls", &InvestigationReport::calls},
                                  {"unread", &InvestigationReport::unread},
                                  {"routed_requests", &InvestigationReport::routed_requests},
                                  {"statements", &InvestigationReport::statements},
                                  {"regions", &InvestigationReport::regions},
                                  {"complaints", &InvestigationReport::complaints},
                                  {"key_forms", &InvestigationReport::key_forms}};

// Writes a report row by row; ok() turns false at the first error and stays so.
class ReportWriter {
 public:
  explicit ReportWriter(sqlite3* db) : db_(db) {}
  bool ok() const { return ok_; }

  void Verdicts(const InvestigationReport& report) {
    SqlStatement row = Insert("verdicts", 14);
    SqlStatement occurrence = Insert("occurrences", 11);
    for (const Verdict& v : report.verdicts) {
      if (!ok_) return;
      row.Number(v.id).Text(ComponentName(v.component)).Text(v.certain ? "certain" : "inferred").Text(v.rule);
      row.Text(v.client).Text(v.server).Number(v.region_id).Number(v.version).Blob(AsBytes(v.key));
      row.Number(v.occurrences).Signed(v.first_ns).Signed(v.last_ns).Text(v.text).Text(v.culprit);
      Run(row);
      Notes("verdict", v.id, "weakened_by", v.weakened_by);
      Notes("verdict", v.id, "sure_of", v.sure_of);
      AllEvidence(v.id, true, v.evidence);
      uint64_t n = 0;
      for (const Occurrence& o : v.occurrence_list) {
        occurrence.Number(v.id).Number(n++).Signed(o.t_ns).Text(o.what).Number(o.call_id);
        occurrence.Number(o.region_id).Number(o.version).BlobOrNull(o.key);
        occurrence.NumberOrNull(o.statement_id != 0, o.statement_id);
        occurrence.BlobOrNull(o.range_start).BlobOrNull(o.range_end);
        Run(occurrence);
      }
    }
  }

  void Inconclusives(const InvestigationReport& report) {
    SqlStatement row = Insert("inconclusive", 11);
    uint64_t id = 0;
    for (const Inconclusive& i : report.inconclusive) {
      if (!ok_) return;
      row.Number(++id).Text(i.rule).Text(i.client).Text(i.server).Number(i.region_id).Number(i.version);
      row.Blob(AsBytes(i.key)).Number(i.occurrences).Signed(i.first_ns).Signed(i.last_ns).Text(i.text);
      Run(row);
      std::vector<std::string> suspects;
      for (Component c : i.suspects) suspects.push_back(ComponentName(c));
      Notes("inconclusive", id, "suspect", suspects);
      Notes("inconclusive", id, "missing", i.missing);
      AllEvidence(id, false, i.evidence);
    }
  }

  void Rest(const InvestigationReport& report) {
    SqlStatement host = Insert("hosts", 10);
    SqlStatement clock = Insert("clock_offsets", 13);
    SqlStatement translation = Insert("translations", 8);
    SqlStatement benign = Insert("benign", 2);
    SqlStatement loss = Insert("report_losses", 6);
    uint64_t n = 0;
    for (const HostReport& h : report.hosts) {
      if (!ok_) return;
      host.Number(n++).Text(h.host).Text(h.address).Text(h.role).Optional(h.clock_offset_ns);
      host.Optional(h.offset_error_ns).Text(h.reference);
      host.Optional(h.clock_at_ns == 0 ? std::nullopt : std::optional(h.clock_at_ns));
      Run(host.Optional(h.clock_drift_ppb).Number(h.clock_steps));
    }
    n = 0;
    for (const ClockReport& c : report.clocks) {
      if (!ok_) return;
      clock.Number(n++).Text(c.host).Text(c.reference).Text(c.relation).Text(c.via);
      clock.Optional(c.from_ns).Optional(c.to_ns).Optional(c.offset_ns).Optional(c.error_ns);
      Run(clock.Optional(c.drift_ppb).Optional(c.drift_error_ppb).Number(c.calls).Number(c.stepped ? 1 : 0));
    }
    n = 0;
    for (const TranslationReport& t : report.translations) {
      if (!ok_) return;
      translation.Number(n++).Text(t.host).Text(t.client).Text(t.client_at_server).Text(t.server);
      Run(translation.Text(t.server_at_client).Number(t.connections).Number(t.calls));
    }
    for (const auto& [name, count] : report.benign) {
      if (!ok_) return;
      Run(benign.Text(name).Number(count));
    }
    n = 0;
    for (const LossReport& l : report.losses) {
      if (!ok_) return;
      Run(loss.Number(n++).Text(l.host).Text(l.kind).Number(l.count).Signed(l.first_ns).Signed(l.last_ns));
    }
    SqlStatement about = Prepare("INSERT OR REPLACE INTO about VALUES (?, ?)");
    for (const NamedCount& count : kCounts) {
      const std::string value = std::to_string(report.*count.member);
      if (ok_) Run(about.Text(count.name).Text(value));
    }
    Notes("report", 0, "not_captured", report.not_captured);
  }

 private:
  SqlStatement Prepare(const std::string& sql) {
    Result<SqlStatement> prepared = SqlStatement::Prepare(db_, sql);
    if (!prepared) {
      ok_ = false;
      return {};
    }
    return std::move(*prepared);
  }
  SqlStatement Insert(const std::string& table, int columns) {
    std::string sql = "INSERT INTO " + table + " VALUES (?";
    for (int i = 1; i < columns; ++i) sql += ",?";
    return Prepare(sql + ")");
  }
  void Run(SqlStatement& row) {
    if (!row.Run()) ok_ = false;
  }

  void Notes(const char* owner, uint64_t id, const char* kind, const std::vector<std::string>& notes) {
    if (notes.empty()) return;
    SqlStatement row = Insert("verdict_notes", 5);
    uint64_t n = 0;
    for (const std::string& note : notes) {
      if (!ok_) return;
      Run(row.Text(owner).Number(id).Text(kind).Number(n++).Text(note));
    }
  }

  void AllEvidence(uint64_t owner, bool of_verdict, const std::vector<Evidence>& evidence) {
    SqlStatement row = Insert("evidence", 21);
    uint64_t n = 0;
    for (const Evidence& e : evidence) {
      if (!ok_) return;
      row.NumberOrNull(of_verdict, owner)
          .NumberOrNull(!of_verdict, owner)
          .Number(n++)
          .Text(e.what)
          .Text(e.label);
      row.Text(e.host).Text(e.observer).Text(e.speaker).Text(e.listener).Text(e.method).Number(e.call_id);
      row.NumberOrNull(e.statement_id != 0, e.statement_id)
          .Signed(e.t_ns)
          .Number(e.region_id)
          .Number(e.version);
      row.BlobOrNull(e.key);
      row.BlobOrNull(e.range_start);
      row.BlobOrNull(e.range_end).Text(e.note).Signed(e.ref_ns).Number(e.count);
      Run(row);
    }
  }

  sqlite3* db_;
  bool ok_ = true;
};

// Reads the rows of one SELECT; ok() as above.
class ReportReader {
 public:
  explicit ReportReader(sqlite3* db) : db_(db) {}
  bool ok() const { return ok_; }

  template <class Visit>
  void Each(const std::string& sql, const Visit& visit) {
    Result<SqlStatement> rows = SqlStatement::Prepare(db_, sql);
    ok_ = ok_ && rows.ok();
    if (!ok_) return;
    int code = 0;
    while ((code = rows->Step()) == SQLITE_ROW) visit(*rows);
    ok_ = code == SQLITE_DONE;
  }

  std::vector<std::string> Notes(const std::string& owner, uint64_t id, const std::string& kind) {
    std::vector<std::string> notes;
    Each("SELECT text FROM verdict_notes WHERE owner = '" + owner + "' AND owner_id = " + std::to_string(id) +
             " AND kind = '" + kind + "' ORDER BY n",
         [&](const SqlStatement& row) { notes.push_back(row.ColumnText(0)); });
    return notes;
  }

  std::vector<Evidence> AllEvidence(const std::string& owner_column, uint64_t id) {
    std::vector<Evidence> all;
    Each(
        "SELECT what, label, host, observer, speaker, listener, method, call_id, statement_id, t_ns, "
        "region_id,"
        " version, key, range_start, range_end, note, ref_ns, count FROM evidence WHERE " +
            owner_column + " = " + std::to_string(id) + " ORDER BY n",
        [&](const SqlStatement& row) {
          Evidence& e = all.emplace_back();
          int i = 0;
          for (std::string* text :
               {&e.what, &e.label, &e.host, &e.observer, &e.speaker, &e.listener, &e.method}) {
            *text = row.ColumnText(i++);
          }
          e.call_id = row.ColumnNumber(i++);
          e.statement_id = row.ColumnNumber(i++);
          e.t_ns = row.ColumnSigned(i++);
          e.region_id = row.ColumnNumber(i++);
          e.version = row.ColumnNumber(i++);
          e.key = row.ColumnOptionalBytes(i++);
          e.range_start = row.ColumnOptionalBytes(i++);
          e.range_end = row.ColumnOptionalBytes(i++);
          e.note = row.ColumnText(i++);
          e.ref_ns = row.ColumnSigned(i++);
          e.count = row.ColumnNumber(i++);
        });
    return all;
  }

 private:
  sqlite3* db_;
  bool ok_ = true;
};

void ReadVerdicts(ReportReader& in, InvestigationReport& report) {
  in.Each(
      "SELECT id, component, confidence, rule, client, server, region_id, version, key, occurrences, "
      "first_ns,"
      " last_ns, text, culprit FROM verdicts ORDER BY id",
      [&](const SqlStatement& row) {
        Verdict& v = report.verdicts.emplace_back();
        v.id = row.ColumnNumber(0);
        v.component = ComponentOf(row.ColumnText(1));
        v.certain = row.ColumnText(2) == "certain";
        v.rule = row.ColumnText(3);
        v.client = row.ColumnText(4);
        v.server = row.ColumnText(5);
        v.region_id = row.ColumnNumber(6);
        v.version = row.ColumnNumber(7);
        v.key = row.ColumnText(8);
        v.occurrences = row.ColumnNumber(9);
        v.first_ns = row.ColumnSigned(10);
        v.last_ns = row.ColumnSigned(11);
        v.text = row.ColumnText(12);
        v.culprit = row.ColumnText(13);
      });
  for (Verdict& v : report.verdicts) {
    v.weakened_by = in.Notes("verdict", v.id, "weakened_by");
    v.sure_of = in.Notes("verdict", v.id, "sure_of");
    v.evidence = in.AllEvidence("verdict_id", v.id);
    in.Each(
        "SELECT t_ns, what, call_id, region_id, version, key, statement_id, range_start, range_end"
        " FROM occurrences WHERE verdict_id = " +
            std::to_string(v.id) + " ORDER BY n",
        [&](const SqlStatement& row) {
          Occurrence& o = v.occurrence_list.emplace_back();
          o.t_ns = row.ColumnSigned(0);
          o.what = row.ColumnText(1);
          o.call_id = row.ColumnNumber(2);
          o.region_id = row.ColumnNumber(3);
          o.version = row.ColumnNumber(4);
          o.key = row.ColumnOptionalBytes(5);
          o.statement_id = row.ColumnNumber(6);
          o.range_start = row.ColumnOptionalBytes(7);
          o.range_end = row.ColumnOptionalBytes(8);
        });
  }
}

void ReadInconclusive(ReportReader& in, InvestigationReport& report) {
  std::vector<uint64_t> ids;
  in.Each(
      "SELECT id, rule, client, server, region_id, version, key, occurrences, first_ns, last_ns, text"
      " FROM inconclusive ORDER BY id",
      [&](const SqlStatement& row) {
        Inconclusive& i = report.inconclusive.emplace_back();
        ids.push_back(row.ColumnNumber(0));
        i.rule = row.ColumnText(1);
        i.client = row.ColumnText(2);
        i.server = row.ColumnText(3);
        i.region_id = row.ColumnNumber(4);
        i.version = row.ColumnNumber(5);
        i.key = row.ColumnText(6);
        i.occurrences = row.ColumnNumber(7);
        i.first_ns = row.ColumnSigned(8);
        i.last_ns = row.ColumnSigned(9);
        i.text = row.ColumnText(10);
      });
  for (size_t k = 0; k < ids.size(); ++k) {
    Inconclusive& i = report.inconclusive[k];
    for (const std::string& name : in.Notes("inconclusive", ids[k], "suspect")) {
      i.suspects.push_back(ComponentOf(name));
    }
    i.missing = in.Notes("inconclusive", ids[k], "missing");
    i.evidence = in.AllEvidence("inconclusive_id", ids[k]);
  }
}

void ReadRest(ReportReader& in, InvestigationReport& report) {
  const auto number_or_none = [](const SqlStatement& row, int i) -> std::optional<int64_t> {
    if (row.ColumnIsNull(i)) return std::nullopt;
    return row.ColumnSigned(i);
  };
  in.Each(
      "SELECT host, address, role, clock_offset_ns, offset_error_ns, reference, clock_at_ns, clock_drift_ppb,"
      " clock_steps FROM hosts ORDER BY n",
      [&](const SqlStatement& row) {
        report.hosts.push_back({row.ColumnText(0), row.ColumnText(1), row.ColumnText(2),
                                number_or_none(row, 3), number_or_none(row, 4), row.ColumnText(5),
                                row.ColumnSigned(6), number_or_none(row, 7), row.ColumnNumber(8)});
      });
  in.Each(
      "SELECT host, reference, relation, via, from_ns, to_ns, offset_ns, error_ns, drift_ppb, "
      "drift_error_ppb,"
      " calls, stepped FROM clock_offsets ORDER BY n",
      [&](const SqlStatement& row) {
        report.clocks.push_back({row.ColumnText(0), row.ColumnText(1), row.ColumnText(2), row.ColumnText(3),
                                 number_or_none(row, 4), number_or_none(row, 5), number_or_none(row, 6),
                                 number_or_none(row, 7), number_or_none(row, 8), number_or_none(row, 9),
                                 row.ColumnNumber(10), row.ColumnNumber(11) != 0});
      });
  in.Each(
      "SELECT host, client, client_at_server, server, server_at_client, connections, calls FROM translations"
      " ORDER BY n",
      [&](const SqlStatement& row) {
        report.translations.push_back({row.ColumnText(0), row.ColumnText(1), row.ColumnText(2),
                                       row.ColumnText(3), row.ColumnText(4), row.ColumnNumber(5),
                                       row.ColumnNumber(6)});
      });
  in.Each("SELECT name, count FROM benign",
          [&](const SqlStatement& row) { report.benign[row.ColumnText(0)] = row.ColumnNumber(1); });
  in.Each("SELECT host, kind, count, first_ns, last_ns FROM report_losses ORDER BY n",
          [&](const SqlStatement& row) {
            report.losses.push_back({row.ColumnText(0), row.ColumnText(1), row.ColumnNumber(2),
                                     row.ColumnSigned(3), row.ColumnSigned(4)});
          });
  in.Each("SELECT name, CAST(value AS INTEGER) FROM about", [&](const SqlStatement& row) {
    for (const NamedCount& count : kCounts) {
      if (row.ColumnText(0) == count.name) report.*count.member = row.ColumnNumber(1);
    }
  });
  report.not_captured = in.Notes("report", 0, "not_captured");
}

}  // namespace

Status Store::WriteReport(const InvestigationReport& report) {
  State& s = *state_;
  sqlite3* db = s.folder != nullptr ? s.folder->catalogue() : s.db.get();
  const auto failed = [&]() -> Error {
    return s.folder != nullptr ? s.folder->Failed("cannot write the report")
                               : s.Failed("cannot write the report");
  };
  const auto run = [&](const char* sql) {
    return sqlite3_exec(db, sql, nullptr, nullptr, nullptr) == SQLITE_OK;
  };
  if (!run("BEGIN IMMEDIATE")) return failed();
  ReportWriter writer(db);
  std::string clear;
  for (const char* table : kReportTables) clear += std::string("DELETE FROM ") + table + ";";
  Status status = Done{};
  if (run(clear.c_str())) {
    writer.Verdicts(report);
    writer.Inconclusives(report);
    writer.Rest(report);
    if (writer.ok() && run("COMMIT")) return status;
  }
  status = failed();
  (void)run("ROLLBACK");
  s.seen_data_version = -1;
  return status;
}

Result<InvestigationReport> Store::ReadReport() {
  const Result<State*> from = state_->Reader();
  if (!from) return Error{from.error()};
  State& s = **from;
  // One transaction, so that all of it is of one report while a collector writes the next.
  const Status begun = s.windows != nullptr ? s.BeginReading() : s.Execute("BEGIN");
  if (!begun.ok()) return Error{begun.error()};
  InvestigationReport report;
  ReportReader reader(s.db.get());
  ReadVerdicts(reader, report);
  ReadInconclusive(reader, report);
  ReadRest(reader, report);
  const bool good = reader.ok();
  Error error = good ? Error{} : s.Failed("cannot read the report");
  sqlite3_exec(s.db.get(), "COMMIT", nullptr, nullptr, nullptr);
  if (!good) return error;
  return report;
}

}  // namespace keytrail

// Lines from a terminal, with editing, history and completion. The only includer of libedit.
//
// One thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace keytrail {

class LineEditor {
 public:
  // What may stand for the word that ends at the cursor; `before` is the line up to it.
  using Complete = std::function<std::vector<std::string>(const std::string& before)>;

  // `history_file`: empty: no history is kept beyond the program. It is made readable for its owner alone.
  LineEditor(const std::string& history_file, Complete complete);
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  enum class Read : uint8_t { kLine, kInterrupted, kEnd };
  // A line without its end.
  Read ReadLine(const std::string& prompt, std::string& line);
  // A whole statement, several lines as one.
  void Remember(const std::string& statement);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// $XDG_STATE_HOME/keytrail/sql_history or ~/.local/state/keytrail/sql_history; makes the folder. Empty: there
// is no home.
std::string HistoryFile();

}  // namespace keytrail

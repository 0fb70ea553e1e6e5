#include "common/redact_marks.h"

#include <cstddef>

namespace keytrail {

namespace {

// UTF-8, as in TiDB's logs. They differ in the last byte.
constexpr std::string_view kOpenMark = "\xE2\x80\xB9";
constexpr std::string_view kCloseMark = "\xE2\x80\xBA";
constexpr std::string_view kCommonBytes = kOpenMark.substr(0, 2);

size_t FindMark(std::string_view text, size_t from) {
  for (size_t at = from; (at = text.find(kCommonBytes, at)) != text.npos; ++at) {
    const std::string_view here = text.substr(at, kOpenMark.size());
    if (here == kOpenMark || here == kCloseMark) return at;
  }
  return text.npos;
}

}  // namespace

bool HasMark(std::string_view text) {
  return FindMark(text, 0) != text.npos;
}

void AppendMarked(std::string_view text, std::string& out) {
  out += kOpenMark;
  size_t from = 0;
  for (size_t at; (at = FindMark(text, from)) != text.npos; from = at + kOpenMark.size()) {
    out += text.substr(from, at - from);
    out += text.substr(at, kOpenMark.size());
    out += text.substr(at, kOpenMark.size());
  }
  out += text.substr(from);
  out += kCloseMark;
}

void AppendMarkedLines(std::string_view text, std::string& out) {
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    if (!line.empty()) AppendMarked(line, out);
    if (end == text.npos) return;
    out += '\n';
    text.remove_prefix(end + 1);
  }
}

void MarkStripper::Inside(std::string_view bytes, std::string& out) {
  if (leave_ == Leave::kText) out += bytes;
}

void MarkStripper::Close(std::string& out) {
  inside_ = false;
  if (leave_ == Leave::kPlaceholder) out += '?';
}

void MarkStripper::Take(Rune rune, std::string_view bytes, std::string& out) {
  if (half_ != Rune::kOther) {
    const Rune half = half_;
    half_ = Rune::kOther;
    if (rune == half) return Inside(bytes, out);
    if (half == Rune::kOpen) {
      Inside(kOpenMark, out);
    } else {
      Close(out);
    }
  }
  if (!inside_ && rune == Rune::kOpen) {
    inside_ = true;
  } else if (!inside_) {
    out += bytes;
  } else if (rune == Rune::kOther) {
    Inside(bytes, out);
  } else {
    half_ = rune;
  }
}

void MarkStripper::Feed(std::string_view piece, std::string& out) {
  std::string joined;
  if (!pending_.empty()) {
    joined = pending_;
    joined += piece;
    piece = joined;
    pending_.clear();
  }
  while (!piece.empty()) {
    const size_t mark = FindMark(piece, 0);
    if (mark == 0) {
      const std::string_view bytes = piece.substr(0, kOpenMark.size());
      Take(bytes == kOpenMark ? Rune::kOpen : Rune::kClose, bytes, out);
      piece.remove_prefix(bytes.size());
      continue;
    }
    size_t plain = mark == piece.npos ? piece.size() : mark;
    // The last one or two bytes may be the beginning of a mark.
    if (mark == piece.npos) {
      if (piece.ends_with(kCommonBytes)) {
        plain -= 2;
      } else if (piece.back() == kCommonBytes.front()) {
        plain -= 1;
      }
      pending_.assign(piece.begin() + static_cast<std::ptrdiff_t>(plain), piece.end());
    }
    if (plain != 0) Take(Rune::kOther, piece.substr(0, plain), out);
    piece.remove_prefix(plain + pending_.size());
  }
}

bool MarkStripper::Finish(std::string& out) {
  if (!pending_.empty()) Take(Rune::kOther, pending_, out);
  pending_.clear();
  if (half_ == Rune::kClose) Close(out);
  if (half_ == Rune::kOpen) Inside(kOpenMark, out);
  half_ = Rune::kOther;
  if (inside_ && leave_ == Leave::kPlaceholder) out += '?';
  return !inside_;
}

}  // namespace keytrail

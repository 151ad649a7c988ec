#include "ir/text_scanner.h"

#include <algorithm>

#include "support/cat.h"
#include "support/error.h"

namespace fulmen {
namespace {

bool is_word_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_word(char c) { return is_word_start(c) || is_digit(c); }
bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\f'; }

int hex_value(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::string_view trimmed(std::string_view s) {
  while (!s.empty() && is_space(s.front())) s.remove_prefix(1);
  while (!s.empty() && is_space(s.back())) s.remove_suffix(1);
  return s;
}

void TextScanner::fail_at(size_t position, std::string_view what) const {
  position = std::min(position, text_.size());
  const int64_t line = 1 + std::count(text_.begin(), text_.begin() + position, '\n');
  size_t begin = position == 0 ? std::string_view::npos : text_.rfind('\n', position - 1);
  begin = begin == std::string_view::npos ? 0 : begin + 1;
  const size_t end = std::min(text_.find('\n', begin), text_.size());
  throw UserError(
      ErrorKind::kValue, "trace-syntax",
      cat("trace, line ", line, ": ", what, "\n  ", trimmed(text_.substr(begin, end - begin))));
}

char TextScanner::peek() {
  while (pos_ < text_.size()) {
    const char c = text_[pos_];
    if (is_space(c) || (depth_ > 0 && c == '\n')) {
      ++pos_;
    } else if (c == '\\' && pos_ + 1 < text_.size() && text_[pos_ + 1] == '\n') {
      pos_ += 2;
    } else {
      return c == '\n' ? '\0' : c;
    }
  }
  return '\0';
}

bool TextScanner::take(char c) {
  if (peek() != c || at_end()) return false;
  ++pos_;
  return true;
}

bool TextScanner::take_text(std::string_view t) {
  peek();
  if (!text_.substr(pos_).starts_with(t)) return false;
  pos_ += t.size();
  return true;
}

bool TextScanner::take_word(std::string_view word) {
  peek();
  if (!text_.substr(pos_).starts_with(word)) return false;
  if (is_word(peek_at(word.size()))) return false;
  pos_ += word.size();
  return true;
}

void TextScanner::expect(char c) {
  if (!take(c)) fail(cat("expected ", c));
}

bool TextScanner::take_close(char c) {
  if (!take(c)) {
    if (at_end()) fail(cat("expected ", c));
    return false;
  }
  --depth_;
  return true;
}

void TextScanner::skip_lines() {
  while (pos_ < text_.size() && (is_space(text_[pos_]) || text_[pos_] == '\n')) ++pos_;
}

std::string_view TextScanner::try_identifier() {
  peek();
  const size_t start = pos_;
  if (pos_ < text_.size() && is_word_start(text_[pos_])) {
    while (pos_ < text_.size() && is_word(text_[pos_])) ++pos_;
  }
  return text_.substr(start, pos_ - start);
}

std::string_view TextScanner::identifier() {
  const std::string_view s = try_identifier();
  if (s.empty()) fail("expected a name");
  return s;
}

std::string_view TextScanner::try_path() {
  const std::string_view first = try_identifier();
  if (first.empty()) return first;
  const size_t start = pos_ - first.size();
  while (peek_at(0) == '.' && is_word_start(peek_at(1))) {
    ++pos_;
    while (pos_ < text_.size() && is_word(text_[pos_])) ++pos_;
  }
  return text_.substr(start, pos_ - start);
}

std::string_view TextScanner::path() {
  const std::string_view s = try_path();
  if (s.empty()) fail("expected a name");
  return s;
}

std::string_view TextScanner::bare_word() {
  peek();
  const size_t start = pos_;
  while (pos_ < text_.size() && !is_space(text_[pos_]) && text_[pos_] != ',' &&
         text_[pos_] != '\n') {
    ++pos_;
  }
  return text_.substr(start, pos_ - start);
}

bool TextScanner::number_follows_sign() const { return is_digit(peek_at(1)) || peek_at(1) == '.'; }

std::string_view TextScanner::number() {
  peek();
  const size_t start = pos_;
  while (pos_ < text_.size()) {
    const char c = text_[pos_];
    const bool sign = c == '-' || c == '+';
    const char before = pos_ > start ? text_[pos_ - 1] : 'e';
    if (sign ? (before != 'e' && before != 'E') : !(is_word(c) || c == '.')) break;
    ++pos_;
  }
  return text_.substr(start, pos_ - start);
}

std::string TextScanner::string_literal() {
  const char quote = peek();
  const size_t start = pos_++;
  std::string s;
  for (;;) {
    const char c = peek_at(0);
    if (at_end() || c == '\n') fail_at(start, "the string does not end");
    ++pos_;
    if (c == quote) return s;
    if (c != '\\') {
      s += c;
      continue;
    }
    const char e = peek_at(0);
    ++pos_;
    switch (e) {
      case 'n': s += '\n'; break;
      case 't': s += '\t'; break;
      case 'r': s += '\r'; break;
      case '0': s += '\0'; break;
      case '\\':
      case '\'':
      case '"': s += e; break;
      case 'x': {
        const int high = hex_value(peek_at(0)), low = hex_value(peek_at(1));
        if (high < 0 || low < 0) fail_at(start, "malformed \\x in a string");
        pos_ += 2;
        const int code = 16 * high + low;
        if (code < 0x80) {
          s += static_cast<char>(code);
        } else {  // a code point, as in Python
          s += static_cast<char>(0xc0 | (code >> 6));
          s += static_cast<char>(0x80 | (code & 0x3f));
        }
        break;
      }
      default: fail_at(start, "unknown escape in a string");
    }
  }
}

std::string_view TextScanner::line_rest() const {
  const size_t begin = std::min(pos_, text_.size());
  return text_.substr(begin, std::min(text_.find('\n', begin), text_.size()) - begin);
}

std::string_view TextScanner::rest_of_line_raw() {
  const std::string_view rest = line_rest();
  pos_ += rest.size();
  return rest;
}

std::string_view TextScanner::rest_of_line() { return trimmed(rest_of_line_raw()); }

}  // namespace fulmen

#pragma once

#include <string>
#include <string_view>

namespace fulmen {

std::string_view trimmed(std::string_view s);

// The lexical level of trace text: words, numbers and strings, line by line. A line break ends a
// statement except within brackets, which the caller marks with enter() and take_close().
class TextScanner {
 public:
  explicit TextScanner(std::string_view text) : text_(text) {}

  // Throws UserError "trace-syntax" with the number and the text of the line.
  [[noreturn]] void fail(std::string_view what) const { fail_at(pos_, what); }
  [[noreturn]] void fail_at(size_t position, std::string_view what) const;

  size_t position() const { return pos_; }
  void seek(size_t position) { pos_ = position; }
  bool at_end() { return pos_ >= text_.size(); }

  // The next character after spaces; '\0' at the end of the line.
  char peek();
  // The character `n` after the one that peek() gives.
  char peek_at(size_t n) const { return pos_ + n < text_.size() ? text_[pos_ + n] : '\0'; }
  bool take(char c);
  bool take_text(std::string_view t);
  // A word with no identifier character after it.
  bool take_word(std::string_view word);
  void expect(char c);
  void enter() { ++depth_; }
  bool take_close(char c);
  void skip_lines();

  std::string_view identifier();
  std::string_view try_identifier();  // empty if there is none
  std::string_view path();            // torch.nn.functional.relu
  std::string_view try_path();
  // Up to a space, a comma or the end of the line: `cuda:0`.
  std::string_view bare_word();
  std::string_view number();
  bool number_follows_sign() const;
  std::string string_literal();

  // What is left of the line, not consumed.
  std::string_view line_rest() const;
  // Consumes what is left of the line; trimmed.
  std::string_view rest_of_line();
  std::string_view rest_of_line_raw();

 private:
  std::string_view text_;
  size_t pos_ = 0;
  int depth_ = 0;
};

}  // namespace fulmen

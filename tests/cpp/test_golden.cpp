// Runs tests/golden/*.case: `title:`, `passes:`, the input trace, `expected:`, and the trace that
// the passes make of it (with the notes of what they left), cases separated by `====`.
// FULMEN_BLESS=1 writes what came out into the files.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "ir/parser.h"
#include "ir/printer.h"
#include "ops/registry.h"
#include "passes/pipeline.h"
#include "support/cat.h"
#include "support/flags.h"

namespace fulmen {
namespace {

const passes::Pass& pass_named(const std::string& name) {
  for (const auto& pass : passes::pipeline()) {
    if (pass.name == name) return pass;
  }
  REQUIRE(passes::last_pass().name == name);
  return passes::last_pass();
}

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<std::string> split(const std::string& text, const std::string& by) {
  std::vector<std::string> parts;
  size_t at = 0;
  for (size_t end; (end = text.find(by, at)) != std::string::npos; at = end + by.size()) {
    parts.push_back(text.substr(at, end - at));
  }
  parts.push_back(text.substr(at));
  return parts;
}

// The text after `key:` up to the end of the line.
std::string field(const std::string& text, const std::string& key) {
  const size_t at = text.find(key + ": ");
  REQUIRE(at != std::string::npos);
  const size_t start = at + key.size() + 2;
  return text.substr(start, text.find('\n', start) - start);
}

std::string run_case(const std::string& passes, const std::string& input) {
  Trace trace = parse_trace(input, registry_resolver());
  passes::PassContext ctx;
  ctx.options.paranoid = true;
  std::istringstream names(passes);
  for (std::string name; names >> name;) {
    trace = passes::run_pass(pass_named(name), trace, ctx);
  }
  trace.provenance.clear();
  std::string out = to_python(trace);
  for (const auto& note : ctx.notes) append(out, cat("# ", note.pass, ": ", note.text, "\n"));
  return out;
}

TEST_CASE("golden traces") {
  const bool bless = flag_bool(Flag::kBless);
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(FULMEN_GOLDEN_DIR)) {
    if (entry.path().extension() == ".case") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  CHECK(!files.empty());
  for (const auto& path : files) {
    std::string blessed;
    for (const std::string& text : split(read(path), "====\n")) {
      const std::string title = field(text, "title"), passes = field(text, "passes");
      CAPTURE(title);
      const auto parts = split(text, "expected:\n");
      REQUIRE(parts.size() == 2);
      const std::string head = parts[0];
      const size_t at = head.find('\n', head.find("passes: ")) + 1;
      std::string got;
      try {
        got = run_case(passes, head.substr(at));
      } catch (const std::exception& e) {
        got = cat("error: ", e.what(), "\n");
      }
      if (!bless) CHECK(got == parts[1]);
      blessed += cat(blessed.empty() ? "" : "====\n", head, "expected:\n", got);
    }
    if (bless) std::ofstream(path) << blessed;
  }
}

}  // namespace
}  // namespace fulmen

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ir/arg.h"
#include "support/arena.h"
#include "support/small_vec.h"

namespace fulmen {

enum class ParamKind : uint8_t {
  kTensor,
  kScalar,
  kTensorOrScalar,
  kInt,
  kFloat,
  kBool,
  kString,
  kDType,
  kDevice,
  kLayout,
  kMemoryFormat,
  kAny,
};

struct Param {
  std::string name;
  ParamKind kind = ParamKind::kAny;
  bool optional = false;     // `?`: None is accepted
  bool list = false;         // `[]`
  bool list_or_one = false;  // `[n]`: one element stands for a list; kept as given
  bool varargs = false;      // `[]*`: also accepts the elements as separate positional arguments
  bool keyword_only = false;
  bool mutated = false;  // `!`
  std::optional<Arg> default_value;
};

using Args = SmallVec<Arg, 8>;
struct Kwarg {
  std::string_view name;
  Arg value;
};
using Kwargs = SmallVec<Kwarg, 4>;

// The signature of a symbol, parsed from text like
// `sum.dim(Tensor input, int[1]? dim, bool keepdim=False, *, dtype? dtype=None) -> Tensor`.
// Types: Tensor Scalar Tensor|Scalar int float bool str dtype device layout memory_format any;
// suffixes: `[]` list, `[n]` list or one, `[]*` list or separate arguments, `?` optional,
// `!` (after Tensor) mutated. Defaults are Python literals. `any` also takes what no type names.
struct Schema {
  std::string name;  // with the overload: "sum.dim"
  std::vector<Param> params;
  bool variadic = false;  // opaque symbols: args = (tuple of positional, dict of keyword)

  int index(std::string_view param) const;  // -1 if there is none
};

// Throws InternalError for a malformed text. Default values are copied into `arena`.
Schema parse_schema(std::string_view text, Arena& arena);

// Binds a call to the schema: `out` gets one Arg per parameter, defaults filled in. Returns false,
// with the reason in `why` if given, when the call does not fit.
bool try_bind(const Schema& schema, std::span<const Arg> args, const Kwargs& kwargs, Arena& arena,
              Args& out, std::string* why = nullptr);

}  // namespace fulmen

#pragma once

#include <nanobind/nanobind.h>

#include <string>
#include <vector>

#include "exec/compilation.h"
#include "ir/trace.h"

namespace fulmen::bindings {

// Executors and operators that are written in Python: `face` is the object of fulmen.extend that
// decides. Faces live as long as the process, as the programs that are compiled for them may.

// face._refusal(bsym, under_autograd) -> str
// face._rewrite(recorder, bsym) -> the output of what it recorded
// face._own_gradient(recorder, bsym) -> None, or (output, [(result, its gradient)], [(argument, its
//   gradient)])
exec::ExecutorPtr make_operator_executor(const std::string& name, nanobind::object face);
// Makes the executor be asked about a symbol.
void add_symbol(const exec::Executor& executor, const Symbol& symbol);

// face._refusal(bsym) -> str, face._fuse(region: Trace) -> callable
exec::ExecutorPtr make_fusion_executor(const std::string& name, nanobind::object face,
                                       size_t smallest);

// face._meta(recorder, args) -> the results; face._decompose(recorder, args) -> the output;
// face.has_decomposition; face.implementation; face.make() -> what one use calls, or None
const Symbol& define_operator(const std::string& schema, const std::string& executor,
                              const std::vector<std::string>& tags, nanobind::object face);

// The trace as one call of a Python callable.
Trace program_of_python(const Trace& trace, nanobind::callable callable);

}  // namespace fulmen::bindings

#pragma once

#include <memory>

#include "exec/compilation.h"

namespace fulmen::bindings {

struct PyExecutor {
  exec::ExecutorPtr executor;
};

struct PyCompilation {
  std::shared_ptr<const exec::Compilation> compilation;
};

}  // namespace fulmen::bindings

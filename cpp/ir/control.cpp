#include "ir/control.h"

#include "ir/arg.h"

namespace fulmen {

constinit const Symbol del_last_used{
    .schema = "del_last_used(any[] values) -> None",
    .meta = [](Call&) -> Arg { return {}; },
    .aten = "-",
};

}  // namespace fulmen

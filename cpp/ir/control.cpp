#include "ir/control.h"

#include "ir/arg.h"

namespace fulmen {

constinit const Symbol del_last_used{
    .schema = "del_(any[] values) -> None",
    .meta = [](Call&) -> Arg { return {}; },
    .aten = "-",
};

}  // namespace fulmen

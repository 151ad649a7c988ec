#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// One name per row of recurrent.cpp.
#define FULMEN_RECURRENT_OPS(X) X(lstm_cell) X(gru_cell) X(rnn_tanh_cell) X(rnn_relu_cell)

#define X(name) extern const Symbol name;
FULMEN_RECURRENT_OPS(X)
#undef X

}  // namespace fulmen::ops

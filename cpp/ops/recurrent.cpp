#include "ops/recurrent.h"

#include "ops/activation.h"
#include "ops/arith.h"
#include "ops/families.h"
#include "ops/matmul.h"
#include "ops/shape.h"

// Cells of recurrent networks, in the steps in which ATen computes them.
namespace fulmen::ops {
namespace {

// What eager refuses would broadcast.
void check_state(Call& in, const Arg& state) {
  const TensorType &x = in.type("input"), &h = state.tensor()->type;
  const Dims& weight = in.type("w_hh").shape;
  const bool fits = x.ndim() == 2 && h.ndim() == 2 && weight.size() == 2 &&
                    h.shape[0] == x.shape[0] && h.shape[1] == weight[1];
  if (!fits) in.unsupported("a state that does not fit the input");
}

Arg gates_of_input(Call& in) { return linear(in["input"], in["w_ih"], in["b_ih"]); }
Arg gates_of_state(Call& in, const Arg& state) {
  check_state(in, state);
  return linear(state, in["w_hh"], in["b_hh"]);
}

Arg lstm_steps(Call& in) {
  const auto state = in["hx"].items();
  if (state.size() != 2) in.unsupported("other than two states");
  check_state(in, state[1]);
  const Arg gates = chunk(gates_of_state(in, state[0]) + gates_of_input(in), 4, 1);
  const auto gate = [&](size_t i) { return gates.items()[i]; };
  const Arg input = sigmoid(gate(0)), forget = sigmoid(gate(1)), cell = tanh(gate(2));
  const Arg output = sigmoid(gate(3));
  const Arg now = forget * state[1] + input * cell;
  return in.tuple({output * tanh(now), now});
}

Arg gru_steps(Call& in) {
  const Arg state = in["hx"];
  const Arg inputs = chunk(gates_of_input(in), 3, 1),
            states = chunk(gates_of_state(in, state), 3, 1);
  const Arg reset = sigmoid(states.items()[0] + inputs.items()[0]);
  const Arg update = sigmoid(states.items()[1] + inputs.items()[1]);
  const Arg now = tanh(inputs.items()[2] + states.items()[2] * reset);
  return (state - now) * update + now;
}

Arg rnn_steps(Call& in) { return gates_of_state(in, in["hx"]) + gates_of_input(in); }
Arg rnn_tanh_steps(Call& in) { return tanh(rnn_steps(in)); }
Arg rnn_relu_steps(Call& in) { return relu(rnn_steps(in)); }

}  // namespace

constinit const Symbol lstm_cell{
    .schema =
        "lstm_cell(Tensor input, Tensor[] hx, Tensor w_ih, Tensor w_hh, Tensor? b_ih=None, "
        "Tensor? b_hh=None) -> (Tensor, Tensor)",
    .torch = "torch.lstm_cell",
    .tags = kPure | kMatmul,
    .decompose = lstm_steps,
    .augmented = lstm_steps,
};
constinit const Symbol gru_cell{
    .schema =
        "gru_cell(Tensor input, Tensor hx, Tensor w_ih, Tensor w_hh, Tensor? b_ih=None, "
        "Tensor? b_hh=None) -> Tensor",
    .torch = "torch.gru_cell",
    .tags = kPure | kMatmul,
    .decompose = gru_steps,
    .augmented = gru_steps,
};
constinit const Symbol rnn_tanh_cell{
    .schema =
        "rnn_tanh_cell(Tensor input, Tensor hx, Tensor w_ih, Tensor w_hh, Tensor? b_ih=None, "
        "Tensor? b_hh=None) -> Tensor",
    .torch = "torch.rnn_tanh_cell",
    .tags = kPure | kMatmul,
    .decompose = rnn_tanh_steps,
    .augmented = rnn_tanh_steps,
};
constinit const Symbol rnn_relu_cell{
    .schema =
        "rnn_relu_cell(Tensor input, Tensor hx, Tensor w_ih, Tensor w_hh, Tensor? b_ih=None, "
        "Tensor? b_hh=None) -> Tensor",
    .torch = "torch.rnn_relu_cell",
    .tags = kPure | kMatmul,
    .decompose = rnn_relu_steps,
    .augmented = rnn_relu_steps,
};

std::span<const Symbol* const> recurrent_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_RECURRENT_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops

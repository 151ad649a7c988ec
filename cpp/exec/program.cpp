#include "exec/program.h"

#include <cstring>
#include <unordered_map>

#include "ir/control.h"
#include "support/error.h"

namespace fulmen::exec {

std::shared_ptr<const Program> Program::build(const Trace& trace,
                                              std::shared_ptr<const Compilation> compilation,
                                              const SlotOps& ops) {
  std::shared_ptr<Program> program(new Program);
  program->trace_ = trace;
  program->ops_ = ops;
  program->num_inputs_ = trace.inputs.size();
  program->makes_regions_ = !compilation->fusions().empty();
  std::unordered_map<const Proxy*, uint32_t> slots;
  slots.reserve(trace.inputs.size() + trace.body.size());
  for (const Proxy* p : trace.inputs) slots.emplace(p, slots.size());
  const SlotOf slot_of = [&](const Proxy* p) {
    return slots.emplace(p, static_cast<uint32_t>(slots.size())).first->second;
  };
  program->kernels_.reserve(trace.body.size());
  for (const BoundSymbol* bsym : trace.body) {
    if (bsym->symbol == &del_last_used) {
      if (program->kernels_.empty()) continue;  // inputs belong to the caller
      Instruction& last = program->kernels_.back();
      if (last.num_frees == 0) last.first_free = static_cast<uint32_t>(program->frees_.size());
      for (const Arg& a : bsym->args) {
        for_each_proxy(a, [&](const Proxy* p) {
          program->frees_.push_back(slot_of(p));
          ++last.num_frees;
        });
      }
      continue;
    }
    const Executor* executor = compilation->find(bsym->executor);
    if (!executor) internal_error("unclaimed bound symbol ", bsym->symbol->name());
    program->kernels_.push_back({executor->compile(*bsym, slot_of, compilation), bsym, 0, 0});
  }
  for_each_proxy(trace.output,
                 [&](const Proxy* p) { program->output_slots_.push_back(slot_of(p)); });
  program->num_slots_ = slots.size();
  program->compilation_ = std::move(compilation);
  return program;
}

Program::~Program() = default;

Slot* Program::acquire_frame() const {
  {
    const std::lock_guard lock(mutex_);
    if (!frames_.empty()) {
      Slot* frame = frames_.back().release();
      frames_.pop_back();
      return frame;
    }
  }
  auto frame = std::make_unique<Slot[]>(num_slots_ + 1);
  std::memset(frame.get(), 0, num_slots_ * sizeof(Slot));
  return frame.release();
}

void Program::release_frame(Slot* frame) const {
  for (size_t i = 0; i < num_slots_; ++i) ops_.destroy(&frame[i]);
  const std::lock_guard lock(mutex_);
  frames_.emplace_back(frame);
}

void Program::run(Slot* frame, const BoundSymbol** failed_at) const {
  const Instruction* at = kernels_.data();
  const Instruction* const end = at + kernels_.size();
  try {
    for (; at != end; ++at) {
      at->kernel->run(frame);
      for (uint32_t i = 0; i < at->num_frees; ++i) ops_.destroy(&frame[frees_[at->first_free + i]]);
    }
  } catch (...) {
    *failed_at = at->bsym;
    throw;
  }
}

}  // namespace fulmen::exec

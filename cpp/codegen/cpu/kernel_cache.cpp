#include "codegen/cpu/kernel_cache.h"

#include <chrono>
#include <cstdio>
#include <mutex>
#include <unordered_map>

#include "codegen/cpu/kernel_emitter.h"
#include "codegen/cpu/loader.h"
#include "support/cat.h"
#include "support/error.h"
#include "support/flags.h"

namespace fulmen::codegen::cpu {
namespace {

// As LLVM numbers them.
constexpr int kOptimizeDefault = 2;
constexpr int kPositionIndependent = 2;
constexpr int kSmallCode = 3;
constexpr int kAssembly = 0;
constexpr int kObject = 1;

constexpr const char* kTriple = "x86_64-unknown-linux-gnu";

// One machine a thread and instruction set: they are costly to make, and not thread-safe.
TargetMachineRef target_machine(const LlvmApi& api, const Isa& isa) {
  struct Machine {
    TargetMachineRef ref = nullptr;
    const LlvmApi* api = nullptr;
    ~Machine() {
      if (ref) api->DisposeTargetMachine(ref);
    }
  };
  thread_local Machine machines[3];
  Machine& m = machines[static_cast<int>(isa.level)];
  if (!m.ref) {
    TargetRef target = nullptr;
    char* message = nullptr;
    if (api.GetTargetFromTriple(kTriple, &target, &message)) {
      const std::string why = message;
      api.DisposeMessage(message);
      internal_error("LLVM: ", why);
    }
    m.api = &api;
    m.ref = api.CreateTargetMachine(target, kTriple, isa.cpu.c_str(), "", kOptimizeDefault,
                                    kPositionIndependent, kSmallCode);
  }
  return m.ref;
}

class EmittedBuffer {
 public:
  EmittedBuffer(const LlvmApi& api, TargetMachineRef machine, ModuleRef module, int kind)
      : api_(api) {
    char* message = nullptr;
    if (!api.TargetMachineEmitToMemoryBuffer(machine, module, kind, &message, &buffer_)) return;
    problem_ = message ? message : "code generation failed";
    api.DisposeMessage(message);
    buffer_ = nullptr;
  }
  ~EmittedBuffer() {
    if (buffer_) api_.DisposeMemoryBuffer(buffer_);
  }
  EmittedBuffer(const EmittedBuffer&) = delete;
  EmittedBuffer& operator=(const EmittedBuffer&) = delete;

  const std::string& problem() const { return problem_; }
  std::span<const char> bytes() const {
    return {api_.GetBufferStart(buffer_), api_.GetBufferSize(buffer_)};
  }

 private:
  const LlvmApi& api_;
  MemoryBufferRef buffer_ = nullptr;
  std::string problem_;
};

void dump(const LlvmApi& api, ModuleRef module, const std::string& text) {
  char* ir = api.PrintModuleToString(module);
  std::fprintf(stderr, "%s%s\n", text.c_str(), ir);
  api.DisposeMessage(ir);
}

// The attributes say which instructions the function may use; without a vector width LLVM splits
// vectors of 512 bits.
void set_attributes(const LlvmApi& api, const VectorBuilder& b, const Isa& isa) {
  const Value f = api.GetNamedFunction(b.module(), "kernel");
  const auto add = [&](std::string_view key, std::string_view value) {
    api.AddAttributeAtIndex(
        f, ~0u,
        api.CreateStringAttribute(b.context(), key.data(), static_cast<unsigned>(key.size()),
                                  value.data(), static_cast<unsigned>(value.size())));
  };
  add("target-cpu", isa.cpu);
  const std::string bits = cat(int64_t{isa.width} * 32);
  add("prefer-vector-width", bits);
  add("min-legal-vector-width", bits);
  const std::string_view nounwind = "nounwind";
  const unsigned kind = api.GetEnumAttributeKindForName(nounwind.data(), nounwind.size());
  api.AddAttributeAtIndex(f, ~0u, api.CreateEnumAttribute(b.context(), kind, 0));
}

void* compile(const LoopProgram& program, const Schedule& schedule, const Isa& isa,
              const std::vector<bool>& float_numbers, const std::string& text, std::string* why) {
  const LlvmApi* api = llvm();
  if (!api) {
    *why = llvm_problem();
    return nullptr;
  }
  const TargetMachineRef machine = target_machine(*api, isa);
  VectorBuilder b(*api, isa.width);
  api->SetTarget(b.module(), kTriple);
  const TargetDataRef layout = api->CreateTargetDataLayout(machine);
  api->SetModuleDataLayout(b.module(), layout);
  api->DisposeTargetData(layout);
  KernelEmitter(program, schedule, isa, b, float_numbers).emit();
  set_attributes(*api, b, isa);
  if (flag_has(Flag::kDump, "llvm")) dump(*api, b.module(), text);
  if (flag_bool(Flag::kVerify)) {
    char* message = nullptr;
    if (api->VerifyModule(b.module(), 2, &message)) {
      internal_error("a kernel is no valid LLVM IR: ", std::string_view(message), "\n", text);
    }
    api->DisposeMessage(message);
  }
  if (flag_has(Flag::kDump, "assembly")) {
    // Emission changes the module, so that what is shown is what is run.
    const EmittedBuffer assembly(*api, machine, b.module(), kAssembly);
    if (assembly.problem().empty()) {
      std::fwrite(assembly.bytes().data(), 1, assembly.bytes().size(), stderr);
    }
    *why = "FULMEN_DUMP=assembly: kernels are shown, not run";
    return nullptr;
  }
  const EmittedBuffer object(*api, machine, b.module(), kObject);
  if (!object.problem().empty()) {
    *why = object.problem();
    return nullptr;
  }
  return load_object(object.bytes(), "kernel", why);
}

struct Cache {
  std::mutex mutex;
  std::unordered_map<std::string, Kernel> kernels;
  KernelCounts counts;
};

Cache& cache() {
  static Cache* c = new Cache;  // programs may outlive static objects
  return *c;
}

}  // namespace

const Kernel* kernel_for(const LoopProgram& program, const Schedule& schedule, const Isa& isa,
                         const std::vector<bool>& float_numbers, std::string* why) {
  std::string key = cat(isa.name, " ");
  for (const bool real : float_numbers) append(key, real ? "f" : "i");
  append(key, "\n");
  append(key, canonical_text(program, schedule));
  Cache& c = cache();
  {
    const std::lock_guard lock(c.mutex);
    const auto it = c.kernels.find(key);
    if (it != c.kernels.end()) {
      ++c.counts.shared;
      return &it->second;
    }
  }
  const auto start = std::chrono::steady_clock::now();
  void* code = compile(program, schedule, isa, float_numbers, key, why);
  if (!code) return nullptr;
  const auto time = std::chrono::steady_clock::now() - start;
  Kernel kernel;
  kernel.run = reinterpret_cast<KernelFunction>(code);
  kernel.microseconds = std::chrono::duration_cast<std::chrono::microseconds>(time).count();
  const std::lock_guard lock(c.mutex);
  const auto [it, fresh] = c.kernels.emplace(std::move(key), kernel);
  if (fresh) {
    ++c.counts.compiled;
    c.counts.microseconds += kernel.microseconds;
  }
  return &it->second;
}

KernelCounts kernel_counts() {
  Cache& c = cache();
  const std::lock_guard lock(c.mutex);
  return c.counts;
}

}  // namespace fulmen::codegen::cpu

#include "codegen/cpu/kernel_cache.h"

#include <pthread.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
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

// What a kernel is generated from.
struct Job {
  LoopProgram program;
  Schedule schedule;
  Isa isa;
  std::vector<bool> float_numbers;
};

struct Entry {
  enum class State : uint8_t { kWaiting, kRunning, kDone };
  State state = State::kWaiting;
  std::shared_ptr<const Job> job;  // while it waits
  Kernel kernel;
  std::string why;            // there is no code
  std::exception_ptr thrown;  // by a mistake of ours
};
using EntryPtr = std::shared_ptr<Entry>;

std::string key_of(const LoopProgram& program, const Schedule& schedule, const Isa& isa,
                   const std::vector<bool>& float_numbers) {
  std::string key = cat(isa.name, " ");
  for (const bool real : float_numbers) append(key, real ? "f" : "i");
  append(key, "\n");
  append(key, canonical_text(program, schedule));
  return key;
}

// Note [Kernels are generated side by side]
// A region's kernel is asked for as soon as the region is formed, and needed when the program is
// built. In between a second thread generates it, while the first one goes on with the program;
// when it gets there it takes what still waits, and waits for what is being generated. The second
// thread lives as long as there is work.
class Cache {
 public:
  static Cache& get() {
    static Cache* c = new Cache;  // programs may outlive static objects
    return *c;
  }

  void prepare(std::string key, std::shared_ptr<const Job> job) {
    const std::lock_guard lock(mutex_);
    const auto [it, fresh] = entries_.try_emplace(std::move(key));
    if (!fresh) return;
    it->second = std::make_shared<Entry>();
    it->second->job = std::move(job);
    waiting_.emplace_back(it->first, it->second);
    if (has_helper_ || std::thread::hardware_concurrency() < 2) return;
    static const bool registered = std::atexit([] { get().stop(); }) == 0;
    if (!registered) return;
    if (helper_.joinable()) helper_.join();  // it has ended, or is about to
    has_helper_ = true;
    helper_ = std::thread([this] { help(); });
  }

  const Kernel* find_or_make(const std::string& key, const std::function<Job()>& job,
                             std::string* why) {
    std::unique_lock lock(mutex_);
    const auto [it, fresh] = entries_.try_emplace(key);
    if (fresh) it->second = std::make_shared<Entry>();
    const EntryPtr entry = it->second;
    if (entry->state == Entry::State::kWaiting) {
      const auto own = entry->job ? entry->job : std::make_shared<const Job>(job());
      generate(lock, key, entry, *own);
    } else {
      changed_.wait(lock, [&] { return entry->state == Entry::State::kDone; });
      ++counts_.shared;
    }
    if (entry->thrown) std::rethrow_exception(entry->thrown);
    *why = entry->why;
    return entry->kernel.run ? &entry->kernel : nullptr;
  }

  void count_failure() {
    const std::lock_guard lock(mutex_);
    ++counts_.failed;
  }

  KernelCounts counts() {
    const std::lock_guard lock(mutex_);
    return counts_;
  }

 private:
  Cache() {
    pthread_atfork([] { get().pause(); }, [] { get().mutex_.unlock(); },
                   [] { get().forget_threads(); });
  }

  // Unlocks while it works. What has no kernel is not kept.
  void generate(std::unique_lock<std::mutex>& lock, const std::string& key, const EntryPtr& entry,
                const Job& job) {
    entry->state = Entry::State::kRunning;
    ++running_;
    lock.unlock();
    const auto start = std::chrono::steady_clock::now();
    void* code = nullptr;
    try {
      code = compile(job.program, job.schedule, job.isa, job.float_numbers, key, &entry->why);
    } catch (...) {
      entry->thrown = std::current_exception();
    }
    const auto time = std::chrono::steady_clock::now() - start;
    entry->kernel.run = reinterpret_cast<KernelFunction>(code);
    entry->kernel.microseconds =
        std::chrono::duration_cast<std::chrono::microseconds>(time).count();
    lock.lock();
    --running_;
    entry->state = Entry::State::kDone;
    entry->job = nullptr;
    if (code) {
      kept_.push_back(entry);  // programs point to it
      ++counts_.compiled;
      counts_.microseconds += entry->kernel.microseconds;
    } else {
      entries_.erase(key);
    }
    changed_.notify_all();
  }

  void help() {
    std::unique_lock lock(mutex_);
    while (!waiting_.empty()) {
      const auto [key, entry] = std::move(waiting_.front());
      waiting_.pop_front();
      const std::shared_ptr<const Job> job = entry->job;
      if (entry->state == Entry::State::kWaiting) generate(lock, key, entry, *job);
    }
    has_helper_ = false;
  }

  void stop() {
    std::unique_lock lock(mutex_);
    waiting_.clear();
    std::thread helper = std::move(helper_);
    lock.unlock();
    if (helper.joinable()) helper.join();
  }

  // Before a fork: nothing is being generated, and nothing begins; the lock stays.
  void pause() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return running_ == 0; });
    lock.release();
  }

  // In the child of a fork, which has this thread only.
  void forget_threads() {
    if (helper_.joinable()) helper_.detach();
    has_helper_ = false;
    waiting_.clear();
    mutex_.unlock();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::unordered_map<std::string, EntryPtr> entries_;
  std::vector<EntryPtr> kept_;
  std::deque<std::pair<std::string, EntryPtr>> waiting_;
  std::thread helper_;
  bool has_helper_ = false;
  int running_ = 0;  // kernels that are being generated
  KernelCounts counts_;
};

}  // namespace

void prepare_kernel(const LoopProgram& program, const Schedule& schedule, const Isa& isa,
                    const std::vector<bool>& float_numbers) {
  Cache::get().prepare(key_of(program, schedule, isa, float_numbers),
                       std::make_shared<const Job>(Job{program, schedule, isa, float_numbers}));
}

const Kernel* kernel_for(const LoopProgram& program, const Schedule& schedule, const Isa& isa,
                         const std::vector<bool>& float_numbers, std::string* why) {
  return Cache::get().find_or_make(
      key_of(program, schedule, isa, float_numbers),
      [&] { return Job{program, schedule, isa, float_numbers}; }, why);
}

KernelCounts kernel_counts() { return Cache::get().counts(); }

void note_failure(std::string_view why) {
  Cache::get().count_failure();
  const std::string line = cat("fulmen: no kernel, ATen runs it instead: ", why, "\n");
  std::fputs(line.c_str(), stderr);
}

}  // namespace fulmen::codegen::cpu

#include "codegen/cpu/llvm_api.h"

#include <dlfcn.h>

#include <memory>
#include <mutex>
#include <vector>

#include "support/cat.h"
#include "support/flags.h"

namespace fulmen::codegen::cpu {
namespace {

constexpr unsigned kOldest = 15;  // opaque pointers
constexpr unsigned kNewest = 40;  // where the search for a system's library starts

struct State {
  std::mutex mutex;
  bool tried = false;
  std::vector<std::string> suggested;
  std::unique_ptr<LlvmApi> api;
  std::string problem;
};

State& state() {
  static State* s = new State;  // kernels may be compiled while static objects are destroyed
  return *s;
}

// karellen-llvm-core's libLLVM needs its own libc++, which stands beside it under a name that only
// a link of its first start gives it; loaded before, it is found by its soname.
void load_runtime_beside(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return;
  const std::string folder = path.substr(0, slash) + "/x86_64-unknown-linux-gnu/";
  for (const char* name : {"libunwind.so.1.0", "libc++abi.so.1.0", "libc++.so.1.0"}) {
    dlopen((folder + name).c_str(), RTLD_NOW | RTLD_LOCAL);
  }
}

// Code generation is cut to what pays for loops whose vectors are explicit: strength reduction and
// the schedulers take half of the time and gain nothing.
void set_options(const LlvmApi& api) {
  const char* options[] = {"fulmen", "-disable-lsr", "-disable-post-ra", "-enable-misched=false"};
  api.ParseCommandLineOptions(4, options, nullptr);
}

std::unique_ptr<LlvmApi> load(const std::string& path, std::string* why) {
  load_runtime_beside(path);
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    *why = dlerror();
    return nullptr;
  }
  auto api = std::make_unique<LlvmApi>();
  std::string missing;
  const auto find = [&](auto& slot, const char* name) {
    slot = reinterpret_cast<std::remove_reference_t<decltype(slot)>>(dlsym(library, name));
    if (!slot && missing.empty()) missing = name;
  };
#define X(name, result, params) find(api->name, "LLVM" #name);
  FULMEN_LLVM_FUNCTIONS(X)
#undef X
#define X(name) find(api->Build##name, "LLVMBuild" #name);
  FULMEN_LLVM_BINARY(X)
  FULMEN_LLVM_CASTS(X)
#undef X
  if (!missing.empty()) {
    *why = cat(path, " has no ", missing, "; LLVM ", int64_t{kOldest},
               " or newer with the x86 target is needed");
    return nullptr;
  }
  unsigned minor = 0, patch = 0;
  api->GetVersion(&api->version, &minor, &patch);
  if (api->version < kOldest) {
    *why = cat(path, " is LLVM ", api->version, "; ", int64_t{kOldest}, " or newer is needed");
    return nullptr;
  }
  api->path = path;
  api->InitializeX86TargetInfo();
  api->InitializeX86Target();
  api->InitializeX86TargetMC();
  api->InitializeX86AsmPrinter();
  set_options(*api);
  return api;
}

void search(State& s) {
#if !defined(__x86_64__) || !defined(__linux__)
  s.problem = "kernels are generated for x86-64 Linux only; everything runs on ATen";
  return;
#endif
  const std::string chosen = flag_text(Flag::kLlvm);
  if (chosen == "none") {
    s.problem = "FULMEN_LLVM=none: no kernels are generated; everything runs on ATen";
    return;
  }
  std::string why;
  if (!chosen.empty()) {
    s.api = load(chosen, &why);
    if (!s.api) s.problem = cat("FULMEN_LLVM=", chosen, ": ", why);
    return;
  }
  std::string tried;
  for (const std::string& path : s.suggested) {
    s.api = load(path, &why);
    if (s.api) return;
    append(tried, cat("; ", why));
  }
  for (unsigned version = kNewest; version >= kOldest && !s.api; --version) {
    for (const std::string& name :
         {cat("libLLVM.so.", version, ".1"), cat("libLLVM-", version, ".so.1"),
          cat("libLLVM-", version, ".so")}) {
      s.api = load(name, &why);
      if (s.api) return;
    }
  }
  s.problem =
      cat("no LLVM was found, so that no kernels are generated and everything runs on ATen: "
          "`pip install karellen-llvm-core`, or name a libLLVM.so in FULMEN_LLVM",
          tried);
}

}  // namespace

const LlvmApi* llvm() {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  if (!s.tried) {
    s.tried = true;
    search(s);
  }
  return s.api.get();
}

const std::string& llvm_problem() {
  llvm();
  return state().problem;
}

void suggest_llvm(std::string path) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  s.suggested.push_back(std::move(path));
}

}  // namespace fulmen::codegen::cpu

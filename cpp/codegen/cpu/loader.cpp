#include "codegen/cpu/loader.h"

#include <dlfcn.h>
#include <elf.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "codegen/cpu/scalar_functions.h"
#include "support/cat.h"

namespace fulmen::codegen::cpu {
namespace {

constexpr size_t kChunk = size_t{1} << 20;
constexpr size_t kStub = 16;

// Memory for code: every block is mapped twice.
class CodeMemory {
 public:
  struct Block {
    char* writable = nullptr;
    char* executable = nullptr;
  };
  // An object lies within one block, so that its parts reach each other with 32 bits.
  Block allocate(size_t bytes) {
    bytes = (bytes + 63) / 64 * 64;
    if (bytes > left_ && !grow(bytes)) return {};
    const Block block = next_;
    next_.writable += bytes;
    next_.executable += bytes;
    left_ -= bytes;
    return block;
  }

 private:
  bool grow(size_t bytes) {
    const size_t size = bytes > kChunk ? bytes + kChunk : kChunk;
    const int file = memfd_create("fulmen-kernels", MFD_CLOEXEC);
    if (file < 0) return false;
    const bool sized = ftruncate(file, static_cast<off_t>(size)) == 0;
    void* writable = MAP_FAILED;
    void* executable = MAP_FAILED;
    if (sized) {
      writable = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
      executable = mmap(nullptr, size, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
    }
    close(file);
    if (writable == MAP_FAILED || executable == MAP_FAILED) return false;
    next_ = {static_cast<char*>(writable), static_cast<char*>(executable)};
    left_ = size;
    return true;
  }

  Block next_;
  size_t left_ = 0;
};

struct Loader {
  std::mutex mutex;
  CodeMemory memory;

  static Loader& get() {
    static Loader* l = new Loader;  // kernels may be loaded while static objects are destroyed
    return *l;
  }

 private:
  // A fork shares the blocks: the child writes into blocks of its own.
  Loader() {
    pthread_atfork([] { get().mutex.lock(); }, [] { get().mutex.unlock(); },
                   [] {
                     get().memory = CodeMemory();
                     get().mutex.unlock();
                   });
  }
};

template <class T>
void put(char* at, T v) {
  std::memcpy(at, &v, sizeof v);
}

size_t aligned(size_t n, size_t to) { return (n + to - 1) / to * to; }

class ObjectFile {
 public:
  ObjectFile(std::span<const char> bytes, std::string* why) : bytes_(bytes), why_(why) {
    const auto* header = at<Elf64_Ehdr>(0);
    sections_ = {at<Elf64_Shdr>(header->e_shoff), header->e_shnum};
    for (const Elf64_Shdr& s : sections_) {
      if (s.sh_type != SHT_SYMTAB) continue;
      symbols_ = {at<Elf64_Sym>(s.sh_offset), s.sh_size / sizeof(Elf64_Sym)};
      names_ = at<char>(sections_[s.sh_link].sh_offset);
    }
  }

  void* load(const char* wanted) {
    if (!place() || !relocate()) return nullptr;
    for (const Elf64_Sym& s : symbols_) {
      if (ELF64_ST_TYPE(s.st_info) == STT_FUNC && !std::strcmp(names_ + s.st_name, wanted)) {
        return block_.executable + offsets_[s.st_shndx] + s.st_value;
      }
    }
    *why_ = cat("the object has no symbol ", wanted);
    return nullptr;
  }

 private:
  template <class T>
  const T* at(size_t offset) const {
    return reinterpret_cast<const T*>(bytes_.data() + offset);
  }
  static bool is_loaded(const Elf64_Shdr& s) {
    return (s.sh_flags & SHF_ALLOC) && s.sh_type == SHT_PROGBITS;
  }

  // Room for the sections, then a stub for each external function.
  bool place() {
    size_t size = 0;
    offsets_.assign(sections_.size(), 0);
    for (size_t i = 0; i < sections_.size(); ++i) {
      if (!is_loaded(sections_[i])) continue;
      size = aligned(size, std::max<size_t>(sections_[i].sh_addralign, 16));
      offsets_[i] = size;
      size += sections_[i].sh_size;
    }
    next_stub_ = aligned(size, kStub);
    size_t externals = 0;
    for (const Elf64_Sym& s : symbols_) externals += s.st_shndx == SHN_UNDEF;
    block_ = Loader::get().memory.allocate(next_stub_ + externals * kStub);
    if (!block_.writable) {
      *why_ = "no memory for code";
      return false;
    }
    for (size_t i = 0; i < sections_.size(); ++i) {
      const Elf64_Shdr& s = sections_[i];
      if (is_loaded(s) && s.sh_size) {
        std::memcpy(block_.writable + offsets_[i], at<char>(s.sh_offset), s.sh_size);
      }
    }
    return true;
  }

  bool relocate() {
    for (const Elf64_Shdr& s : sections_) {
      if (s.sh_type != SHT_RELA || !is_loaded(sections_[s.sh_info])) continue;
      const std::span<const Elf64_Rela> entries(at<Elf64_Rela>(s.sh_offset),
                                                s.sh_size / sizeof(Elf64_Rela));
      for (const Elf64_Rela& r : entries) {
        if (!apply(r, offsets_[s.sh_info] + r.r_offset)) return false;
      }
    }
    return true;
  }

  bool apply(const Elf64_Rela& r, size_t place) {
    const Elf64_Sym& symbol = symbols_[ELF64_R_SYM(r.r_info)];
    const char* target = target_of(symbol);
    if (!target) return false;
    const auto value = reinterpret_cast<int64_t>(target) + r.r_addend;
    char* where = block_.writable + place;
    switch (ELF64_R_TYPE(r.r_info)) {
      case R_X86_64_PC32:
      case R_X86_64_PLT32:
        put(where,
            static_cast<int32_t>(value - reinterpret_cast<int64_t>(block_.executable + place)));
        return true;
      case R_X86_64_64: put(where, value); return true;
      default:
        *why_ = cat("an unknown relocation ", uint64_t{ELF64_R_TYPE(r.r_info)});
        return false;
    }
  }

  const char* target_of(const Elf64_Sym& symbol) {
    if (symbol.st_shndx != SHN_UNDEF) {
      return block_.executable + offsets_[symbol.st_shndx] + symbol.st_value;
    }
    const std::string name = names_ + symbol.st_name;
    const auto known = stubs_.find(name);
    if (known != stubs_.end()) return block_.executable + known->second;
    void* function = find_function(name.c_str());
    if (!function) {
      *why_ = cat("there is no function ", name);
      return nullptr;
    }
    // jmp *0(%rip), followed by the address
    char* stub = block_.writable + next_stub_;
    const unsigned char jump[] = {0xff, 0x25, 0, 0, 0, 0};
    std::memcpy(stub, jump, sizeof jump);
    put(stub + sizeof jump, function);
    stubs_.emplace(name, next_stub_);
    next_stub_ += kStub;
    return block_.executable + next_stub_ - kStub;
  }

  std::span<const char> bytes_;
  std::string* why_;
  std::span<const Elf64_Shdr> sections_;
  std::span<const Elf64_Sym> symbols_;
  const char* names_ = nullptr;
  std::vector<size_t> offsets_;
  CodeMemory::Block block_;
  size_t next_stub_ = 0;
  std::map<std::string, size_t> stubs_;
};

}  // namespace

void* load_object(std::span<const char> object, const char* symbol, std::string* why) {
  const std::lock_guard lock(Loader::get().mutex);
  return ObjectFile(object, why).load(symbol);
}

void* find_function(const char* name) {
  if (void* own = find_scalar_function(name)) return own;
  // PyTorch's library is already there; without it only the C library's functions are found.
  static void* const torch = dlopen("libtorch_cpu.so", RTLD_NOW | RTLD_NOLOAD);
  if (torch) {
    if (void* f = dlsym(torch, name)) return f;
  }
  return dlsym(RTLD_DEFAULT, name);
}

}  // namespace fulmen::codegen::cpu

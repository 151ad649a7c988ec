#pragma once

#include <span>
#include <string>

namespace fulmen::codegen::cpu {

// Puts the object file of a kernel where it can run: x86-64 ELF, as LLVM writes it. Code is
// written through one mapping of memory and run through another, so that no page is both writable
// and executable. What was loaded stays for the life of the process.
//
// Returns the address of `symbol`; null, with the reason in `why`, for a relocation or an external
// function that is not known.
void* load_object(std::span<const char> object, const char* symbol, std::string* why);

// An external function by name: SLEEF's from PyTorch's library, the C library's, our own.
void* find_function(const char* name);

}  // namespace fulmen::codegen::cpu

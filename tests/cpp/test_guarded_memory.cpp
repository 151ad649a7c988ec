#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>

#include "support/guarded_memory.h"

namespace fulmen {
namespace {

// The signal that ends a process which does this, or 0.
template <class F>
int signal_of(const F& f) {
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGSEGV, SIG_DFL);
    f();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

TEST_CASE("what is beside guarded memory can't be touched") {
  for (const size_t bytes : {size_t{1}, size_t{4096}, size_t{5000}}) {
    const GuardedMemory at_end(bytes, Guard::kEnd), at_start(bytes, Guard::kStart);
    for (const GuardedMemory* m : {&at_end, &at_start}) {
      CHECK(signal_of([&] { m->data()[0] = m->data()[bytes - 1] = 1; }) == 0);
    }
    volatile const char* end = at_end.data() + bytes;
    volatile const char* before = at_start.data() - 1;
    CHECK(signal_of([&] { (void)*end; }) == SIGSEGV);
    CHECK(signal_of([&] { (void)*before; }) == SIGSEGV);
  }
}

TEST_CASE("guarded copies are written back, inputs can't be written") {
  char in[3] = {1, 2, 3}, out[2] = {0, 0};
  GuardedCopies copies(Guard::kEnd);
  char* input = copies.copy_of(in, sizeof in, false);
  char* output = copies.copy_of(out, sizeof out, true);
  CHECK(copies.copy_of(out, sizeof out, true) == output);
  output[1] = input[2];
  copies.copy_back();
  CHECK(out[1] == 3);
  CHECK(signal_of([&] { input[0] = 7; }) == SIGSEGV);
}

}  // namespace
}  // namespace fulmen

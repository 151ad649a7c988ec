/* Kernels for Fulmen in a shared library, in C or C++: fulmen.load_plugin("libmine.so").

   The library exports one function, fulmen_plugin, that returns a table. This header is all that it
   needs; see docs/executors.md for an example. Tables, names and functions stay valid for the life
   of the process. Functions are called from any thread. */
#ifndef FULMEN_PLUGIN_H
#define FULMEN_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Changes when a struct here changes; a library of another version is refused. */
#define FULMEN_PLUGIN_VERSION 1

typedef enum {
  FULMEN_BOOL,
  FULMEN_UINT8,
  FULMEN_INT8,
  FULMEN_INT16,
  FULMEN_INT32,
  FULMEN_INT64,
  FULMEN_FLOAT16,
  FULMEN_BFLOAT16,
  FULMEN_FLOAT32,
  FULMEN_FLOAT64,
  FULMEN_OTHER_DTYPE
} FulmenDType;

typedef enum { FULMEN_CPU, FULMEN_CUDA, FULMEN_OTHER_DEVICE } FulmenDevice;

/* A view of memory that belongs to Fulmen. Strides count elements. */
typedef struct {
  void* data; /* null in `check`; of an argument: only to be read */
  const int64_t* sizes;
  const int64_t* strides;
  int32_t ndim;
  int32_t dtype;  /* FulmenDType */
  int32_t device; /* FulmenDevice */
  int32_t device_index;
} FulmenTensor;

typedef enum {
  FULMEN_NONE,
  FULMEN_TENSOR,
  FULMEN_INTEGER, /* int and bool */
  FULMEN_REAL,
  FULMEN_TEXT,  /* str */
  FULMEN_ITEMS, /* a list or tuple */
  FULMEN_OTHER  /* a value that has no form here; check refuses it, or does not need it */
} FulmenKind;

/* An argument: one for each parameter of the symbol's schema, defaults filled in. */
typedef struct FulmenValue {
  int32_t kind;  /* FulmenKind */
  int32_t count; /* of items */
  union {
    FulmenTensor tensor;
    int64_t integer;
    double real;
    const char* text;
    const struct FulmenValue* items;
  };
} FulmenValue;

/* What Fulmen offers to kernels. */
typedef struct {
  /* Calls body(data, from, to) for parts of begin … end, on several threads where that pays. */
  void (*parallel_for)(int64_t begin, int64_t end, int64_t grain,
                       void (*body)(void* data, int64_t from, int64_t to), void* data);
} FulmenHost;

typedef struct {
  /* A symbol by its name, as a trace or `fulmen.examine.executors` shows it: "gelu". */
  const char* symbol;
  /* Null if `run` takes a call like this one, else why not. May be null: it takes all. */
  const char* (*check)(const FulmenValue* args, size_t num_args, const FulmenTensor* results,
                       size_t num_results);
  /* Writes the results, whose memory is there, uninitialized. Null, or a message: the call then
     raises RuntimeError. */
  const char* (*run)(const FulmenValue* args, size_t num_args, const FulmenTensor* results,
                     size_t num_results, const FulmenHost* host);
} FulmenOperator;

typedef struct {
  uint32_t version; /* FULMEN_PLUGIN_VERSION */
  const char* name; /* of the executor */
  const FulmenOperator* operators;
  size_t num_operators;
} FulmenPlugin;

/* What the library exports. */
#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
const FulmenPlugin* fulmen_plugin(void);

#ifdef __cplusplus
}
#endif

#endif

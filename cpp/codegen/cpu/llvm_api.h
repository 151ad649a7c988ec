#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

// LLVM through its C API, found at run time.
//
// Note [LLVM at run time]
// Linked in statically, LLVM makes the extension 38 MB larger (wheel +15 MB), takes 116 MB of
// development packages to build, and ties a release to one LLVM. Found at run time it costs nothing
// to build and the wheel stays small: `karellen-llvm-core` from PyPI (34 MB to download, 89 MB
// installed) or a system's libLLVM serves, is loaded at the first region that is compiled, in
// 5 to 6 ms with a warm file cache (0.14 ms to start the target), and users who fuse nothing load
// nothing. The C API is stable enough to declare the few functions that are used by hand: no LLVM
// header is needed at build time. Without LLVM every operation runs on ATen.
namespace fulmen::codegen::cpu {

#define FULMEN_LLVM_TYPES(X)                                                                     \
  X(Context) X(Module) X(Type) X(Value) X(BasicBlock) X(Builder) X(Target) X(TargetMachine)      \
      X(TargetData) X(MemoryBuffer) X(Attribute) X(Metadata)
#define X(name) using name##Ref = struct LLVMOpaque##name*;
FULMEN_LLVM_TYPES(X)
#undef X
using Bool = int;

// name in LLVM's C API without the prefix LLVM, result, parameters
#define FULMEN_LLVM_FUNCTIONS(X)                                                                 \
  X(GetVersion, void, (unsigned*, unsigned*, unsigned*))                                         \
  X(ParseCommandLineOptions, void, (int, const char* const*, const char*))                       \
  X(InitializeX86TargetInfo, void, ())                                                           \
  X(InitializeX86Target, void, ())                                                               \
  X(InitializeX86TargetMC, void, ())                                                             \
  X(InitializeX86AsmPrinter, void, ())                                                           \
  X(GetTargetFromTriple, Bool, (const char*, TargetRef*, char**))                                \
  X(GetHostCPUName, char*, ())                                                                   \
  X(GetHostCPUFeatures, char*, ())                                                               \
  X(CreateTargetMachine, TargetMachineRef,                                                       \
    (TargetRef, const char*, const char*, const char*, int, int, int))                           \
  X(DisposeTargetMachine, void, (TargetMachineRef))                                              \
  X(CreateTargetDataLayout, TargetDataRef, (TargetMachineRef))                                   \
  X(DisposeTargetData, void, (TargetDataRef))                                                    \
  X(SetModuleDataLayout, void, (ModuleRef, TargetDataRef))                                       \
  X(SetTarget, void, (ModuleRef, const char*))                                                   \
  X(TargetMachineEmitToMemoryBuffer, Bool,                                                       \
    (TargetMachineRef, ModuleRef, int, char**, MemoryBufferRef*))                                \
  X(GetBufferStart, const char*, (MemoryBufferRef))                                              \
  X(GetBufferSize, size_t, (MemoryBufferRef))                                                    \
  X(DisposeMemoryBuffer, void, (MemoryBufferRef))                                                \
  X(DisposeMessage, void, (char*))                                                               \
  X(ContextCreate, ContextRef, ())                                                               \
  X(ContextDispose, void, (ContextRef))                                                          \
  X(ModuleCreateWithNameInContext, ModuleRef, (const char*, ContextRef))                         \
  X(DisposeModule, void, (ModuleRef))                                                            \
  X(PrintModuleToString, char*, (ModuleRef))                                                     \
  X(VerifyModule, Bool, (ModuleRef, int, char**))                                                \
  X(IntTypeInContext, TypeRef, (ContextRef, unsigned))                                           \
  X(HalfTypeInContext, TypeRef, (ContextRef))                                                    \
  X(FloatTypeInContext, TypeRef, (ContextRef))                                                   \
  X(DoubleTypeInContext, TypeRef, (ContextRef))                                                  \
  X(VoidTypeInContext, TypeRef, (ContextRef))                                                    \
  X(PointerTypeInContext, TypeRef, (ContextRef, unsigned))                                       \
  X(VectorType, TypeRef, (TypeRef, unsigned))                                                    \
  X(FunctionType, TypeRef, (TypeRef, TypeRef*, unsigned, Bool))                                  \
  X(TypeOf, TypeRef, (ValueRef))                                                                 \
  X(AddFunction, ValueRef, (ModuleRef, const char*, TypeRef))                                    \
  X(GetNamedFunction, ValueRef, (ModuleRef, const char*))                                        \
  X(GetParam, ValueRef, (ValueRef, unsigned))                                                    \
  X(CreateStringAttribute, AttributeRef,                                                         \
    (ContextRef, const char*, unsigned, const char*, unsigned))                                  \
  X(CreateEnumAttribute, AttributeRef, (ContextRef, unsigned, uint64_t))                         \
  X(GetEnumAttributeKindForName, unsigned, (const char*, size_t))                                \
  X(AddAttributeAtIndex, void, (ValueRef, unsigned, AttributeRef))                               \
  X(LookupIntrinsicID, unsigned, (const char*, size_t))                                          \
  X(GetIntrinsicDeclaration, ValueRef, (ModuleRef, unsigned, TypeRef*, size_t))                  \
  X(GlobalGetValueType, TypeRef, (ValueRef))                                                     \
  X(ConstInt, ValueRef, (TypeRef, unsigned long long, Bool))                                     \
  X(ConstReal, ValueRef, (TypeRef, double))                                                      \
  X(ConstVector, ValueRef, (ValueRef*, unsigned))                                                \
  X(ConstNull, ValueRef, (TypeRef))                                                              \
  X(GetPoison, ValueRef, (TypeRef))                                                              \
  X(AppendBasicBlockInContext, BasicBlockRef, (ContextRef, ValueRef, const char*))               \
  X(GetInsertBlock, BasicBlockRef, (BuilderRef))                                                 \
  X(CreateBuilderInContext, BuilderRef, (ContextRef))                                            \
  X(DisposeBuilder, void, (BuilderRef))                                                          \
  X(PositionBuilderAtEnd, void, (BuilderRef, BasicBlockRef))                                     \
  X(BuildAlloca, ValueRef, (BuilderRef, TypeRef, const char*))                                   \
  X(BuildArrayAlloca, ValueRef, (BuilderRef, TypeRef, ValueRef, const char*))                    \
  X(BuildLoad2, ValueRef, (BuilderRef, TypeRef, ValueRef, const char*))                          \
  X(BuildStore, ValueRef, (BuilderRef, ValueRef, ValueRef))                                      \
  X(SetAlignment, void, (ValueRef, unsigned))                                                    \
  X(GetMDKindIDInContext, unsigned, (ContextRef, const char*, unsigned))                         \
  X(ValueAsMetadata, MetadataRef, (ValueRef))                                                    \
  X(MDNodeInContext2, MetadataRef, (ContextRef, MetadataRef*, size_t))                           \
  X(MetadataAsValue, ValueRef, (ContextRef, MetadataRef))                                        \
  X(SetMetadata, void, (ValueRef, unsigned, ValueRef))                                           \
  X(BuildGEP2, ValueRef, (BuilderRef, TypeRef, ValueRef, ValueRef*, unsigned, const char*))      \
  X(BuildCall2, ValueRef, (BuilderRef, TypeRef, ValueRef, ValueRef*, unsigned, const char*))     \
  X(BuildPhi, ValueRef, (BuilderRef, TypeRef, const char*))                                      \
  X(AddIncoming, void, (ValueRef, ValueRef*, BasicBlockRef*, unsigned))                          \
  X(BuildBr, ValueRef, (BuilderRef, BasicBlockRef))                                              \
  X(BuildCondBr, ValueRef, (BuilderRef, ValueRef, BasicBlockRef, BasicBlockRef))                 \
  X(BuildRetVoid, ValueRef, (BuilderRef))                                                        \
  X(BuildSelect, ValueRef, (BuilderRef, ValueRef, ValueRef, ValueRef, const char*))              \
  X(BuildICmp, ValueRef, (BuilderRef, int, ValueRef, ValueRef, const char*))                     \
  X(BuildFCmp, ValueRef, (BuilderRef, int, ValueRef, ValueRef, const char*))                     \
  X(BuildFNeg, ValueRef, (BuilderRef, ValueRef, const char*))                                    \
  X(BuildNeg, ValueRef, (BuilderRef, ValueRef, const char*))                                     \
  X(BuildNot, ValueRef, (BuilderRef, ValueRef, const char*))                                     \
  X(BuildInsertElement, ValueRef, (BuilderRef, ValueRef, ValueRef, ValueRef, const char*))       \
  X(BuildExtractElement, ValueRef, (BuilderRef, ValueRef, ValueRef, const char*))                \
  X(BuildShuffleVector, ValueRef, (BuilderRef, ValueRef, ValueRef, ValueRef, const char*))

#define FULMEN_LLVM_BINARY(X)                                                                    \
  X(FAdd) X(FSub) X(FMul) X(FDiv) X(Add) X(Sub) X(Mul) X(SDiv) X(UDiv) X(SRem) X(URem) X(And)    \
      X(Or) X(Xor) X(Shl) X(LShr) X(AShr)
#define FULMEN_LLVM_CASTS(X)                                                                     \
  X(Trunc) X(ZExt) X(SExt) X(FPTrunc) X(FPExt) X(SIToFP) X(UIToFP) X(FPToSI) X(FPToUI) X(BitCast)

// The functions of one loaded library; constant, and valid for the life of the process.
struct LlvmApi {
#define X(name, result, params) result(*name) params = nullptr;
  FULMEN_LLVM_FUNCTIONS(X)
#undef X
#define X(name) ValueRef (*Build##name)(BuilderRef, ValueRef, ValueRef, const char*) = nullptr;
  FULMEN_LLVM_BINARY(X)
#undef X
#define X(name) ValueRef (*Build##name)(BuilderRef, ValueRef, TypeRef, const char*) = nullptr;
  FULMEN_LLVM_CASTS(X)
#undef X
  unsigned version = 0;  // major
  std::string path;      // as it was found
};

// Loads LLVM at the first call: the library that FULMEN_LLVM names, else those that were suggested,
// else the system's. Null without one; llvm_problem() then says why, and what to do.
const LlvmApi* llvm();
const std::string& llvm_problem();

// A library to try before the system's; without effect after the first call of llvm().
void suggest_llvm(std::string path);

}  // namespace fulmen::codegen::cpu

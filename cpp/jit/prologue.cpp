// A guard program as a Python function that runs.
#include <algorithm>
#include <cctype>
#include <cmath>
#include <set>

#include "jit/guards.h"
#include "support/cat.h"

namespace fulmen::jit {
namespace {

std::string text_of(PyObject* o, PyObject* (*how)(PyObject*)) {
  PyObject* text = o ? how(o) : nullptr;
  const char* utf8 = text ? PyUnicode_AsUTF8(text) : nullptr;
  std::string s = utf8 ? utf8 : "?";
  Py_XDECREF(text);
  PyErr_Clear();
  return s;
}
std::string repr(PyObject* o) { return text_of(o, PyObject_Repr); }

bool is_identifier(std::string_view s) {
  if (s.empty() || std::isdigit(static_cast<unsigned char>(s[0]))) return false;
  return std::all_of(s.begin(), s.end(),
                     [](unsigned char c) { return c < 128 && (std::isalnum(c) || c == '_'); });
}

// Whether repr() of it gives an equal object.
bool is_literal(PyObject* o) {
  if (PyTuple_CheckExact(o)) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(o); ++i) {
      if (!is_literal(PyTuple_GET_ITEM(o, i))) return false;
    }
    return true;
  }
  if (PyFloat_CheckExact(o)) return std::isfinite(PyFloat_AS_DOUBLE(o));
  return o == Py_None || o == Py_Ellipsis || o == Py_NotImplemented || PyBool_Check(o) ||
         PyLong_CheckExact(o) || PyUnicode_CheckExact(o) || PyBytes_CheckExact(o);
}

bool is_dotted(std::string_view s) {
  for (;;) {
    const size_t dot = s.find('.');
    if (!is_identifier(s.substr(0, dot))) return false;
    if (dot == std::string_view::npos) return true;
    s.remove_prefix(dot + 1);
  }
}

}  // namespace

PrologueWriter::PrologueWriter(const GuardProgram& program,
                               const std::vector<std::string>& arguments, PyObject* constants)
    : program_(program), arguments_(arguments), constants_(constants) {
  for (const std::string& name : arguments) taken_.insert(name);
}

std::string PrologueWriter::constant(PyObject* o, std::string_view hint) {
  return is_literal(o) ? repr(o) : named(o, hint);
}

std::string PrologueWriter::same(PyObject* o, std::string_view hint) {
  const bool single = o == Py_None || o == Py_Ellipsis || o == Py_NotImplemented || PyBool_Check(o);
  return single ? repr(o) : named(o, hint);
}

std::string PrologueWriter::named(PyObject* o, std::string_view hint) {
  const auto known = names_.find(o);
  if (known != names_.end()) return known->second;
  std::string base;
  for (const char c : hint) {
    const bool fits = std::isalnum(static_cast<unsigned char>(c));
    if (fits || (!base.empty() && base.back() != '_')) base += fits ? c : '_';
  }
  while (!base.empty() && base.back() == '_') base.pop_back();
  if (!is_identifier(base)) base = cat("c_", base);
  const std::string name = local(base);
  PyDict_SetItemString(constants_, name.c_str(), o);
  return names_[o] = name;
}

std::string PrologueWriter::local(std::string_view hint) {
  std::string name(hint);
  for (int n = 1; !taken_.insert(name).second; ++n) name = cat(hint, "_", n);
  return name;
}

std::string PrologueWriter::constant_slot(int slot, PyObject* o) {
  std::string_view label = program_.labels_.at(slot);
  if (PyDict_Check(o) && label.ends_with(".__dict__")) {
    label.remove_suffix(9);
    const std::string module(label);
    PyObject* found = is_dotted(label) ? PyImport_ImportModule(module.c_str()) : nullptr;
    const bool same = found && PyModule_Check(found) && PyModule_GetDict(found) == o;
    Py_XDECREF(found);
    PyErr_Clear();
    const std::string root = module.substr(0, module.find('.'));
    if (same &&
        (imports_.contains(module) || taken_.insert(root).second || roots_.contains(root))) {
      imports_.insert(module);
      roots_.insert(root);
      return cat(module, ".__dict__");
    }
    return constant(o, cat("globals of ", module));
  }
  if (PyType_Check(o)) {
    const size_t dot = label.rfind('.');
    if (dot != label.npos) label.remove_prefix(dot + 1);
  }
  return constant(o, label);
}

std::string PrologueWriter::path(int slot) {
  const GuardInstruction& g =
      program_.code_[static_cast<size_t>(program_.code_of_slot_[static_cast<size_t>(slot)])];
  const auto parent = [&] { return path(g.parent); };
  const auto attribute = [&](const std::string& of, PyObject* name) {
    const std::string text = PyUnicode_Check(name) ? text_of(name, PyObject_Str) : "";
    return is_identifier(text) ? cat(of, ".", text) : std::string();
  };
  switch (g.fetch) {
    case Fetch::kConst: return constant_slot(slot, g.expect);
    case Fetch::kArg: return arguments_[static_cast<size_t>(g.aux)];
    case Fetch::kInstanceDict: return cat(parent(), ".__dict__");
    case Fetch::kDictItem: {
      const std::string from = parent();
      if (from.ends_with(".__dict__")) {
        const std::string plain = attribute(from.substr(0, from.size() - 9), g.key);
        if (!plain.empty()) return plain;
      }
      return cat(from, "[", constant(g.key, "key"), "]");
    }
    case Fetch::kSequenceItem: return cat(parent(), "[", g.aux, "]");
    case Fetch::kMappingItem: return cat(parent(), "[", constant(g.key, "key"), "]");
    case Fetch::kReferent: return cat(parent(), "()");
    case Fetch::kCell: return cat(parent(), ".cell_contents");
    case Fetch::kAttr: return attribute(parent(), g.key);
    case Fetch::kType: return cat("type(", parent(), ")");
    case Fetch::kCompute: {
      const std::string first = parent();
      std::string text =
          computation_text(g.key, first, g.aux >= 0 ? path(static_cast<int>(g.aux)) : "");
      PyObject* home = PyObject_GetAttrString(g.key, "__module__");
      const std::string module = home ? text_of(home, PyObject_Str) : "";
      Py_XDECREF(home);
      PyErr_Clear();
      if (text.starts_with(module + ".")) {
        imports_.insert(module);
        taken_.insert(module);
      }
      return text;
    }
    case Fetch::kSlot: break;
  }
  return "?";
}

// `x == 2.0`, with what Python's == leaves open.
std::string PrologueWriter::equal(const std::string& x, PyObject* o) {
  if (PyFloat_CheckExact(o) && (!std::isfinite(PyFloat_AS_DOUBLE(o)) || PyFloat_AS_DOUBLE(o) == 0))
    return cat("repr(", x, ") == '", repr(o), "' and type(", x, ") is float");
  const std::string type = Py_TYPE(o)->tp_name;
  const bool is_float = PyFloat_Check(o) && !PyFloat_CheckExact(o);
  if (is_float || PyComplex_CheckExact(o) || PyTuple_Check(o) || PySlice_Check(o) ||
      PyAnySet_Check(o)) {
    return cat("same_value(", x, ", ", constant(o, type), ")");
  }
  const bool builtin = PyLong_CheckExact(o) || PyFloat_CheckExact(o) || PyUnicode_CheckExact(o) ||
                       PyBytes_CheckExact(o);
  return cat(x, " == ", constant(o, type), " and type(", x, ") is ",
             builtin ? type : constant(reinterpret_cast<PyObject*>(Py_TYPE(o)), type));
}

bool PrologueWriter::has_dict(int slot) const {
  for (const GuardInstruction& g : program_.code_) {
    if (g.fetch == Fetch::kSlot && g.check == Check::kType && g.parent == slot)
      return reinterpret_cast<PyTypeObject*>(g.expect)->tp_dictoffset != 0;
  }
  return true;
}

void PrologueWriter::condition(const GuardInstruction& g) {
  const auto require = [&](const std::string& text) { lines_ += cat("  assert ", text, "\n"); };
  const GuardInstruction& from =
      program_.code_[static_cast<size_t>(program_.code_of_slot_[static_cast<size_t>(g.parent)])];
  if (g.check == Check::kAbsent && from.fetch == Fetch::kInstanceDict && !has_dict(from.parent))
    return;  // its instances have no attributes of their own
  const std::string x = path(g.parent);
  switch (g.check) {
    case Check::kNone: return;
    case Check::kType: {
      const char* name = reinterpret_cast<PyTypeObject*>(g.expect)->tp_name;
      const char* dot = std::strrchr(name, '.');
      return require(cat("type(", x, ") is ", constant(g.expect, dot ? dot + 1 : name)));
    }
    case Check::kIdentity: {
      if (from.fetch == Fetch::kConst && from.expect == g.expect) return;
      PyObject* name =
          is_literal(g.expect) ? nullptr : PyObject_GetAttrString(g.expect, "__name__");
      PyErr_Clear();
      const std::string hint = name ? text_of(name, PyObject_Str) : Py_TYPE(g.expect)->tp_name;
      Py_XDECREF(name);
      return require(cat(x, " is ", same(g.expect, hint)));
    }
    case Check::kSame: return require(cat(x, " is ", path(static_cast<int>(g.aux))));
    case Check::kNotSame: return require(cat(x, " is not ", path(static_cast<int>(g.aux))));
    case Check::kInt: return require(cat(x, " == ", g.aux, " and type(", x, ") is int"));
    case Check::kValue: return require(equal(x, g.expect));
    case Check::kNotEmpty: return require(cat("len(", x, ") > 0"));
    case Check::kLength: return require(cat("len(", x, ") == ", g.aux));
    case Check::kKeys: {
      bool names = true;  // others may be equal and of another type
      for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(g.expect); ++i)
        names = names && PyUnicode_CheckExact(PyTuple_GET_ITEM(g.expect, i));
      if (names) return require(cat("tuple(", x, ") == ", constant(g.expect, "keys")));
      return require(cat("same_value(tuple(", x, "), ", constant(g.expect, "keys"), ")"));
    }
    case Check::kBuffer: return require(cat("buffer(", x, ") == ", constant(g.expect, "contents")));
    case Check::kAbsent: return require(cat(constant(g.key, "key"), " not in ", x));
    case Check::kCode: {
      const GuardProgram::Function& f = program_.functions_[static_cast<size_t>(g.aux)];
      const std::pair<const char*, PyObject*> parts[] = {
          {"__code__", f.code}, {"__defaults__", f.defaults}, {"__kwdefaults__", f.kwdefaults}};
      for (const auto& [name, part] : parts)
        require(cat(x, ".", name, " is ", part ? same(part, cat(x, name)) : "None"));
      return;
    }
    case Check::kVersion: {
      const GuardProgram::Lookups& table = program_.lookups_[static_cast<size_t>(g.aux)];
      if (table.mro) require(cat(x, ".__mro__ is ", same(table.mro, cat(x, "_mro"))));
      for (const auto& [name, found] : table.names) {
        const std::string text = text_of(name, PyObject_Str);
        require(cat("lookup(", x, ", '", text, "') is ",
                    found ? same(found, cat(x, "_", text)) : "absent"));
      }
      return;
    }
  }
}

std::string PrologueWriter::body() {
  std::vector<bool> looked_at(program_.num_slots_);
  for (const GuardInstruction& g : program_.code_) {
    if (g.parent >= 0) looked_at[static_cast<size_t>(g.parent)] = true;
    const bool second =
        g.fetch == Fetch::kCompute || g.check == Check::kSame || g.check == Check::kNotSame;
    if (second && g.aux >= 0) looked_at[static_cast<size_t>(g.aux)] = true;
  }
  for (size_t at = 0; at < program_.code_.size(); ++at) {
    const GuardInstruction& g = program_.code_[at];
    if (g.fetch == Fetch::kSlot) {
      condition(g);
    } else if (g.fetch == Fetch::kDictItem &&
               !looked_at[static_cast<size_t>(program_.slot_of_code_[at])]) {
      lines_ += cat("  assert ", constant(g.key, "key"), " in ", path(g.parent), "\n");
    }
  }
  return lines_;
}

std::string PrologueWriter::imports() const {
  std::string text;
  for (const std::string& module : imports_) text += cat("  import ", module, "\n");
  return text;
}

}  // namespace fulmen::jit

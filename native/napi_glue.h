// The little of Node-API that the addon needs: values in and out, and C++ errors as JavaScript errors with `kind` and `code`.
#pragma once
#include <node_api.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "error.h"

namespace leap::glue {

inline napi_value number(napi_env env, double value) {
  napi_value result;
  napi_create_double(env, value, &result);
  return result;
}

inline napi_value boolean(napi_env env, bool value) {
  napi_value result;
  napi_get_boolean(env, value, &result);
  return result;
}

inline napi_value text(napi_env env, const std::string& value) {
  napi_value result;
  napi_create_string_utf8(env, value.data(), value.size(), &result);
  return result;
}

inline napi_value undefined(napi_env env) {
  napi_value result;
  napi_get_undefined(env, &result);
  return result;
}

inline napi_value object(napi_env env, const std::vector<std::pair<const char*, napi_value>>& fields = {}) {
  napi_value result;
  napi_create_object(env, &result);
  for (const auto& [name, value] : fields) napi_set_named_property(env, result, name, value);
  return result;
}

inline double toNumber(napi_env env, napi_value value) {
  double result = 0;
  if (napi_get_value_double(env, value, &result) != napi_ok) throw Error("bad-argument", "expected a number");
  return result;
}

inline std::string toText(napi_env env, napi_value value) {
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, nullptr, 0, &length) != napi_ok) throw Error("bad-argument", "expected a string");
  std::string result(length, 0);
  napi_get_value_string_utf8(env, value, result.data(), length + 1, &length);
  return result;
}

// An optional field of an options object.
inline bool field(napi_env env, napi_value options, const char* name, napi_value* value) {
  napi_valuetype type = napi_undefined;
  return napi_get_named_property(env, options, name, value) == napi_ok && napi_typeof(env, *value, &type) == napi_ok && type != napi_undefined;
}
inline double field(napi_env env, napi_value options, const char* name, double otherwise) {
  napi_value value;
  return field(env, options, name, &value) ? toNumber(env, value) : otherwise;
}
inline bool field(napi_env env, napi_value options, const char* name, bool otherwise) {
  napi_value value;
  bool result = otherwise;
  return field(env, options, name, &value) && napi_get_value_bool(env, value, &result) == napi_ok ? result : otherwise;
}

inline void throwError(napi_env env, const Error& error) {
  napi_value result;
  napi_create_error(env, nullptr, text(env, error.what()), &result);
  napi_set_named_property(env, result, "kind", text(env, error.kind));
  napi_set_named_property(env, result, "code", number(env, error.code));
  napi_throw(env, result);
}

// What a function of ours was called with. `self` is what it was defined with.
struct Call {
  static constexpr size_t kMost = 4;
  napi_env env = nullptr;
  size_t count = kMost;
  napi_value arguments[kMost] = {};
  void* self = nullptr;

  double number(size_t at) const { return toNumber(env, arguments[at]); }
  uint32_t index(size_t at) const { return static_cast<uint32_t>(static_cast<int64_t>(number(at))); }
  uint64_t wide(size_t at) const { return static_cast<uint64_t>(number(at)); }
};

using Function = napi_value (*)(const Call&);

template <Function function>
napi_value entry(napi_env env, napi_callback_info info) {
  Call call;
  call.env = env;
  napi_get_cb_info(env, info, &call.count, call.arguments, nullptr, &call.self);
  try {
    return function(call);
  } catch (const Error& error) {
    throwError(env, error);
  } catch (const std::exception& error) {
    throwError(env, Error("failed", error.what()));
  }
  return nullptr;
}

inline void define(napi_env env, napi_value target, const char* name, napi_callback callback, void* self = nullptr) {
  napi_value function;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, self, &function);
  napi_set_named_property(env, target, name, function);
}

// A typed array over memory of ours. The memory must live until the environment ends: nothing here frees it.
inline napi_value view(napi_env env, napi_typedarray_type type, void* memory, size_t count, size_t bytesEach) {
  napi_value buffer, result;
  if (napi_create_external_arraybuffer(env, memory, count * bytesEach, nullptr, nullptr, &buffer) != napi_ok) {
    throw Error("failed", "this JavaScript engine refuses arrays over native memory");
  }
  napi_create_typedarray(env, type, count, buffer, 0, &result);
  return result;
}

// The bytes of a Uint8Array that must hold at least `least`.
inline uint8_t* bytes(const Call& call, size_t at, size_t least) {
  napi_typedarray_type type;
  size_t length = 0;
  void* data = nullptr;
  if (napi_get_typedarray_info(call.env, call.arguments[at], &type, &length, &data, nullptr, nullptr) != napi_ok || type != napi_uint8_array || length < least) {
    throw Error("bad-argument", "expected a Uint8Array of at least " + std::to_string(least) + " bytes");
  }
  return static_cast<uint8_t*>(data);
}

}  // namespace leap::glue

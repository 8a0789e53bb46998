// What every function of the addon needs: arguments unpacked and checked, values made, an Error of ours thrown as
// JavaScript's.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>

#include <napi.h>

#include "base/error.h"

namespace leap {

using Info = Napi::CallbackInfo;

inline double numberAt(const Info& info, size_t at) {
  if (!info[at].IsNumber()) throw Error(ErrorKind::kBadArgument, "expected a number");
  return info[at].As<Napi::Number>().DoubleValue();
}
inline uint32_t indexAt(const Info& info, size_t at) {
  return static_cast<uint32_t>(static_cast<int64_t>(numberAt(info, at)));
}
inline uint64_t wideAt(const Info& info, size_t at) { return static_cast<uint64_t>(numberAt(info, at)); }

// The bytes of a Uint8Array that must hold at least `least`.
inline uint8_t* bytesAt(const Info& info, size_t at, size_t least) {
  if (info[at].IsTypedArray()) {
    auto array = info[at].As<Napi::TypedArray>();
    if (array.TypedArrayType() == napi_uint8_array && array.ByteLength() >= least)
      return info[at].As<Napi::Uint8Array>().Data();
  }
  throw Error(ErrorKind::kBadArgument, "expected a Uint8Array of at least " + std::to_string(least) + " bytes");
}

inline Napi::Value number(const Info& info, double value) { return Napi::Number::New(info.Env(), value); }
inline Napi::Value boolean(const Info& info, bool value) { return Napi::Boolean::New(info.Env(), value); }
inline Napi::Value text(const Info& info, const std::string& value) { return Napi::String::New(info.Env(), value); }
inline Napi::Value undefined(const Info& info) { return info.Env().Undefined(); }
inline Napi::Value object(const Info& info, std::initializer_list<std::pair<const char*, Napi::Value>> fields) {
  auto result = Napi::Object::New(info.Env());
  for (const auto& [name, value] : fields) result.Set(name, value);
  return result;
}

// A typed array over memory of ours, which outlives it: see Lifetime above.
template <typename Word>
Napi::Value view(const Info& info, Word* memory, size_t count) {
  return Napi::TypedArrayOf<Word>::New(info.Env(), count,
                                       Napi::ArrayBuffer::New(info.Env(), memory, count * sizeof(Word)), 0);
}

// An Error of ours is an Error in JavaScript, with its kind and code.
inline Napi::Error thrown(Napi::Env env, const Error& error) {
  auto result = Napi::Error::New(env, error.what());
  result.Set("kind", Napi::String::New(env, wordOf(error.kind)));
  result.Set("code", Napi::Number::New(env, error.code));
  return result;
}

template <Napi::Value (*function)(const Info&)>
Napi::Value entry(const Info& info) {
  try {
    return function(info);
  } catch (const Error& error) { throw thrown(info.Env(), error); } catch (const Napi::Error&) {
    throw;
  } catch (const std::exception& error) { throw thrown(info.Env(), Error(ErrorKind::kFailed, error.what())); }
}

template <Napi::Value (*function)(const Info&)>
void define(Napi::Object target, const char* name, void* self = nullptr) {
  target.Set(name, Napi::Function::New<entry<function>>(target.Env(), name, self));
}

}  // namespace leap

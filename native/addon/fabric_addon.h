// The fabric as JavaScript sees it; src/core/fabric.ts declares the same.
#pragma once
#include <napi.h>

#include "rdma/fabric.h"

namespace leap {

// Puts connect, send, close and takeEvents on an object; what they work on must outlive it. Whoever polls the fabric
// does that himself.
void defineFabric(Napi::Object target, Fabric* fabric);

// createFabric(options) and rdma().
void defineFabricExports(Napi::Object exports);

}  // namespace leap

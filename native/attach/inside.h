// What an attach sets up inside the target, by calls made in its name. Each function pushes on `undo` what takes its
// work back.
#pragma once
#include "attach/attach.h"
#include "base/undo.h"
#include "target/tracee.h"

namespace leap {

// Behind every step of a bracket: tests make the n-th one fail (attach.h: failAtStep).
void step(const char* name);

// Our pages in the target. Between the writable parts lie others, so that the kernel never joins or splits them as the
// arena is registered and not.
Area mapArea(Tracee& target, Undo& undo);
// False after exec: other memory stands there.
bool areaIsThere(Tracee& target, const Area& area);

// Hands a descriptor of ours to the target, over a socket pair that the target makes. Returns its number there.
int passDescriptor(Tracee& target, const Area& area, int fd, Undo& undo);
// A userfaultfd for the target's memory, made in the target: its number there.
int makeUserfaultfd(Tracee& target, const Area& area, Undo& undo);
// A duplicate under a high number, so that the numbers of the target's own next descriptors stay what they would have
// been.
int moveHigh(Tracee& target, int fd, Undo& undo);

void closeInside(Tracee& target, int fd);
Descriptor takeOut(Tracee& target, int fd);  // a duplicate for us of a descriptor of the target's
bool sameFile(const Tracee& target, int fd, int ours);

// Before our pages are unmapped: a helper that was killed in the midst of its moves leaves the arena registered with
// userfaultfd, and unmapping would then raise an event and wait for us to read it.
void releaseArena(int uffd, const Area& area);

}  // namespace leap

# Products and sums of matrices that together do not fit: rows, columns and blocks in turn.
import sys
import numpy as np

size = 1600
random = np.random.default_rng(1)
a, b, c = (random.random((size, size)) for _ in range(3))
print("READY", flush=True)
sys.stdin.readline()
for _ in range(2):
    c += a.T
    c[::3, :] *= 0.5
    total = a @ b[:, :64]
    b += c.sum(axis=0)
    a[:] = np.roll(a, 1, axis=0)
print("DONE", float(c[0, 0] + total[0, 0]), flush=True)

# PageRank on a generated graph: in-edges in compressed rows, a few of the vertices have most of the links.
import sys
import numpy as np

vertices, edges, rounds = 400_000, 4_000_000, 2
random = np.random.default_rng(1)
sources = (vertices * random.random(edges) ** 3).astype(np.int32)
targets = np.sort((vertices * random.random(edges)).astype(np.int32))
rows = np.searchsorted(targets, np.arange(vertices + 1))
del targets
out = np.maximum(1, np.bincount(sources, minlength=vertices))
rank = np.full(vertices, 1 / vertices)
print("READY", flush=True)
sys.stdin.readline()
for _ in range(rounds):
    share = rank / out
    sums = np.concatenate(([0.0], np.cumsum(share[sources])))
    rank = 0.15 / vertices + 0.85 * (sums[rows[1:]] - sums[rows[:-1]])
print("DONE", rank.max(), flush=True)

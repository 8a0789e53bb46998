/**
 * Real work in Python: dictionaries, sorting, hashing, garbage; about 60 MB of it. Prints READY when it is built, and
 * DONE with a checksum of all.
 */
export const pythonWork = `
import gc, hashlib, json, random, sys
rng = random.Random(7)
table = {f"key-{i}": [rng.random(), rng.getrandbits(40), "v" * rng.randrange(60)] for i in range(70000)}
numbers = [rng.getrandbits(60) for _ in range(200000)]
print("READY", flush=True)
sys.stdin.readline()
digest = hashlib.sha256()
for turn in range(1):
    numbers.sort(key=lambda n: (n * 2654435761 + turn) % 1000003)
    digest.update(repr(numbers[::997]).encode())
    for i in range(0, 70000, 3):
        table.setdefault(f"key-{i}", [0, 0, "back"])[1] += turn + i
    for i in range(turn, 70000, 50):
        table[f"new-{turn}-{i}"] = table.pop(f"key-{i}", [0, 0, ""])
    gc.collect()
    text = json.dumps({k: table[k] for k in sorted(table)[::5]})
    digest.update(text.encode())
    digest.update(str(sum(entry[1] for entry in json.loads(text).values())).encode())
digest.update(str(sum(numbers)).encode())
print("DONE", digest.hexdigest(), flush=True)
`;

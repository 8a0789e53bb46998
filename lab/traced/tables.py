# Tables of a data analysis with pandas: grouped, joined, sorted and pivoted.
import sys
import numpy as np
import pandas as pd

rows = 400_000
random = np.random.default_rng(1)
sales = pd.DataFrame(
    {
        "customer": random.integers(0, 40_000, rows),
        "product": random.integers(0, 500, rows),
        "amount": random.random(rows),
        "day": random.integers(0, 365, rows).astype(np.int32),
    }
)
customers = pd.DataFrame({"customer": np.arange(40_000), "city": random.integers(0, 200, 40_000), "name": [f"customer {i}" for i in range(40_000)]})
print("READY", flush=True)
sys.stdin.readline()
joined = sales.merge(customers, on="customer")
by_city = joined.groupby(["city", "product"])["amount"].agg(["sum", "mean"])
ordered = joined.sort_values(["day", "amount"])
pivot = ordered.pivot_table(index="city", columns="day", values="amount", aggfunc="sum")
print("DONE", float(by_city["sum"].sum()), float(pivot.sum().sum()), flush=True)

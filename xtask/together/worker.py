"""One of the processes that hold one limit together: asks CALLS times for one client and prints how often it was allowed."""

import sys

import ratelimit

_, name, calls = sys.argv
with ratelimit.Limiter("100/day", max_keys=1000, share=name) as limiter:
    print(sum(limiter.is_allowed("client-7") for _ in range(int(calls))))

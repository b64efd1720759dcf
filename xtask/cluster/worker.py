"""One node of the cluster in Python: asks for one client at a steady rate and says ten times a second what it got.

Arguments: NODE LISTEN SEEDS CERTS SNAPSHOT LIMIT RATE. Input: a line "limit TEXT" changes the limit on all nodes; the end of the input
says goodbye.
"""

import sys
import threading
import time

import ratelimit

_, node, listen, seeds, certs, snapshot, limit, rate = sys.argv
limiter = ratelimit.Limiter(
    limit,
    path=snapshot,
    snapshot_every=0.1,
    cluster={"node": node, "listen": listen, "seeds": seeds.split(","), "certs": certs},
)
limiter.ready(timeout=0)
done = threading.Event()


def obey() -> None:
    for line in sys.stdin:
        limiter.set_limit(line.removeprefix("limit ").strip())
    done.set()


threading.Thread(target=obey, daemon=True).start()
offered = admitted = 0
start = told = time.monotonic()
while not done.is_set():
    now = time.monotonic()
    due = int((now - start) * float(rate))
    admitted += sum(limiter.is_allowed("client-7") for _ in range(due - offered))
    offered = due
    if now - told >= 0.1:
        told = now
        print(admitted, offered, flush=True)
    time.sleep(0.001)
limiter.close()
print(admitted, offered, flush=True)

"""What `sightline serve` stands: clients that ask without a pause, each its own connection, on this machine.

    python benchmarks/serve_load.py RUN PICTURES [--clients 1 16] [--seconds 15]

RUN: a finished run. PICTURES: a folder of pictures to ask about. Prints requests a second, the times of the middle and
of the slowest hundredth, and every answer that was not 200. The server is another process, as users have it.
"""

import argparse
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np


def started(run: Path) -> tuple[subprocess.Popen[str], str]:
    """(the server's process, its address) once it answers and its training pictures are known."""
    command = [sys.executable, "-m", "sightline", "serve", str(run), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    url = next(line.split()[-1] for line in process.stdout if line.startswith("try it at"))
    while True:
        near = httpx.get(f"{url}api/models", timeout=60).json()["models"][0]["near"]
        if near is None or near["done"] == near["pictures"]:
            return process, url
        time.sleep(0.5)


def load(url: str, pictures: list[bytes], clients: int, seconds: float) -> tuple[list[float], Counter[int]]:
    """(seconds of each request, how often each status came) of so many clients at once."""
    times: list[float] = []
    statuses: Counter[int] = Counter()
    until = time.monotonic() + seconds

    def ask(number: int) -> None:
        with httpx.Client(base_url=url, timeout=120) as client:
            place = number
            while time.monotonic() < until:
                start = time.perf_counter()
                status = client.post("/api/predict", content=pictures[place % len(pictures)]).status_code
                times.append(time.perf_counter() - start)
                statuses[status] += 1
                place += clients

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times, statuses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--seconds", type=float, default=15)
    options = parser.parse_args()
    files = sorted(path for path in options.pictures.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    pictures = [path.read_bytes() for path in files[:200]]
    process, url = started(options.run)
    try:
        load(url, pictures, 2, 2)
        for clients in options.clients:
            times, statuses = load(url, pictures, clients, options.seconds)
            middle, slow = (1000 * np.quantile(times, share) for share in (0.5, 0.99))
            wrong = {status: count for status, count in statuses.items() if status != 200}
            rate = len(times) / options.seconds
            print(f"{clients:>3} clients: {rate:6.1f} requests/s, {middle:6.0f} ms (1 in 100: {slow:.0f} ms)", end="")
            print(f", errors: {wrong or 'none'}")
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()

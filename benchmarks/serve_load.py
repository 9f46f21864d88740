"""Load test of `sightline serve` on this machine: concurrent clients that send requests without a pause.

    python benchmarks/serve_load.py RUN IMAGES [--clients 1 16] [--seconds 15]

RUN: the folder of a finished run. IMAGES: a folder of images to predict. Prints the requests per second, the median and
the 99th percentile of the response time, and the number of each HTTP status other than 200. The server is a separate
process, and each client has its own connection.
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


def start_server(run: Path) -> tuple[subprocess.Popen[str], str]:
    """Start the server, wait until it has indexed the training images, and return its process and its URL."""
    command = [sys.executable, "-m", "sightline", "serve", str(run), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    url = next(line.split()[-1] for line in process.stdout if line.startswith("try it at"))
    while True:
        near = httpx.get(f"{url}api/models", timeout=60).json()["models"][0]["near"]
        if near is None or near["done"] == near["pictures"]:
            return process, url
        time.sleep(0.5)


def run_clients(url: str, images: list[bytes], clients: int, seconds: float) -> tuple[list[float], Counter[int]]:
    """Return the response time of each request in seconds, and the number of responses by HTTP status."""
    times: list[float] = []
    statuses: Counter[int] = Counter()
    until = time.monotonic() + seconds

    def send_requests(first: int) -> None:
        with httpx.Client(base_url=url, timeout=120) as client:
            index = first
            while time.monotonic() < until:
                start = time.perf_counter()
                status = client.post("/api/predict", content=images[index % len(images)]).status_code
                times.append(time.perf_counter() - start)
                statuses[status] += 1
                index += clients

    threads = [threading.Thread(target=send_requests, args=(first,)) for first in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times, statuses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16], help="numbers of concurrent clients")
    parser.add_argument("--seconds", type=float, default=15, help="length of the test with each number of clients")
    options = parser.parse_args()
    files = sorted(path for path in options.images.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    images = [path.read_bytes() for path in files[:200]]
    process, url = start_server(options.run)
    try:
        run_clients(url, images, clients=2, seconds=2)  # warm up
        for clients in options.clients:
            times, statuses = run_clients(url, images, clients, options.seconds)
            median, slow = (1000 * np.quantile(times, share) for share in (0.5, 0.99))
            errors = {status: count for status, count in statuses.items() if status != 200}
            rate = len(times) / options.seconds
            print(
                f"{clients:>3} clients: {rate:6.1f} requests/s, median {median:6.0f} ms, 99th percentile {slow:.0f} ms",
                end="",
            )
            print(f", errors by status: {errors or 'none'}")
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()

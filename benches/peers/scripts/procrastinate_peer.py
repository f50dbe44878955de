"""Measures Python's Procrastinate on the same work as the other queues. Prints one line of JSON."""

import asyncio
import json
import logging
import sys
import time

import procrastinate

URL = sys.argv[1]
SINGLE, BULK, LATENCY, CONCURRENCY = map(int, sys.argv[2:])
BATCH = 1_000
TEXT = "a short string"

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=URL))
starts: asyncio.Queue = asyncio.Queue()


@app.task(queue="work", name="no_op")
async def no_op(a, b):
    pass


@app.task(queue="work", name="timed")
async def timed(a, b):
    starts.put_nowait(time.perf_counter())


async def latencies():
    worker = asyncio.create_task(app.run_worker_async(concurrency=CONCURRENCY, install_signal_handlers=False))
    await asyncio.sleep(1)
    times = []
    for a in range(LATENCY):
        await asyncio.sleep(0.02)
        began_at = time.perf_counter()
        await timed.defer_async(a=a, b=TEXT)
        started_at = await asyncio.wait_for(starts.get(), 30)
        times.append(1_000 * (started_at - began_at))
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    return times


async def left():
    counts = await app.connector.execute_query_one_async(
        "SELECT count(*) AS number FROM procrastinate_jobs WHERE status <> 'succeeded'"
    )
    return counts["number"]


async def main():
    logging.disable(logging.CRITICAL)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()

        began_at = time.perf_counter()
        for a in range(SINGLE):
            await no_op.defer_async(a=a, b=TEXT)
        single = SINGLE / (time.perf_counter() - began_at)

        began_at = time.perf_counter()
        for batch in range(BULK // BATCH):
            await no_op.batch_defer_async(*({"a": batch * BATCH + a, "b": TEXT} for a in range(BATCH)))
        bulk = BULK / (time.perf_counter() - began_at)

        began_at = time.perf_counter()
        await app.run_worker_async(concurrency=CONCURRENCY, wait=False, install_signal_handlers=False)
        work = (SINGLE + BULK) / (time.perf_counter() - began_at)
        if number := await left():
            raise SystemExit(f"{number} jobs are left")

        times = await latencies()
    print(json.dumps({"single": single, "bulk": bulk, "work": work, "latency": times}))


asyncio.run(main())

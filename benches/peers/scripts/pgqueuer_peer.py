"""Measures PgQueuer on the same work as the other queues. Prints one line of JSON.

The setting is the size of its batches. Its documentation advises the same number for a worker's throughput.
"""

import asyncio
import json
import logging
import sys
import time
from datetime import timedelta

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

URL = sys.argv[1]
SINGLE, BULK, LATENCY, SETTING = map(int, sys.argv[2:])
BATCH = 1_000
ARGUMENTS = json.dumps({"a": 0, "b": "a short string"}).encode()

starts: asyncio.Queue = asyncio.Queue()
ran = 0
is_timed = False


async def worker():
    application = PgQueuer(AsyncpgDriver(await asyncpg.connect(URL)))

    @application.entrypoint("no_op")
    async def no_op(job):
        global ran
        json.loads(job.payload)
        ran += 1
        if is_timed:
            starts.put_nowait(time.perf_counter())

    return application


async def left(connection):
    return await connection.fetchval("SELECT count(*) FROM pgqueuer")


async def main():
    global is_timed
    logging.disable(logging.CRITICAL)
    connection = await asyncpg.connect(URL)
    queries = Queries(AsyncpgDriver(connection))
    await queries.install()

    began_at = time.perf_counter()
    for _ in range(SINGLE):
        await queries.enqueue("no_op", ARGUMENTS)
    single = SINGLE / (time.perf_counter() - began_at)

    began_at = time.perf_counter()
    for _ in range(BULK // BATCH):
        await queries.enqueue(["no_op"] * BATCH, [ARGUMENTS] * BATCH, [0] * BATCH)
    bulk = BULK / (time.perf_counter() - began_at)

    application = await worker()
    began_at = time.perf_counter()
    running = asyncio.create_task(application.run(batch_size=SETTING, dequeue_timeout=timedelta(seconds=5)))
    while ran < SINGLE + BULK or await left(connection):
        await asyncio.sleep(0.005)
    work = (SINGLE + BULK) / (time.perf_counter() - began_at)

    is_timed = True
    times = []
    for _ in range(LATENCY):
        await asyncio.sleep(0.02)
        began_at = time.perf_counter()
        await queries.enqueue("no_op", ARGUMENTS)
        started_at = await asyncio.wait_for(starts.get(), 30)
        times.append(1_000 * (started_at - began_at))
    application.shutdown.set()
    await running
    print(json.dumps({"single": single, "bulk": bulk, "work": work, "latency": times}))


asyncio.run(main())

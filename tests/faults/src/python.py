"""The Python side of the rig: a worker or a deferrer, with a ledger like those of the other processes."""

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import threading
import time

import procrastinate

arguments = argparse.ArgumentParser()
arguments.add_argument("command", choices=["worker", "deferrer"])
for option in ["url", "name", "ledger"]:
    arguments.add_argument(f"--{option}", required=True)
arguments = arguments.parse_args()

ledger = os.open(arguments.ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def write(line, **fields):
    """Writes a line with one system call. A process that cannot write its ledger proves nothing, so it ends."""
    text = json.dumps({"line": line, **fields}) + "\n"
    try:
        os.write(ledger, text.encode())
    except OSError:
        os.abort()


async def run(context, token, seconds):
    number, job, pid = random.getrandbits(63), context.job, os.getpid()
    write(
        "begin",
        run=number,
        job=job.id,
        attempts=job.attempts,
        lock=job.lock,
        token=token,
        at=time.monotonic_ns(),
        pid=pid,
    )
    ending = "dropped"
    try:
        await asyncio.sleep(seconds)
        ending = "succeeded"
    finally:
        write("end", run=number, job=job.id, ending=ending, at=time.monotonic_ns(), pid=pid)


async def brief(context, /, token):
    await run(context, token, 0.05)


async def slow(context, /, token):
    await run(context, token, 1.0)


def new_app():
    connector = procrastinate.PsycopgConnector(
        conninfo=arguments.url, min_size=1, max_size=4, timeout=5
    )
    app = procrastinate.App(connector=connector)
    for task in [brief, slow]:
        app.task(name=f"shared:{task.__name__}", pass_context=True)(task)
    return app


async def until_it_is_stopped(work):
    """Starts again what fails, as a service manager would."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    while not stopped.is_set():
        working = asyncio.create_task(work())
        waiting = asyncio.create_task(stopped.wait())
        await asyncio.wait([working, waiting], return_when=asyncio.FIRST_COMPLETED)
        working.cancel()
        waiting.cancel()
        for result in await asyncio.gather(working, return_exceptions=True):
            print(repr(result), file=sys.stderr, flush=True)
        if not stopped.is_set():
            await asyncio.sleep(0.5)


async def work():
    app = new_app()
    async with app.open_async():
        await app.run_worker_async(
            queues=["python", "shared"],
            name=arguments.name,
            concurrency=3,
            fetch_job_polling_interval=1,
            abort_job_polling_interval=1,
            update_heartbeat_interval=0.5,
            stalled_worker_timeout=3,
            shutdown_graceful_timeout=1,
            install_signal_handlers=False,
        )


async def defer():
    app = new_app()
    async with app.open_async():
        while True:
            await asyncio.sleep(random.uniform(0.1, 0.3))
            name = "shared:slow" if random.random() < 0.1 else "shared:brief"
            token = f"python-{os.getpid()}-{random.getrandbits(60)}"
            lock = f"shared lock {random.randrange(5)}" if random.random() < 0.3 else None
            queue = random.choice(["python", "shared"])
            job = await app.configure_task(name, queue=queue, lock=lock).defer_async(token=token)
            write("acknowledged", token=token, job=job)


def end_with_the_rig():
    sys.stdin.read()
    os._exit(0)


if arguments.command == "worker":
    write("python", pid=os.getpid())
threading.Thread(target=end_with_the_rig, daemon=True).start()
asyncio.run(until_it_is_stopped(work if arguments.command == "worker" else defer))

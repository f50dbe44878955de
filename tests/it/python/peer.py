"""The Python side of the tests: one command with one JSON value, answered by lines of JSON on standard output."""

import asyncio
import datetime
import decimal
import inspect
import json
import logging
import os
import sys
import threading

import procrastinate
from procrastinate import exceptions

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(
        conninfo=os.environ["PEER_DATABASE_URL"], min_size=1, max_size=4
    )
)


def say(**line):
    print(json.dumps(line, default=plain), flush=True)


def plain(value):
    """A job is told by its number, a status by its label, a sum of counts as a number."""
    if isinstance(value, decimal.Decimal):
        return int(value)
    return value.id if hasattr(value, "id") else value.value


@app.task(name="peer.echo", pass_context=True)
async def echo(context, /, **args):
    say(job=context.job.id, args=args)


@app.task(name="peer.hold", pass_context=True)
async def hold(context, /):
    say(holding=context.job.id)
    await asyncio.Event().wait()


@app.task(name="peer.note", pass_context=True)
async def note(context, /):
    await write_note(context, ended=False)
    await asyncio.sleep(0.001)
    await write_note(context, ended=True)


deeper, part = procrastinate.Blueprint(), procrastinate.Blueprint()


@deeper.task(name="peer.named", aliases=["peer.formerly"])
async def named():
    pass


part.add_tasks_from(deeper, namespace="deeper")
app.add_tasks_from(part, namespace="part")
app.add_task_alias(named, "peer.earliest")


async def names_of_parts(_):
    """The names and aliases under which a worker finds what is in the blueprints."""
    say(names=sorted(name for name, task in app.tasks.items() if task is named))


async def write_note(context, *, ended):
    await app.connector.execute_query_async(
        "INSERT INTO notes (job_id, client, ended) VALUES (%(job_id)s, 'python', %(ended)s)",
        job_id=context.job.id,
        ended=ended,
    )


async def defer(jobs):
    for job in jobs:
        name, args = job.pop("task"), job.pop("args")
        try:
            say(id=await configured(name, job).defer_async(**args))
        except exceptions.AlreadyEnqueued as error:
            say(already_enqueued=error.__cause__.queueing_lock)


async def batch_defer(batch):
    name, args = batch.pop("task"), batch.pop("args")
    say(ids=await configured(name, batch).batch_defer_async(*args))


def configured(name, options):
    if "schedule_at" in options:
        options["schedule_at"] = datetime.datetime.fromisoformat(options["schedule_at"])
    return app.configure_task(name, **options)


async def manage(request):
    """Calls any method of the job manager."""
    method = getattr(app.job_manager, request.pop("method"))
    if "retry_at" in request:
        request["retry_at"] = datetime.datetime.fromisoformat(request["retry_at"])
    answer = method(**request)
    say(answer=await answer if inspect.isawaitable(answer) else answer)


async def defer_ticks(ticks):
    """Defers ticks of a periodic task as a worker does when they come."""
    for timestamp in ticks.pop("timestamps"):
        job = echo.configure(task_kwargs={"timestamp": timestamp}, **ticks).job
        try:
            answer = await app.job_manager.defer_periodic_job(
                job=job, periodic_id="", defer_timestamp=timestamp
            )
            say(id=answer)
        except exceptions.AlreadyEnqueued:
            say(already_enqueued=job.queueing_lock)


async def work(options):
    """Runs a worker; one that waits stops when standard input is closed."""
    if cron := options.pop("cron", None):
        app.periodic(cron=cron)(echo)
    app.job_manager.fetch_job = saying_when_idle(app.job_manager.fetch_job)
    worker = asyncio.create_task(
        app.run_worker_async(
            install_signal_handlers=False, shutdown_graceful_timeout=5, **options
        )
    )
    if options["wait"]:
        stop = asyncio.get_running_loop().call_soon_threadsafe
        threading.Thread(
            target=lambda: (sys.stdin.read(), stop(worker.cancel)), daemon=True
        ).start()
    try:
        await worker
    except asyncio.CancelledError:
        pass


def saying_when_idle(fetch_job):
    """Says when there was no job to fetch. A job that is deferred after that is found by its notification."""

    async def fetch(**arguments):
        job = await fetch_job(**arguments)
        if job is None:
            say(idle=True)
        return job

    return fetch


class SayActions(logging.Handler):
    """Says what the log says was done."""

    def emit(self, record):
        if action := getattr(record, "action", None):
            say(action=action)


async def answer(command, argument):
    logger = logging.getLogger("procrastinate")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(SayActions() if command == "work" else logging.NullHandler())
    async with app.open_async():
        await globals()[command](argument)


def main():
    asyncio.run(answer(sys.argv[1], json.loads(sys.argv[2])))

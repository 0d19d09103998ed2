"""`python -m dev poison`: list the messages that failed too often, or put them back to be tried again.

It opens the storage account of AzureWebJobsStorage, in the environment or in local.settings.json: a connection string, or
AzureWebJobsStorage__accountName for the identity that you are signed in with. So it works for a deployed app, too.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from dev import stack
from dev.host.errors import StartupError
from dev.host.settings import load_app_settings, load_host_settings
from dev.local_settings import STORAGE
from dev.screen import one_line
from shared.adapters.azure_queues.account import QueueAccount
from shared.adapters.azure_queues.poison import MAX_LISTED, PoisonMessage, PoisonQueues
from shared.errors import InvalidSettings, StorageUnavailable
from shared.settings import StorageSettings, load_storage

# How much of a message is shown.
MAX_SHOWN_CHARACTERS = 100


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m dev poison", description=__doc__)
    parser.add_argument(
        "--put-back",
        nargs="?",
        const="",
        metavar="ID",
        help="put all back to their queues, or the one with this id",
    )
    parser.add_argument(
        "--app", type=Path, default=stack.ROOT, help="folder of the app; default: this project"
    )
    options = parser.parse_args(argv)
    try:
        environ = _settings(options.app, os.environ)
        tries = load_host_settings(options.app, environ).queues.max_dequeue_count
        storage = load_storage(environ, [("AzureWebJobsStorage", QueueAccount.from_connection_string)])
        return asyncio.run(_run(storage, options.put_back, tries))
    except (InvalidSettings, StartupError, StorageUnavailable) as fault:
        print(fault, file=sys.stderr)
        return 1


async def _run(storage: StorageSettings, put_back: str | None, tries: int) -> int:
    account = QueueAccount.chosen(storage.connection, storage.queue_endpoint, storage.client_id)
    print(f"account   {account.endpoint}")
    queues = PoisonQueues(account, list(storage.queues.values()))
    try:
        if put_back is None:
            return await _list(queues, tries)
        return await _put_back(queues, put_back or None, tries)
    finally:
        await queues.close()


async def _list(queues: PoisonQueues, tries: int) -> int:
    counts = await queues.poison_counts()
    messages = await queues.list()
    for message in messages:
        print(_line(message, tries))
    for queue, count in counts.items():
        shown = sum(message.queue == queue for message in messages)
        if shown == MAX_LISTED and count > shown:
            print(f"and about {count - shown} more of {queue}")
    if not any(counts.values()) and not messages:
        print(_none(counts))
    else:
        print("To try them again: python -m dev poison --put-back, or --put-back ID for one.")
    return 0


async def _put_back(queues: PoisonQueues, message_id: str | None, tries: int) -> int:
    done = 0
    async for message in queues.put_back(message_id):
        print(f"put back  {_line(message, tries)}", flush=True)
        done += 1
    if message_id and not done:
        print(f"There is no poison message {one_line(message_id)}.", file=sys.stderr)
        return 1
    if not done:
        print(_none(await queues.poison_counts()))
    return 0


def _settings(app: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the settings. An account that the environment names is never mixed with that of the file."""
    values: dict[str, str] = {}
    load_app_settings(app, values)
    if any(name.startswith(STORAGE) for name in environ):
        values = {name: value for name, value in values.items() if not name.startswith(STORAGE)}
    return values | dict(environ)


def _line(message: PoisonMessage, tries: int) -> str:
    """Return a line about a message. The host has tried it `tries` times before it moved it."""
    moved = f"{message.moved_at:%Y-%m-%d %H:%M:%S} UTC" if message.moved_at else "at an unknown time"
    text = message.text[:MAX_SHOWN_CHARACTERS]
    cut = "…" if len(message.text) > MAX_SHOWN_CHARACTERS else ""
    return f"{message.queue}  {moved}  failed {tries} times  {one_line(message.id)}  {one_line(text)}{cut}"


def _none(counts: Mapping[str, int]) -> str:
    return f"There is no poison message of {', '.join(counts)}."

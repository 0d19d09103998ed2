"""`python -m dev COMMAND ...`: start one part of the local stack, or all of it."""

import importlib
import sys

COMMANDS = {
    "azurite": ("dev.azurite", "the storage emulator: tables, queues, blobs"),
    "provider": ("dev.provider", "the provider emulator: an OpenAI Responses API"),
    "model-server": ("dev.model_server", "llama.cpp's own server with a small model"),
    "host": ("dev.host", "the Functions host, serving the app of a folder"),
    "up": ("dev.up", "all three, until Ctrl-C"),
    "poison": ("dev.poison", "messages that failed too often: list them, put them back"),
    "watch": ("dev.watch", "the text of a run while it is written, and its status"),
    "key": ("dev.key", "a key of the app's own, for the setting API_KEYS"),
    "demo": ("dev.demo", "one run from start to outcome, with a crash in between"),
    "demo-approval": ("dev.demo_approval", "a refund that waits for a person, with a crash in between"),
    "demo-chat": ("dev.demo_chat", "a provider without background mode, with two crashes in between"),
}


def main(argv: list[str]) -> int:
    if not argv or argv[0] not in COMMANDS:
        print("usage: python -m dev COMMAND [--help | options]\n", file=sys.stderr)
        for command, (_, purpose) in COMMANDS.items():
            print(f"  {command:<15}{purpose}", file=sys.stderr)
        return 2
    module, _ = COMMANDS[argv[0]]
    status = importlib.import_module(module).main(argv[1:])
    return int(status or 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

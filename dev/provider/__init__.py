"""The provider emulator: Microsoft's Responses server behind a layer as strict as the documented service.

Run it with `python -m dev.provider`; see docs/provider-emulator.md. The app never imports it.
"""


def main(argv: list[str]) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status."""
    # Imported here so that `dev` can list its commands without loading the server.
    from dev.provider.server import run  # noqa: PLC0415

    return run(argv)

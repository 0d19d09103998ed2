"""Our items as messages of Chat Completions, and the streamed answer as items."""

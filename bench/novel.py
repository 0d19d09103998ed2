"""The agent and the request of every client that is measured."""

AGENT = "space_novelist"
INSTRUCTIONS = "You write very long novels, chapter by chapter, and never ask back."
REQUEST = "Write a very long novel about astronauts exploring an unknown galaxy."

"""The agents of this app. Each `Agent` that a module of this folder defines is found by itself."""

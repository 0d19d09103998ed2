"""The agents of this app. Every module here that defines an `Agent` adds one; nothing else is needed."""

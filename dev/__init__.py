"""The local stack: Azurite, the provider emulator and the Functions host. Never deployed."""

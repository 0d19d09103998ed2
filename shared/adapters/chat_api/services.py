"""The declared providers with the Chat Completions API, as the services that steps use."""

from collections.abc import Mapping

from shared.adapters.chat_api.body import Resume
from shared.adapters.chat_api.provider import ChatCompletionsProvider, Dialect
from shared.adapters.http.access import Connection
from shared.ports.chat import ChatService, ChatServices
from shared.provider import ChatCompletions


def chat_services(declared: Mapping[str, tuple[Connection, ChatCompletions]]) -> ChatServices:
    """Return a service for each declared provider, by name."""
    return {name: _service(connection, each) for name, (connection, each) in declared.items()}


def _service(connection: Connection, declared: ChatCompletions) -> ChatService:
    resume = Resume(declared.resume)
    provider = ChatCompletionsProvider(connection, Dialect(resume=resume, echoes=declared.echoes))
    # The template of a model writes the last message of a conversation, and most trim it.
    return ChatService(provider, continues=resume is not Resume.RESTART, trims=resume is Resume.TRAILING)


async def close(services: ChatServices) -> None:
    for service in services.values():
        if isinstance(service.provider, ChatCompletionsProvider):
            await service.provider.close()

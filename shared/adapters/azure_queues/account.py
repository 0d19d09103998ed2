"""The queue service of a storage account."""

from shared.adapters.storage_account import ServiceAccount


class QueueAccount(ServiceAccount):
    """A storage account's queue service."""

    __slots__ = ()
    service = "queue"

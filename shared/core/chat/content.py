"""The contents of chat messages: texts and images, from the content parts of items."""

from collections.abc import Iterable, Iterator, Sequence

from shared.core.text import json_text, representable
from shared.core.transcript import Item, name_of

# The types of parts that are texts, and the fields that hold them.
_TEXTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}
_OTHERS = frozenset({"input_image", "input_file"})
_DETAILS = frozenset({"auto", "low", "high"})
# Between the parts of a content that becomes one text.
_SEPARATOR = "\n\n"


class NotSendable(ValueError):
    """Something cannot be expressed in Chat Completions. The message names it, and says what to do."""

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(f"{what} cannot be sent to a provider of chat completions. {advice}")
        self.what = what


def said(text: str) -> bool:
    """Return whether a text says anything. Providers refuse empty and blank texts."""
    return bool(text.strip())


def user_content(content: object, where: str) -> str | list[Item] | None:
    """Return the content of a user's message: a text, or parts when it has images. None when it says nothing.

    Providers of models that read no images often accept a text only, so parts that are texts become one.
    Raises NotSendable.
    """
    if isinstance(content, str):
        return representable(content) if said(content) else None
    parts = list(_parts(content, where)) if isinstance(content, list) else []
    if any(part["type"] == "image_url" for part in parts):
        return parts
    return joined(part["text"] for part in parts) or None


def assistant_text(content: object) -> str:
    """Return the text of an assistant's message. Refusals are part of it; what is no text is left out."""
    if isinstance(content, str):
        return representable(content)
    texts = (_text(part) for part in content) if isinstance(content, list) else ()
    return representable("".join(texts))


def system_text(content: object) -> str:
    """Return the text of a message that instructs the model. What is no text is left out."""
    if isinstance(content, str):
        return representable(content)
    texts = (_text(part) for part in content) if isinstance(content, list) else ()
    return joined(representable(text) for text in texts)


def output_content(output: object, where: str) -> tuple[str, list[Item]]:
    """Return the output of a call: its text, and its images as parts. Raises NotSendable."""
    if output is None or isinstance(output, str):
        return representable(output or ""), []
    if not isinstance(output, list) or not all(map(_is_part, output)):
        return json_text(output), []
    parts = list(_parts(output, where))
    texts = [part["text"] for part in parts if part["type"] == "text"]
    return joined(texts), [part for part in parts if part["type"] == "image_url"]


def joined(texts: Iterable[str]) -> str:
    return _SEPARATOR.join(filter(said, texts))


def _is_part(value: object) -> bool:
    kind = value.get("type") if isinstance(value, dict) else None
    return isinstance(kind, str) and (kind in _TEXTS or kind in _OTHERS)


def _parts(content: Sequence[object], where: str) -> Iterator[Item]:
    for part in content:
        if not isinstance(part, dict) or "type" not in part:
            continue
        if not _is_part(part):
            raise NotSendable(
                f"The part of the type {name_of(part['type'])} in {where}", "Send texts and images instead."
            )
        if part["type"] == "input_file":
            raise NotSendable(
                f"The file (input_file) in {where}",
                "Send its text instead, or choose an agent whose provider has the Responses API.",
            )
        if part["type"] == "input_image":
            yield from _image(part, where)
        elif said(text := _text(part)):
            yield {"type": "text", "text": representable(text)}


def _text(part: object) -> str:
    """Return the text of a part; an empty one when it has none."""
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(part, dict) or not isinstance(kind, str) or kind not in _TEXTS:
        return ""
    text = part.get(_TEXTS[kind])
    return text if isinstance(text, str) else ""


def _image(part: Item, where: str) -> Iterator[Item]:
    url, detail = part.get("image_url"), part.get("detail")
    if isinstance(url, str) and said(url):
        image = {"url": representable(url)}
        if isinstance(detail, str) and detail in _DETAILS:
            image["detail"] = detail
        yield {"type": "image_url", "image_url": image}
    elif part.get("file_id"):
        raise NotSendable(
            f"The image (input_image) with a file_id in {where}",
            "The file is stored at another provider: send its image_url or a data URL instead.",
        )

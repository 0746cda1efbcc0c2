"""What kind of media a part has, and whether a target takes it."""

from base64 import b64decode
from dataclasses import replace
from fnmatch import fnmatchcase

from droid2api.hub.request import Document, Foreign, Image, Target, unsupported

_BEGINNINGS = {
    "iVBORw0KGgo": "image/png",
    "/9j/": "image/jpeg",
    "R0lGODdh": "image/gif",
    "R0lGODlh": "image/gif",
    "UklGR": "image/webp",
}
"""How the base64 data of pictures begins. RIFF is WebP here: no other kind of it is a picture."""
_ALIASES = {"image/jpg": "image/jpeg"}
_PDF = "JVBERi"
_OFFICE = "application/vnd.openxmlformats-officedocument."
_ENDINGS = {
    "pdf": "application/pdf",
    "docx": f"{_OFFICE}wordprocessingml.document",
    "xlsx": f"{_OFFICE}spreadsheetml.sheet",
    "pptx": f"{_OFFICE}presentationml.presentation",
    "doc": "application/msword",
    "xls": "application/vnd.ms-excel",
    "ppt": "application/vnd.ms-powerpoint",
    "txt": "text/plain",
    "md": "text/markdown",
    "csv": "text/csv",
    "html": "text/html",
    "json": "application/json",
}


def file_media_type(name: str, data: str) -> str:
    """What a file without a declared type is: what its bytes or its name say, else the PDF that such a file must be."""
    if not name or data.startswith(_PDF):
        return "application/pdf"
    _, dot, ending = name.rpartition(".")
    return _ENDINGS.get(ending.lower(), "application/octet-stream") if dot else "application/pdf"


def url_media_type(url: str) -> str:
    """What a file is by the ending of its URL; "" where that does not tell."""
    name = url.partition("?")[0].partition("#")[0].rpartition("/")[2]
    _, dot, ending = name.rpartition(".")
    return _ENDINGS.get(ending.lower(), "") if dot else ""


def true_media(part: Image | Document) -> Image | Document:
    """The part with the media type that its first bytes tell; the same part where they do not contradict it.

    Clients send files in the place of pictures and pictures in the place of files: each is what its type says.
    """
    kind = _true_type(part)
    if isinstance(part, Image) and kind == "application/pdf":
        return Document(kind, part.data, part.url, part.cache, part.where)
    if isinstance(part, Document) and kind.startswith("image/") and part.data:
        return Image(kind, part.data, "", part.cache, part.where)
    return replace(part, media_type=kind) if kind != part.media_type else part


def _true_type(part: Image | Document) -> str:
    """What the first bytes say, else what is declared. A file of a declared type may begin as it likes."""
    told = not isinstance(part, Image) and part.media_type not in ("", "application/octet-stream")
    if told and not part.media_type.startswith("image/"):
        return part.media_type
    beginnings = {**_BEGINNINGS, _PDF: "application/pdf"}
    found = next((kind for start, kind in beginnings.items() if part.data.startswith(start)), "")
    return found or _ALIASES.get(part.media_type, part.media_type)


def takes_media(part: Image | Document, target: Target) -> bool:
    """Whether the target takes such media. A URL tells only the kind."""
    kind = part.media_type or ("image/*" if isinstance(part, Image) else "application/pdf")
    return any(fnmatchcase(kind, pattern) or fnmatchcase(pattern, kind) for pattern in target.profile.media)


def text_in(part: Image | Document | Foreign) -> str | None:
    """What a text file says; None for other media, and for a text that cannot be read."""
    if not (isinstance(part, Document) and part.media_type.startswith("text/") and part.data):
        return None
    try:
        return b64decode(part.data).decode()
    except ValueError:  # no base64, or no UTF-8
        return None


def check_media(part: Image | Document, target: Target, upstream: str) -> None:
    """Raises RequestError that names the part when the target takes no such media."""
    if not takes_media(part, target):
        raise unsupported(part, upstream)

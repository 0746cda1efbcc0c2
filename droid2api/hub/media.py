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
    """The part with the media type that its first bytes tell; the same part where they do not contradict it."""
    if isinstance(part, Image):
        known = next((kind for start, kind in _BEGINNINGS.items() if part.data.startswith(start)), "")
        known = known or _ALIASES.get(part.media_type, "")
    else:
        vague = part.media_type in ("", "application/octet-stream")
        known = "application/pdf" if vague and part.data.startswith(_PDF) else ""
    return replace(part, media_type=known) if known and known != part.media_type else part


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

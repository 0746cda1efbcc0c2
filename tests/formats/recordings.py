"""The recordings that the properties are tested on.

The repository's own are small and made by hand. `DROID2API_RECORDINGS` names a folder of more, with the same layout:
FORMAT/NAME.sse, NAME.request.json, NAME.response.json and NAME.meta.json with the HTTP `status`.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from droid2api.formats import BY_NAME

OWN = Path(__file__).parents[1] / "recordings"


@dataclass(frozen=True)
class Recording:
    format: str
    path: Path
    status: int

    def __str__(self):
        return f"{self.format}/{self.path.name}"

    @property
    def bytes(self):
        return self.path.read_bytes()

    @property
    def json(self):
        return orjson.loads(self.bytes)


def _find(suffix):
    folders = [OWN]
    if more := os.environ.get("DROID2API_RECORDINGS"):
        folders.append(Path(more))
    for folder in folders:
        for format in BY_NAME:
            for path in sorted((folder / format).glob(f"*{suffix}")):
                meta = path.with_name(path.name.removesuffix(suffix) + ".meta.json")
                status = orjson.loads(meta.read_bytes()).get("status") if meta.exists() else None
                yield Recording(format, path, status or 200)


def _params(recordings):
    return [pytest.param(recording, id=str(recording)) for recording in recordings]


STREAMS = [recording for recording in _find(".sse") if recording.status < 400]
ANSWERS = [recording for recording in _find(".response.json") if recording.status < 400]
ERRORS = [recording for recording in _find(".response.json") if recording.status >= 400]
REQUESTS = list(_find(".request.json"))

each_stream = pytest.mark.parametrize("recording", _params(STREAMS))
each_answer = pytest.mark.parametrize("recording", _params(ANSWERS))
each_error = pytest.mark.parametrize("recording", _params(ERRORS))
each_request = pytest.mark.parametrize("recording", _params(REQUESTS))
each_format = pytest.mark.parametrize("format", BY_NAME)

"""What kind of media a part has, told from its first bytes, and whether a model takes it."""

from urllib.parse import unquote_to_bytes

import pytest

from droid2api.errors import RequestError
from droid2api.hub import request
from droid2api.hub.media import check_media, file_media_type, true_media
from droid2api.hub.profiles import Profile
from droid2api.hub.request import Document, Image, Target, split_data_url


@pytest.mark.parametrize(
    ("data", "declared", "true"),
    [
        ("iVBORw0KGgoAAAA", "image/jpeg", "image/png"),
        ("/9j/4AAQSkZJRg", "image/png", "image/jpeg"),
        ("R0lGODlhAQABAA", "image/webp", "image/gif"),
        ("R0lGODdhAQABAA", "image/png", "image/gif"),
        ("UklGRiQAAABXRUJQ", "image/jpeg", "image/webp"),
        ("/9j/4AAQSkZJRg", "image/jpg", "image/jpeg"),
        ("AAAA", "image/jpg", "image/jpeg"),
        ("AAAA", "image/heic", "image/heic"),
        ("iVBORw0KGgoAAAA", "image/png", "image/png"),
        ("", "image/png", "image/png"),
    ],
)
def test_pictures(data, declared, true):
    part = Image(declared, data)
    assert true_media(part) == Image(true, data)
    assert (true_media(part) is part) == (declared == true)
    assert part == Image(declared, data)


@pytest.mark.parametrize(
    ("data", "declared", "true"),
    [
        ("JVBERi0xLjQ", "application/octet-stream", "application/pdf"),
        ("JVBERi0xLjQ", "", "application/pdf"),
        ("JVBERi0xLjQ", "text/plain", "text/plain"),
        ("UEsDBA", "application/octet-stream", "application/octet-stream"),
    ],
)
def test_documents(data, declared, true):
    assert true_media(Document(declared, data)).media_type == true


@pytest.mark.parametrize(
    ("part", "true"),
    [
        (Image("image/png", "JVBERi0xLjQ"), Document("application/pdf", "JVBERi0xLjQ")),
        (Image("application/pdf", "JVBERi0xLjQ"), Document("application/pdf", "JVBERi0xLjQ")),
        (Image("application/pdf", url="https://x/a.pdf"), Document("application/pdf", url="https://x/a.pdf")),
        (Document("image/png", "iVBORw0KGgo", name="a.png"), Image("image/png", "iVBORw0KGgo")),
        (Document("image/png", "/9j/4AAQ"), Image("image/jpeg", "/9j/4AAQ")),
        (Document("", "iVBORw0KGgo"), Image("image/png", "iVBORw0KGgo")),
        (Document("image/png", "JVBERi0xLjQ"), Document("application/pdf", "JVBERi0xLjQ")),
        (Document("text/plain", "iVBORw0KGgo"), Document("text/plain", "iVBORw0KGgo")),
    ],
)
def test_pictures_sent_as_files_and_files_sent_as_pictures(part, true):
    assert true_media(part) == true


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("", "AAAA", "application/pdf"),
        ("paper", "AAAA", "application/pdf"),
        ("paper.pdf", "AAAA", "application/pdf"),
        ("paper.docx", "JVBERi0x", "application/pdf"),
        ("paper.DOCX", "UEsDBA", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("table.csv", "YQ", "text/csv"),
        ("song.flac", "ZkxhQw", "application/octet-stream"),
    ],
)
def test_files_without_a_declared_type(name, data, kind):
    assert file_media_type(name, data) == kind


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("data:image/png;base64,iVBORw0=", ("image/png", "iVBORw0=")),
        ("data:image/JPG;base64,/9j/", ("image/jpeg", "/9j/")),
        ("data:image/png;charset=x;base64,", ("image/png", "")),
        ("data:text/plain,a%20b,c", ("text/plain", "YSBiLGM=")),
        ("data:image/svg+xml;utf8,<svg/>", ("image/svg+xml", "PHN2Zy8+")),
        ("data:,", ("application/octet-stream", "")),
        ("data:image/png", None),
        ("https://x/data:,", None),
    ],
)
def test_data_urls(url, parts):
    assert split_data_url(url) == parts


@pytest.mark.parametrize(
    ("part", "media", "taken"),
    [
        (Image("image/png", "x"), ("image/*",), True),
        (Image("image/png", "x"), ("image/jpeg", "image/png"), True),
        (Image("image/heic", "x"), ("image/jpeg", "image/png"), False),
        (Image(url="https://x/y"), ("image/jpeg",), True),
        (Image(url="https://x/y"), ("application/pdf",), False),
        (Image(url="https://x/y"), (), False),
        (Document("application/pdf", "x"), ("image/*",), False),
        (Document(url="https://x/y"), ("application/pdf",), True),
        (Document("audio/wav", "x"), ("*/*",), True),
    ],
)
def test_what_a_model_takes(part, media, taken):
    target = Target("m", profile=Profile(media=media))
    if taken:
        check_media(part, target, "anthropic")
    else:
        part.where = "messages[0].content[1]"
        with pytest.raises(RequestError) as raised:
            check_media(part, target, "anthropic")
        assert raised.value.param == "messages[0].content[1]"


@pytest.mark.parametrize("piece", [3, 4, 5, 7])
def test_data_that_is_escaped_is_read_in_pieces(piece, monkeypatch):
    monkeypatch.setattr(request, "PIECE", piece)
    for text in ("%41b%43%", "%%41", "a%4", "é%c3%a9%zz", "", "%41" * 9):
        assert request._unquoted(text) == unquote_to_bytes(text)

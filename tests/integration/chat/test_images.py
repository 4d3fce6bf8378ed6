"""Images in requests: those that are brought, those that the node keeps, and those that nobody gets."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
from openai import OpenAI
from PIL import Image

from storage.audit import AuditAction
from storage.records import Origin, OriginKind, StudyFilter
from tests.builders.ct import encode, make_ct_instance, make_ct_series, uid
from tests.builders.models import PaperModels
from tests.builders.web import ADMIN_KEY
from tests.integration.chat.conftest import ChatNode, MakeNode

STUDY = f"dicom:///studies/{uid(1)}"
SERIES = f"{STUDY}/series/{uid(1, 1)}"
OTHERS = Origin(OriginKind.DIMSE, peer="ct2", calling_ae_title="CT2", called_ae_title="DICOMNODE", host="127.0.0.1")


def picture(form: str, size: tuple[int, int] = (40, 30), mode: str = "RGB", **more: Any) -> bytes:
    buffer = BytesIO()
    Image.new(mode, size, 128 if mode in ("L", "I;16") else "red").save(buffer, form, **more)
    return buffer.getvalue()


def data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def ask(node: ChatNode, *urls: str, key: str | None = None, **more: Any) -> httpx.Response:
    parts = [{"type": "text", "text": "What is it?"}, *({"type": "image_url", "image_url": {"url": u}} for u in urls)]
    body = {"messages": [{"role": "user", "content": parts}], **more}
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.post(f"{node.url}/v1/chat/completions", json=body, headers=headers, timeout=60)


def seen(node: ChatNode) -> list[Any]:
    """Give the parts that the model's server got last: texts, and pictures decoded."""
    content = node.models[0].asked[-1]["messages"][-1]["content"]
    return [part["text"] if part["type"] == "text" else _decoded(part["image_url"]["url"]) for part in content]


def _decoded(url: str) -> Image.Image:
    assert url.startswith("data:image/png;base64,")
    image: Image.Image = Image.open(BytesIO(base64.b64decode(url.partition(",")[2])), formats=["PNG"])
    image.load()
    return image


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        ("JPEG", "image/jpeg"),
        ("PNG", "image/png"),
        ("GIF", "image/gif"),
        ("BMP", "image/bmp"),
        ("WEBP", "image/webp"),
    ],
)
def test_a_picture_of_each_form_reaches_the_model_as_plain_png(make_node: MakeNode, form: str, kind: str) -> None:
    node = make_node(PaperModels())
    assert ask(node, data_uri(picture(form), kind)).status_code == 200
    text, image = seen(node)
    assert text == "What is it?"
    assert (image.size, image.mode, image.info) == ((40, 30), "RGB", {})
    assert image.getpixel((5, 5))[0] > 240


def test_what_a_picture_bears_beside_its_pixels_stays_here_and_a_large_one_is_shrunk(make_node: MakeNode) -> None:
    node = make_node(PaperModels())
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "Test^Quiet", 6  # a description, and that it lies on its side
    assert ask(node, data_uri(picture("JPEG", (4000, 1000), exif=exif), "image/jpeg")).status_code == 200
    _, image = seen(node)
    assert (image.size, image.info) == ((448, 1792), {})
    assert ask(node, data_uri(picture("PNG", mode="I;16"), "image/png")).status_code == 200
    assert seen(node)[1].mode == "L"


def test_a_dicom_file_may_be_brought(make_node: MakeNode) -> None:
    node = make_node(PaperModels())
    assert ask(node, data_uri(encode(make_ct_instance()), "application/dicom")).status_code == 200
    assert seen(node)[1].size == (16, 16)


def test_an_image_is_taken_by_the_openai_package(make_node: MakeNode) -> None:
    node = make_node(PaperModels())
    for each in make_ct_series(3):
        node.web.receive(each)
    client = OpenAI(base_url=f"{node.url}/v1", api_key="none", max_retries=0, timeout=60)
    content: Any = [
        {"type": "image_url", "image_url": {"url": data_uri(picture("PNG"), "image/png"), "detail": "low"}},
        {"type": "image_url", "image_url": {"url": f"{SERIES}/instances/{uid(1, 1, 2)}"}},
    ]
    chunks = client.chat.completions.create(
        model="medgemma-4b", messages=[{"role": "user", "content": content}], stream=True
    )
    first = next(chunks)
    assert first.model_extra is not None
    (image,) = first.model_extra["images"]
    assert (image["label"], image["sop_instance_uid"], image["frame_number"]) == ("image 2", uid(1, 1, 2), 1)
    list(chunks)
    assert len(seen(node)) == 3


def test_of_a_study_the_node_shows_even_slices_in_stated_windows_and_says_which(make_node: MakeNode) -> None:
    node = make_node(PaperModels())
    for each in make_ct_series(8):
        node.web.receive(each)
    node.web.receive(make_ct_instance(1, series=2))
    answer = ask(node, STUDY).json()
    said = [(each["label"], each["sop_instance_uid"], each["window"]) for each in answer["images"]]
    assert said == [
        (f"image {2 * place + shift + 1}", uid(1, 1, number), window)
        for place, number in enumerate((2, 4, 6, 8))
        for shift, window in enumerate(("soft tissue", "lung"))
    ]
    texts = [part for part in seen(node) if isinstance(part, str)]
    assert texts[1] == "[image 1] CT, 2 of 8 in its series, soft tissue window:"
    sent = str(node.models[0].asked)
    for secret in (uid(1), "Test^Quiet", "TEST-1", "19700101", "ACC1", "Test chest"):
        assert secret not in sent
    events = [each for each in node.web.audit.events() if each.action is AuditAction.ACCESS]
    assert [(each.study_instance_uid, each.detail) for each in events] == [(uid(1), "shown to the language model")]


def test_the_windows_differ_in_what_they_show(make_node: MakeNode) -> None:
    node = make_node(PaperModels())
    ramp = np.linspace(0, 2047, 256, dtype=np.uint16).reshape(16, 16)
    node.web.receive(make_ct_instance(PixelData=ramp.tobytes()))
    assert ask(node, STUDY).status_code == 200
    soft, lung = (np.asarray(part) for part in seen(node) if not isinstance(part, str))
    assert soft.min() == 0 < lung.min()  # -1024 HU: below the one, within the other
    assert ((lung > 0) & (lung < 255)).sum() > ((soft > 0) & (soft < 255)).sum()


def test_a_frame_is_shown_by_its_number(make_node: MakeNode) -> None:
    node = make_node(PaperModels())
    frames = np.stack([np.full((16, 16), value, np.uint16) for value in (0, 1000, 2000)])
    node.web.receive(make_ct_instance(NumberOfFrames=3, PixelData=frames.tobytes()))
    instance = f"{SERIES}/instances/{uid(1, 1, 1)}"
    answers = [ask(node, url).json()["images"] for url in (f"{instance}/frames/3", instance)]
    assert [each[0]["frame_number"] for each in answers] == [3, 2]
    assert ask(node, f"{instance}/frames/4").status_code == 404


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/a.png",
        "https://example.org/a.png",
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "ftp://a/b",
        "/etc/passwd",
        "",
        "data:image/svg+xml;base64,PHN2Zy8+",
        "data:image/png,plain",
        "data:image/png;base64,####",
        data_uri(b"no picture", "image/png"),
        data_uri(picture("GIF"), "image/png"),
        data_uri(picture("PNG")[:60], "image/png"),
        data_uri(b"no dicom", "application/dicom"),
        "dicom://elsewhere/studies/1.2",
        "dicom:///studies/../../etc",
        "dicom:///studies/1.2/frames/0",
    ],
)
def test_what_is_no_image_is_refused_with_its_place_and_no_model_is_asked(make_node: MakeNode, url: str) -> None:
    node = make_node(PaperModels())
    refused = ask(node, url)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "messages[0].content[1].image_url.url"
    assert node.models[0].asked == []


def test_size_count_and_pixels_of_images_are_limited(make_node: MakeNode) -> None:
    node = make_node(PaperModels(), chat={"max_image_bytes": 5000, "max_images": 2, "allowed_formats": "png,dcm"})
    small = data_uri(picture("PNG"), "image/png")
    assert ask(node, small, small).status_code == 200
    assert ask(node, small, small, small).status_code == 400
    assert ask(node, data_uri(b"x" * 6000, "image/png")).status_code == 413
    assert "chat.allowed_formats" in ask(node, data_uri(picture("BMP"), "image/bmp")).json()["error"]["message"]
    for each in make_ct_series(2):
        node.web.receive(each)
    assert ask(node, STUDY).status_code == 400  # two slices in two windows
    bomb = make_node(PaperModels())
    refused = ask(bomb, data_uri(picture("PNG", (9000, 9000), "L"), "image/png"))
    assert (refused.status_code, "64 million pixels" in refused.json()["error"]["message"]) == (400, True)


def test_kept_images_are_shown_to_those_alone_who_may_see_them(make_node: MakeNode) -> None:
    node = make_node(PaperModels())
    node.web.receive(make_ct_instance(study=1))
    node.web.receive(make_ct_instance(study=2), OTHERS)
    web = node.web
    only_chat = web.key("assistant", "chat")
    of_ct1 = web.key("ct1-reader", "chat", "read", visible=StudyFilter(sender_peers=frozenset({"ct1"})))
    theirs = f"dicom:///studies/{uid(2)}"
    assert [ask(node, url, key=of_ct1).status_code for url in (STUDY, theirs)] == [200, 404]
    assert ask(node, STUDY, key=only_chat).status_code == 403
    assert ask(node, theirs, key=ADMIN_KEY).status_code == 200
    assert ask(node, f"{STUDY}/series/{uid(1, 9)}").status_code == 404


def test_without_a_model_no_image_is_looked_at(make_node: MakeNode) -> None:
    refused = ask(make_node(), "file:///etc/passwd")
    assert (refused.status_code, refused.json()["error"]["type"]) == (503, "model_not_available")

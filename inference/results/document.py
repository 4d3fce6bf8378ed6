"""Results as an Encapsulated PDF: a report to read and print.

Fonts are embedded, there are no scripts and no links, and the same content gives the same bytes.

Source: PS3.3 A.45.1 (Encapsulated PDF), C.24.2.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial
from html import escape
from pathlib import Path

import reportlab
from PIL import Image as Raster
from pydicom import Dataset
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Image, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from inference.findings import Findings
from inference.results import codes, words
from inference.results.capture import drawn_key_images, source_item
from inference.results.evidence import Evidence
from inference.results.forms import ENCAPSULATED_PDF, Form
from inference.results.pictures import Picture, Pictures
from inference.results.report_content import PageContent, page_content
from inference.results.run import Run, result_uid, series_number, series_uid

_REGULAR, _BOLD = "Vera", "VeraBd"
_KEY_IMAGES = 4
_WIDTH = A4[0] - 36 * mm
_GREY, _RED, _LINE = HexColor("#5a5a5a"), HexColor("#aa1e14"), HexColor("#c8c8c8")


def make_document(findings: Findings, evidence: Evidence, run: Run, pictures: Pictures | None, form: Form) -> Dataset:
    """Make the report of one run as a document, without the source's identity, times and character set."""
    drawn = drawn_key_images(findings, evidence, run, pictures, _KEY_IMAGES) if pictures is not None else ()
    made = Dataset()
    made.SOPClassUID = ENCAPSULATED_PDF
    made.SOPInstanceUID = result_uid(run.run_key, str(form), "pdf")
    made.SeriesInstanceUID = series_uid(run.study_instance_uid, run.engine.name, "pdf", str(form))
    made.SeriesNumber = series_number(run, "pdf")
    made.SeriesDescription = words.description(run.engine, "pdf", refused=findings.refusal is not None)
    made.Modality = "DOC"
    made.ConversionType = "WSD"
    made.InstanceNumber = run.revision
    made.AcquisitionDateTime = None
    made.BurnedInAnnotation = "YES"
    made.DocumentTitle = made.SeriesDescription
    made.ConceptNameCodeSequence = [codes.concept(codes.DIAGNOSTIC_IMAGING_REPORT)]
    sources = {str(header.SOPInstanceUID): header for header in [each.header for each in drawn] or [evidence[0]]}
    made.SourceInstanceSequence = [source_item(header) for header in sources.values()]
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    pdf = _pdf(page_content(findings, evidence, run), [each.picture for each in drawn])
    made.EncapsulatedDocument = pdf + bytes(len(pdf) % 2)
    made.EncapsulatedDocumentLength = len(pdf)
    return made


def _pdf(content: PageContent, pictures: Sequence[Picture]) -> bytes:
    _register_fonts()
    target = io.BytesIO()
    document = SimpleDocTemplate(
        target,
        pagesize=A4,
        leftMargin=18 * mm,
        rightMargin=18 * mm,
        topMargin=16 * mm,
        bottomMargin=18 * mm,
        title=content.title,
        invariant=1,  # no clock, no chance: the same report gives the same bytes
    )

    def foot(canvas: Canvas, _: object) -> None:
        canvas.setFont(_REGULAR, 7)
        canvas.setFillColor(_RED)
        canvas.drawString(18 * mm, 10 * mm, content.warning)
        canvas.setFillColor(_GREY)
        canvas.drawRightString(A4[0] - 18 * mm, 10 * mm, f"page {canvas.getPageNumber()}")

    document.build(_story(content, pictures), foot, foot, canvasmaker=partial(Canvas, initialFontName=_REGULAR))
    return target.getvalue()


def _story(content: PageContent, pictures: Sequence[Picture]) -> list[Flowable]:
    text = ParagraphStyle("text", fontName=_REGULAR, fontSize=9, leading=13)
    story: list[Flowable] = [
        Paragraph(escape(content.title), ParagraphStyle("title", fontName=_BOLD, fontSize=18, leading=24)),
        Paragraph(escape(content.warning), ParagraphStyle("w", parent=text, textColor=_RED, spaceAfter=6)),
        _pairs(content.identity, text),
        Spacer(1, 4 * mm),
        Paragraph(_said(content.summary), text),
        Spacer(1, 4 * mm),
    ]
    if content.rows:
        story += [_pairs(content.rows, text, ruled=True), Spacer(1, 4 * mm)]
    story += [Paragraph(_said(paragraph), text) for paragraph in content.narrative]
    if pictures:
        story += [Spacer(1, 4 * mm), _side_by_side(pictures)]
    small = ParagraphStyle("small", parent=text, fontSize=7, leading=10, textColor=_GREY)
    return [*story, Spacer(1, 5 * mm), _pairs(content.provenance, small)]


def _pairs(pairs: Sequence[tuple[str, str]], style: ParagraphStyle, *, ruled: bool = False) -> Table:
    name = ParagraphStyle("name", parent=style, textColor=_GREY)
    rows = [
        [Paragraph("" if index and pairs[index - 1][0] == what else _said(what), name), Paragraph(_said(said), style)]
        for index, (what, said) in enumerate(pairs)
    ]
    table = Table(rows, colWidths=[42 * mm, _WIDTH - 42 * mm], hAlign="LEFT")
    commands: list[tuple[object, ...]] = [("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (0, -1), 0)]
    commands.append(("FONTNAME", (0, 0), (-1, -1), _REGULAR))
    commands += [("TOPPADDING", (0, 0), (-1, -1), 1), ("BOTTOMPADDING", (0, 0), (-1, -1), 1)]
    if ruled:
        commands.append(("LINEBELOW", (0, 0), (-1, -1), 0.3, _LINE))
    table.setStyle(TableStyle(commands))
    return table


def _side_by_side(pictures: Sequence[Picture]) -> Table:
    """Key images, two in a row."""
    width = (_WIDTH - 4 * mm) / 2
    cells = [_placed(picture, width) for picture in pictures]
    rows = [cells[start : start + 2] for start in range(0, len(cells), 2)]
    rows[-1] += [""] * (2 - len(rows[-1]))
    table = Table(rows, colWidths=[width + 2 * mm] * 2, hAlign="LEFT")
    padding = [("LEFTPADDING", (0, 0), (-1, -1), 0), ("BOTTOMPADDING", (0, 0), (-1, -1), 4)]
    table.setStyle(TableStyle([*padding, ("FONTNAME", (0, 0), (-1, -1), _REGULAR)]))
    return table


def _placed(picture: Picture, width: float) -> Image:
    png = io.BytesIO()
    Raster.fromarray(picture).save(png, "PNG")
    png.seek(0)
    rows, columns = picture.shape[:2]
    height = min(width * rows / columns, 95 * mm)
    return Image(png, width=height * columns / rows, height=height)


def _said(text: str) -> str:
    return escape(text).replace("\n", "<br/>")


def _register_fonts() -> None:
    folder = Path(reportlab.__file__).parent / "fonts"
    for name in (_REGULAR, _BOLD):
        if name not in pdfmetrics.getRegisteredFontNames():
            pdfmetrics.registerFont(TTFont(name, str(folder / f"{name}.ttf")))

"""Office files: what their libraries would leave out without a word."""

from __future__ import annotations

import io
import zipfile
from datetime import date, timedelta

import pptx
import xlsxwriter
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE

from masksearch_agent.corpus.office import read_sheets, read_slides, read_word

SPACE = "http://schemas.openxmlformats.org"


def text_of_word(body: str) -> str:
    spaces = {
        "w": f"{SPACE}/wordprocessingml/2006/main",
        "m": f"{SPACE}/officeDocument/2006/math",
        "mc": f"{SPACE}/markup-compatibility/2006",
    }
    names = " ".join(f'xmlns:{name}="{space}"' for name, space in spaces.items())
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{SPACE}/package/2006/relationships"><Relationship Id="r" '
            f'Type="{SPACE}/officeDocument/2006/relationships/officeDocument" Target="word/document.xml"/>'
            "</Relationships>",
        )
        file.writestr("word/document.xml", f"<w:document {names}><w:body>{body}</w:body></w:document>")
    return " ".join(" ".join(text for _, text in read_word(packed.getvalue(), "").sections).split())


def test_a_formula_is_read_where_it_stands() -> None:
    fraction = "<m:f><m:num><m:r><m:t>a+b</m:t></m:r></m:num><m:den><m:r><m:t>2</m:t></m:r></m:den></m:f>"
    power = "<m:sSup><m:e><m:r><m:t>c</m:t></m:r></m:e><m:sup><m:r><m:t>2</m:t></m:r></m:sup></m:sSup>"
    body = (
        f"<w:p><w:r><w:t>Half is </w:t></w:r><m:oMath>{fraction}</m:oMath><w:r><w:t>, and so</w:t></w:r></w:p>"
        f"<w:p><m:oMathPara><m:oMath>{power}</m:oMath></m:oMathPara></w:p>"
    )
    assert text_of_word(body) == "Half is (a+b)/2, and so c^2"


def test_fields_line_ends_and_text_boxes_are_read() -> None:
    box = "<w:txbxContent><w:p><w:r><w:t>In a box.</w:t></w:r></w:p></w:txbxContent>"
    new = f"<mc:Choice><w:drawing><w:x>{box}</w:x></w:drawing></mc:Choice>"
    alternatives = (
        new,
        f"{new}<mc:Fallback><w:pict/></mc:Fallback>",
        f"{new}<mc:Fallback>{box}</mc:Fallback>",
    )
    body = (
        '<w:p><w:fldSimple w:instr="REF a"><w:r><w:t>Table 1</w:t><w:cr/><w:t>says so.</w:t></w:r></w:fldSimple></w:p>'
        + "".join(
            f"<w:p><w:r><mc:AlternateContent>{each}</mc:AlternateContent></w:r></w:p>"
            for each in alternatives
        )
    )
    assert text_of_word(body) == "Table 1 says so. In a box. In a box. In a box."


def test_a_chart_says_its_numbers() -> None:
    slides = pptx.Presentation()
    data = CategoryChartData()
    data.categories = ["East", "West"]
    data.add_series("2023", (19.2, 21.0))
    data.add_series("2024", (20.5, None))
    shapes = slides.slides.add_slide(slides.slide_layouts[6]).shapes
    chart = shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, 0, 0, 10**6, 10**6, data).chart
    chart.has_title = True
    chart.chart_title.text_frame.text = "Ships by pier"
    file = io.BytesIO()
    slides.save(file)
    [(_, text)] = read_slides(file.getvalue(), "").sections
    assert text == "Ships by pier\n\n2023 | 2024\nEast | 19.2 | 20.5\nWest | 21"


def test_days_of_a_chart_are_days() -> None:
    slides = pptx.Presentation()
    data = CategoryChartData()
    data.categories = [date(2020, 1, 1), date(2020, 2, 1)]
    data.add_series("Ships", (1, 2))
    shapes = slides.slides.add_slide(slides.slide_layouts[6]).shapes
    shapes.add_chart(XL_CHART_TYPE.LINE, 0, 0, 10**6, 10**6, data)
    file = io.BytesIO()
    slides.save(file)
    [(_, text)] = read_slides(file.getvalue(), "").sections
    assert text == "Ships\n2020-01-01 | 1\n2020-02-01 | 2"


def test_a_diagram_says_its_words() -> None:
    slides = pptx.Presentation()
    slide = slides.slides.add_slide(slides.slide_layouts[6])
    table = slide.shapes.add_table(1, 1, 0, 0, 9, 9)
    drawing, diagram = f"{SPACE}/drawingml/2006/main", f"{SPACE}/drawingml/2006/diagram"
    points = "".join(f"<a:p><a:r><a:t>{word}</a:t></a:r></a:p>" for word in ("Dig", "Build"))
    blob = f'<d:dataModel xmlns:d="{diagram}" xmlns:a="{drawing}"><d:t>{points}</d:t></d:dataModel>'
    name = pptx.opc.packuri.PackURI("/ppt/diagrams/data1.xml")
    part = pptx.opc.package.Part(name, "application/xml", slide.part.package, blob.encode())
    relation = slide.part.relate_to(part, f"{SPACE}/officeDocument/2006/relationships/diagramData")
    data = table.element.graphic.graphicData
    data.set("uri", diagram)
    data.remove(data.tbl)
    names = data.makeelement(
        f"{{{diagram}}}relIds", {f"{{{SPACE}/officeDocument/2006/relationships}}dm": relation}
    )
    data.append(names)
    file = io.BytesIO()
    slides.save(file)
    [(_, text)] = read_slides(file.getvalue(), "").sections
    assert text == "Dig\n\nBuild"


def test_a_sheet_with_a_duration_is_read() -> None:
    file = io.BytesIO()
    with xlsxwriter.Workbook(file) as book:
        hours = book.add_format({"num_format": "[h]:mm"})
        book.add_worksheet("Shifts").write_row(0, 0, ["Ada", timedelta(hours=36)], hours)
    assert read_sheets(file.getvalue(), "").sections == [(("Shifts",), "Ada | 36:00:00")]

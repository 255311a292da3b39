"""Office files: what their libraries would leave out without a word."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from datetime import date, timedelta

import pptx
import pytest
import xlsxwriter
from pptx.chart.data import CategoryChartData, ChartData, XyChartData
from pptx.enum.chart import XL_CHART_TYPE

from masksearch_agent.corpus.office import read_sheets, read_slides, read_word
from masksearch_agent.corpus.pages import HEADINGS_END

SPACE = "http://schemas.openxmlformats.org"


def file_of_word(body: str) -> bytes:
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
        file.writestr("word/media/image1.png", b"a picture")
    return packed.getvalue()


def text_of_word(body: str) -> str:
    return " ".join(" ".join(text for _, text in read_word(file_of_word(body), "").sections).split())


def test_a_formula_is_read_where_it_stands() -> None:
    fraction = "<m:f><m:num><m:r><m:t>a+b</m:t></m:r></m:num><m:den><m:r><m:t>2</m:t></m:r></m:den></m:f>"
    power = "<m:sSup><m:e><m:r><m:t>c</m:t></m:r></m:e><m:sup><m:r><m:t>2</m:t></m:r></m:sup></m:sSup>"
    body = (
        f"<w:p><w:r><w:t>Half is </w:t></w:r><m:oMath>{fraction}</m:oMath><w:r><w:t>, and so</w:t></w:r></w:p>"
        f"<w:p><m:oMathPara><m:oMath>{power}</m:oMath></m:oMathPara></w:p>"
    )
    assert text_of_word(body) == "Half is (a+b)/2, and so c^2"


def test_what_stands_under_its_reading_or_in_a_direction_of_its_own_is_read() -> None:
    def run(text: str) -> str:
        return f"<w:r><w:t>{text}</w:t></w:r>"

    base = f"<w:rt>{run('とうきょう')}</w:rt><w:rubyBase>{run('東京')}</w:rubyBase>"
    body = (
        f"<w:p>{run('本社は')}<w:r><w:ruby>{base}</w:ruby></w:r>{run('にある。')}</w:p>"
        f'<w:p><w:dir w:val="rtl">{run("חיפה")}</w:dir><w:bdo w:val="ltr">{run(" A-17")}</w:bdo></w:p>'
        "<w:p><w:r><w:t>Rent</w:t><w:ptab/><w:t>900</w:t></w:r></w:p>"
    )
    assert text_of_word(body) == "本社は東京にある。 חיפה A-17 Rent 900"


def test_a_damaged_picture_costs_no_file() -> None:
    raw = file_of_word("<w:p><w:r><w:t>Half is </w:t></w:r><m:oMath><m:r><m:t>x</m:t></m:r></m:oMath></w:p>")
    damaged = raw.replace(b"a picture", b"a pXcture")
    assert damaged != raw
    assert [text.strip() for _, text in read_word(damaged, "").sections] == ["Half is x"]


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


def file_of_chart(data: ChartData, kind: XL_CHART_TYPE, title: str = "") -> bytes:
    slides = pptx.Presentation()
    shapes = slides.slides.add_slide(slides.slide_layouts[6]).shapes
    chart = shapes.add_chart(kind, 0, 0, 10**6, 10**6, data).chart
    if title:
        chart.has_title = True
        chart.chart_title.text_frame.text = title
    file = io.BytesIO()
    slides.save(file)
    return file.getvalue()


def chart_of_ships() -> CategoryChartData:
    data = CategoryChartData()
    data.categories = ["East", "West"]
    data.add_series("2023", (19.2, 21.0))
    data.add_series("2024", (20.5, None))
    return data


def text_of_slides(raw: bytes) -> str:
    [(_, text)] = read_slides(raw, "").sections
    return text


def with_charts(raw: bytes, change: Callable[[bytes], bytes]) -> bytes:
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as packed, zipfile.ZipFile(changed, "w") as file:
        for entry in packed.infolist():
            content = packed.read(entry)
            is_chart = entry.filename.startswith("ppt/charts/") and entry.filename.endswith(".xml")
            file.writestr(entry.filename, change(content) if is_chart else content)
    return changed.getvalue()


def test_a_chart_says_its_numbers() -> None:
    raw = file_of_chart(chart_of_ships(), XL_CHART_TYPE.COLUMN_CLUSTERED, "Ships by pier")
    assert text_of_slides(raw) == "Ships by pier\n\n2023 | 2024\nEast | 19.2 | 20.5\nWest | 21"


def test_days_of_a_chart_are_days() -> None:
    data = CategoryChartData()
    data.categories = [date(2020, 1, 1), date(2020, 2, 1)]
    data.add_series("Ships", (1, 2))
    assert text_of_slides(file_of_chart(data, XL_CHART_TYPE.LINE)) == "Ships\n2020-01-01 | 1\n2020-02-01 | 2"


def test_points_of_a_chart_have_two_numbers() -> None:
    data = XyChartData()
    series = data.add_series("Depth")
    series.add_data_point(1, 10)
    series.add_data_point(2.5, 30)
    assert text_of_slides(file_of_chart(data, XL_CHART_TYPE.XY_SCATTER)) == "Depth\n1 | 10\n2.5 | 30"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"lineChart", b"stockChart"),
        (b"lineChart", b"surfaceChart"),
        (b"<c:v>21.0</c:v>", b"<c:v>#N/A</c:v>"),
    ],
)
def test_a_chart_of_another_kind_or_without_a_number_costs_no_file(old: bytes, new: bytes) -> None:
    raw = file_of_chart(chart_of_ships(), XL_CHART_TYPE.LINE)
    text = text_of_slides(with_charts(raw, lambda content: content.replace(old, new)))
    assert text == f"2023 | 2024\nEast | 19.2 | 20.5\nWest | {'#N/A' if b'N/A' in new else '21'}"


def test_a_diagram_says_its_words() -> None:
    slides = pptx.Presentation()
    slide = slides.slides.add_slide(slides.slide_layouts[6])
    group = slide.shapes.add_group_shape()
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
    group.element.append(table.element)  # A diagram in a group is said once.
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


def test_what_stands_behind_an_empty_cell_stays_in_its_column() -> None:
    file = io.BytesIO()
    with xlsxwriter.Workbook(file) as book:
        sheet = book.add_worksheet("Staff")
        for number, row in enumerate(
            (["Name", "", "Role", "Phone"], ["Ines"], [], ["Tomasz", "", "", "+48 22"])
        ):
            sheet.write_row(number, 1, row)
    [(_, text)] = read_sheets(file.getvalue(), "").sections
    assert text == f"Name | Role | Phone{HEADINGS_END}\nInes\nTomasz |  | +48 22"


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        # A remark above the headings; a line break in a cell.
        (
            [["Prices of 2024"], ["Name", "Price\nin euro"], ["Tea", 3]],
            f"Prices of 2024\nName | Price in euro{HEADINGS_END}\nTea | 3",
        ),
        ([["Region", 2021, 2022], ["North", 5, 7]], f"Region | 2021 | 2022{HEADINGS_END}\nNorth | 5 | 7"),
        ([["Tea", 3], ["Milk", 4]], "Tea | 3\nMilk | 4"),
        ([["Tea"], ["Milk"]], "Tea\nMilk"),
    ],
)
def test_the_headings_of_a_sheet_are_known(rows: list[list[object]], text: str) -> None:
    file = io.BytesIO()
    with xlsxwriter.Workbook(file) as book:
        sheet = book.add_worksheet("S")
        for number, row in enumerate(rows):
            sheet.write_row(number, 0, row)
    assert read_sheets(file.getvalue(), "").sections == [(("S",), text)]


def test_the_headings_of_a_table_on_a_slide_are_known() -> None:
    slides = pptx.Presentation()
    slide = slides.slides.add_slide(slides.slide_layouts[6])
    table = slide.shapes.add_table(2, 2, 0, 0, 1, 1).table
    for number, text in enumerate(("Name", "Price", "Tea", "3")):
        table.cell(number // 2, number % 2).text = text
    file = io.BytesIO()
    slides.save(file)
    assert read_slides(file.getvalue(), "").sections == [((), f"Name | Price{HEADINGS_END}\nTea | 3")]

import re
from html.parser import HTMLParser

import pytest
import sample_reports as made

from edgeattn.report import zoo
from edgeattn.report.wording import NBSP


def plain(text):
    return text.replace(NBSP, " ")


GOLDEN = """\
| recipe | task | model | parameters | MACs | metric | n | PyTorch FP32 (95 %) | ONNX (95 %) | INT8 graph (95 %) | \
engine that ships (95 %) | change (95 %) | SQNR dB | time ÷ PyTorch (95 %) | INT8 ÷ fastest float (95 %) | passed | \
why this one |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
| [digit\\_scenes](digits/report.md) | classify | se\\_resnet | 272.0 k | 41.3 M | top-1, % | 2,000 | 91.35 (90.14 \
to 92.48) | 91.35 (90.14 to 92.48) | 91.30 (90.09 to 92.43) | INT8 91.25 (90.04 to 92.38) | −0.10 (−0.45 to +0.25) | \
35.3 | 0.14 (0.14 to 0.15) | 0.76 (0.74 to 0.79) of BF16 | yes | The fastest variant inside the budget, and measurably \
faster than BF16. |
| [scenes\\_detect](my%20boxes/report.md) | detect | attention\\_rcnn | 272.0 k | 41.3 M | mAP50 | 200 | 0.8312 \
(0.8063 to 0.8561) | 0.8312 (0.8063 to 0.8561) | 0.8312 (0.8063 to 0.8561) | INT8 0.8281 (0.8032 to 0.8530) | \
−0.0031 (−0.0052 to −0.0011) | 35.3 | 0.14 (0.14 to 0.15) | 0.76 (0.74 to 0.79) of BF16 | yes | The fastest variant \
inside the budget, and measurably faster than BF16. |
| [scenes\\_align](align/report.md) | align | attention\\_align | 272.0 k | 41.3 M | corner error, px | 200 | 2.41 \
(2.34 to 2.48) | 2.41 (2.34 to 2.48) | 2.41 (2.34 to 2.48) | INT8 2.53 (2.46 to 2.60) | +0.12 (+0.05 to +0.19) | \
35.3 | 0.14 (0.14 to 0.15) | 0.76 (0.74 to 0.79) of BF16 | no | The fastest variant inside the budget, and measurably \
faster than BF16. |
| [scenes\\_restore](restore/report.md) | restore | restore\\_unet | 272.0 k | 41.3 M | psnr, dB | 200 | 30.12 \
(29.22 to 31.02) | 30.12 (29.22 to 31.02) | 30.12 (29.22 to 31.02) | INT8 30.08 | −0.04 | 35.3 | 0.14 (0.14 to 0.15) \
| 0.76 (0.74 to 0.79) of BF16 | yes | The fastest variant inside the budget, and measurably faster than BF16. |
| [digit\\_scenes](failed/report.md) | classify | se\\_resnet | 272.0 k | 41.3 M | top-1, % | 2,000 | 91.35 (90.14 \
to 92.48) | – | – | none | – | – | – | – | no | export/fp32 failed. |
| [digit\\_scenes](jetson/report.md) | classify | se\\_resnet | 272.0 k | 41.3 M | top-1, % | 2,000 | 91.35 (90.14 \
to 92.48) | 91.35 (90.14 to 92.48) | 91.30 (90.09 to 92.43) | INT8 91.30 (90.09 to 92.43) | −0.05 (−0.40 to +0.30) | \
35.6 | 0.25 (0.24 to 0.25) | – | so far | The only INT8 variant. |
"""


def test_table():
    reports = {
        "digits": made.report(),
        "my boxes": made.detect(),
        "align": made.align(),
        "restore": made.restore(),
        "failed": made.failed(),
        "jetson": made.deferred(),
    }
    assert plain(zoo.table(reports)).splitlines() == GOLDEN.splitlines()


def test_hostile_texts_keep_the_tables_columns_and_are_no_markup():
    text = zoo.table({"a": made.hostile(), "b": made.older()})
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines()} == {len(zoo.HEADS) + 1}
    assert "<script" not in text and "\x07" not in text
    assert "<script" not in zoo.left_out({"<script>": "a\nb"})


def test_left_out():
    assert zoo.left_out({}) == ""
    assert zoo.left_out({"drive": "exit code 2"}).splitlines()[-1] == "- drive: exit code 2."


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.loaded, self.tags, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loaded += [value for key, value in attrs if key in ("src", "href")]

    def handle_data(self, data):
        self.text.append(data)


def read(text):
    reader = Reader()
    reader.feed(text)
    return reader


def test_the_gallery_page_has_a_row_per_report_with_both_metrics():
    found = read(zoo.gallery({"boxes": made.detect(), "pairs": made.align(), "clean": made.restore()}))
    assert [link for link in found.loaded if not link.startswith("data:image/png;base64,")] == [
        "boxes/report.html",
        "pairs/report.html",
        "clean/report.html",
    ]
    # Input, attention, FP32, shipped; two inputs for align; restore gives no attention.
    assert found.tags.count("img") == 4 + 5 + 3
    shown = plain(" ".join("".join(found.text).split()))
    for text in (
        "mAP50 0.8312",
        "mAP50 0.8281, −0.0031",
        "corner error 2.41 px",
        "corner error 2.53 px, 0.12 px worse",
        "psnr 30.08 dB, −0.04 dB",
        "Not shippable",
    ):
        assert text in shown


@pytest.mark.parametrize(("make", "shown"), [(made.failed, "export/fp32 failed"), (made.older, "INT8 is ready")])
def test_a_report_without_pictures_still_has_its_row(make, shown):
    found = read(zoo.gallery({"x": make()}))
    text = plain("".join(found.text))
    assert "This report holds no pictures." in text and shown in text and "img" not in found.tags


def test_the_gallery_page_is_escaped_and_the_same_every_time():
    reports = {"a": made.hostile(), "b": made.detect()}
    text = zoo.gallery(reports)
    assert "<script" not in text and text == zoo.gallery(reports)


@pytest.mark.parametrize(("begin", "heads"), [(zoo.BEGIN, zoo.BRIEF), (zoo.BEGIN_WHOLE, zoo.HEADS)])
def test_a_page_says_by_its_line_which_columns_it_has(begin, heads):
    text = zoo.placed(f"before\n{begin}\nold\n{zoo.END}\nafter\n", {"a": made.report()}, "zoo/")
    lines = text.splitlines()
    assert (lines[0], lines[1], lines[-2], lines[-1]) == ("before", begin, zoo.END, "after")
    assert lines[2] == "| " + " | ".join(heads) + " |"
    assert len(lines) == 7 and "(zoo/a/report.md)" in lines[4]


def test_a_page_without_a_place_for_the_table():
    assert zoo.placed("nothing\n", {"a": made.report()}) is None

import re

import pytest
import sample_reports as made

from edgeattn.report.markdown import comment
from edgeattn.report.wording import NBSP


def of(name):
    return comment(made.EVERY[name]()).replace(NBSP, " ")


def test_verdict_first_then_the_facts():
    text = of("passed")
    assert text.startswith("## ✅ INT8 is ready to ship\n\ndigit\\_scenes on cpu, 2025-11-20 13:11 UTC\n\nThe fastest")
    assert "- INT8 is 1.31× as fast as BF16 (95 % 1.27 to 1.35)." in text
    assert (
        "| compile/int8 | openvino | ✓ ok, selected | 91.25 (90.04 to 92.38) | 2,000 | −0.10 (−0.45 to +0.25) | 0.65 |"
        in text
    )
    assert "INT8 99.3 %, BF16 0.7 % |" in text
    assert "- bundle/int8: Golden self-test passed. The whole call takes 1.08× the engine's time" in text
    assert "| accuracy lost | at most 0.50 point | 0.10 point | kept |" in text
    assert text.endswith("Again: `edgeattn deploy digit_scenes --target cpu --seed 7`\n")


def test_what_was_weighed_is_said_once():
    report = made.report()
    why = ["bf16 is faster than fp32 (latency ratio 0.67).", "int8 is faster than bf16 (latency ratio 0.76)."]
    report["selected"]["why"] = " ".join(why)
    report["verdict"]["reasons"] = [*why, "The bundle is inside the budget", "The bundle is inside the budget."]
    text = comment(report)
    assert text.count("INT8 is faster than BF16 (latency ratio 0.76).") == text.count("BF16 is faster than FP32") == 1
    assert "as fast as BF16" not in text and "as fast as train/fp32" in text
    assert text.count("The bundle is inside the budget.") == 1
    report["budget"]["metric_drop_max"] = 0.3
    text = comment(report)
    assert text.count("reaches past") == 1 and "| kept by the estimate |" in text


def test_a_no_is_said_first():
    assert of("missed").startswith("## ❌ Not ready to ship: INT8 misses the budget for accuracy, SQNR and p99")
    assert "✕ failed" in of("failed") and "… deferred" in of("deferred")


@pytest.mark.parametrize("name", made.EVERY)
def test_tables_keep_their_columns(name):
    for block in re.findall(r"(?:^\|.*\n)+", of(name), flags=re.MULTILINE):
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(counts) == 1, block


def test_hostile_texts_are_no_markup():
    text, _, command = of("hostile").rpartition("Again: ")
    assert "<script" not in text and "\x07" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\|\\`\\$x^2\\$\\`" in text
    # The command is code, with a fence that its own backticks cannot close.
    assert command == "`` <script>alert(1)</script>|`$x^2$` \"'& ``\n"


def test_further_metrics_are_a_table_of_their_own():
    text = of("align")
    assert "| further metric | train/fp32 | export/fp32 |" in text
    assert (
        "| within 1px, % (higher is better) | 38.50 | 38.50 | 38.50 | 38.50 | 38.50 | 38.50 | 36.00 (−2.50) |" in text
    )
    assert "| corner error, px (95 %) |" in of("align") and "| mAP50 (95 %) |" in of("detect")
    assert "further metric" not in of("passed")

from bench.charts import draw
from bench.page import render
from tests.bench.test_report import repetition, results


def test_the_page_has_tables_and_charts_and_needs_nothing_else() -> None:
    measured = results(repetition("gateway", 100), repetition("litellm", 1000))

    page = render(measured, draw(measured))

    assert page.count("<svg") == 2
    assert "<td>relay: LiteLLM&#x27;s proxy takes times the CPU (best hoped for: 85)</td><td>10.00</td>" in page
    assert "<strong>miss</strong>" in page
    assert page.replace("http://www.w3.org/2000/svg", "").count("http") == 0

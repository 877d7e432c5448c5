"""One self-contained HTML file on runs: ranking, codecs, curves, samples, where the bits go."""

from codelength.report.write import write_report

__all__ = ["write_report"]

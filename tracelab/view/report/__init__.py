"""The report: one HTML file for a selection of runs and traces.

    names ─► select ─► run · reasoning · context · agents ─► page ─► one file
             (what)    (plain data, from the warehouse's views)  (HTML)

Contract: everything shown comes from the warehouse's public views; nothing is estimated here. The
file opens from disk: no network, no framework, no build step. Traces are hostile text: they travel
as JSON that cannot leave its element, and the page's script only ever makes text nodes of them.
It knows nothing about terminals or the command line.
"""

from tracelab.view.report.page import build, write
from tracelab.view.report.selection import Selected, select

__all__ = ["Selected", "build", "select", "write"]

"""Documents of `list`."""

from __future__ import annotations

from kvcalc.listing import ListReport
from kvcalc.render.document import Column, Document, Table


def list_document(report: ListReport) -> Document:
    """One table."""
    columns = tuple(Column(name, flexible=index > 0) for index, name in enumerate(report.columns))
    return Document(title=f"{len(report.rows)} {report.what}", tables=(Table(columns=columns, rows=report.rows),))

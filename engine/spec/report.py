"""What the report shows and in which formats. Outside every fingerprint."""

from typing import Annotated, Literal

from pydantic import Field

from engine.spec.settings import Settings

Format = Literal["html", "pdf", "xlsx"]


class Report(Settings):
    """Formats, title and page."""

    formats: Annotated[list[Format], Field(min_length=1)] = ["html", "pdf", "xlsx"]
    """Which files to write."""
    title: str | None = None
    """Heading; the experiment's name when absent."""
    page: Literal["A4", "Letter"] = "A4"
    """Paper of the PDF."""
    operators_of: Annotated[int, Field(ge=0, le=50)] = 6
    """For how many points (best ones first) the operator table is shown."""
    templates: str | None = None
    """Folder with your own sections, relative to the spec; rendered in a sandbox."""

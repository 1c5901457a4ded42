"""The report: run folders in; figures, a PDF and a web page out, one section per question."""

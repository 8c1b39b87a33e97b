"""Writes the measurements into the documents, between two marks."""

BEGIN, END = "<!-- written by make bench-speed -->", "<!-- until here -->"


def write(path, text):
    old = path.read_text()
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{path} lacks the lines {BEGIN} and {END}")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")

"""Rows of text as Markdown."""


class Table:
    def __init__(self, columns):
        self.columns, self.rows = list(columns), []

    def add(self, row):
        assert len(row) == len(self.columns), (row, self.columns)
        self.rows.append([str(cell) for cell in row])

    def markdown(self):
        lines = [self.columns, ["---"] * len(self.columns)] + self.rows
        return "".join("| %s |\n" % " | ".join(line) for line in lines)


def exponent(value):
    """Two digits: 1.2e-13; 0 stays 0."""
    return "0" if value == 0 else "%.1e" % value


def percent(value, digits=2):
    return "%.*f %%" % (digits, 100 * value)

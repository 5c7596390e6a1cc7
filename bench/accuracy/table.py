"""Rows of text as Markdown, and what they come to."""


class Table:
    def __init__(self, columns):
        self.columns, self.rows = list(columns), []

    def add(self, row):
        assert len(row) == len(self.columns), (row, self.columns)
        self.rows.append([str(cell).replace("|", "\\|") for cell in row])

    def markdown(self):
        lines = [self.columns, ["---"] * len(self.columns)] + self.rows
        return "".join("| %s |\n" % " | ".join(line) for line in lines)


class Outcome:
    """`broken`: how often something certified, or promised of it, did not hold. `reach`: rows
    (quantity, what was aimed at, what was measured)."""

    def __init__(self, table, broken=0, reach=()):
        self.table, self.broken, self.reach = table, broken, list(reach)


def exponent(value):
    """Two digits: 1.2e-13; 0 stays 0."""
    return "0" if value == 0 else "%.1e" % value


def percent(value, digits=2):
    return "%.*f %%" % (digits, 100 * value)


def share(value):
    """Two digits that count, of a share: 0.0012 %, 110 %."""
    return ("%.0f %%" if value >= 0.1 else "%.2g %%") % (100 * value)

#!/usr/bin/env python3
"""Writes the metric columns of a migration from the metric table of liblyap.

Blocks between `-- metrics: <kind>` and `-- end` are replaced. Only for a migration that no release
carries yet (then write its fixture again: test_store_open --write-fixture
tests/fixtures/db/version-1.db); afterwards a new metric is a new migration with ALTER TABLE ... ADD COLUMN.
Usage: schema/columns.py [schema/migrations/0001_init.sql]
"""
import pathlib
import re
import sys

root = pathlib.Path(__file__).resolve().parent.parent
header = "".join((root / "lib/include/lyap" / name).read_text() for name in ("metric.h", "layer_row.h"))


def names(table):
    body = re.search(rf"#define {table}\(X\)(.*?)\nenum ", header, re.S).group(1)
    return re.findall(r'X\(\w+,\s*(?:\\\s*)?"(\w+)"', body)


metrics, tensor_metrics = names("LYAP_METRIC_TABLE"), names("LYAP_TENSOR_METRIC_TABLE")
layer_metrics = names("LYAP_LAYER_METRIC_TABLE")
kinds = {
    "value": ["    %s REAL," % n for n in metrics],
    "error": ["    %s_error REAL," % n for n in metrics],
    "tensor": ["    %s REAL," % n for n in tensor_metrics],
    "layer": ["    %s REAL," % n for n in layer_metrics],
    "rollup": [
        "    %s_min REAL, %s_max REAL, %s_mean REAL, %s_last REAL, %s_count INTEGER, %s_nans INTEGER,"
        % ((n,) * 6)
        for n in metrics
    ],
}
path = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else root / "schema/migrations/0001_init.sql"
text = path.read_text()
for kind, lines in kinds.items():
    text = re.sub(
        rf"(-- metrics: {kind}\n).*?(    -- end)",
        lambda m, lines=lines: m.group(1) + "".join(l + "\n" for l in lines) + m.group(2),
        text,
        flags=re.S,
    )
path.write_text(text)

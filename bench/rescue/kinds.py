"""What fails in which family of bench/detection."""

KINDS = {
    "rate too high": "u01 u02 u03 u05 u06 u10 u11 u12 u14 u18 u20 u25 u28 u31 u32 u33",
    "bad data": "u04 u07 u19 u26 u27",
    "corruption of weights, state or gradients": "u08 u13 u23 u30",
    "another update than declared": "u09 u21 u22 u24 u29",
    "precision": "u15",
    "normalisation, moving targets": "u16 u17",
}


def kind_of(family):
    for kind, names in KINDS.items():
        if family[:3] in names.split():
            return kind
    return "other"

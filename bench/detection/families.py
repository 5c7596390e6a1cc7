"""The families of the corpus: name -> function(spec, r, seed) that fills a training.Spec.

Names begin with u (unstable by design) or s (stable by design); the label decides, not the name.
"""
import classic
import healthy
import unstable

ORIGINAL = list(classic.FAMILIES)
FAMILIES = dict(classic.FAMILIES, **unstable.FAMILIES, **healthy.FAMILIES)

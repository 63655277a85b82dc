"""The annotations' checker while tests run: an int will do where a float is meant, as in Python."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))

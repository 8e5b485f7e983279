"""The benchmark: Triocast beside its peers and a floor in C, measured in turn on one machine."""

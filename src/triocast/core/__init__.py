"""The rules, in plain Python: no trio, no sockets, no clock, no logging. Time comes in as an argument."""

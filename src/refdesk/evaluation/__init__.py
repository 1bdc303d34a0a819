"""How good a running desk is: sets of questions, what is measured of each reply, and the report."""
